//! Tests of the formatter: its rules, and random plans, whose meaning and comments never change.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn formatted(text: &str) -> String {
    let result = format_plan("plan.yaml", text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let again = format_plan("plan.yaml", &result).unwrap_or_else(|errors| panic!("{errors}\n{result}"));
    assert_eq!(again, result, "formatting again changes nothing");
    result
}

#[test]
fn plans_are_formatted() {
    let text = r#"# The header stays first.
#   with its indentation

tasks:   # all of them

    # find pages
    -   tool: search
        agent:   "research"
        with: {query: "${{ inputs.topic }}",limit: 5}   # short
        id: find
        if: inputs.topic


        title: Find
    - agent: files
      with:
        # the path
        path: brief.md
        content: |
            # Title

              indented ${{ tasks.find.text }}
        # after the text
        note: >-
          folded
          text
      id: store
      foreach: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, ccccccccccccccccccccccccccc, ddddd]
      needs: find
description: several
  lines of
  plain text
inputs: {topic: {type: string, # what to find
  required: true}, empty: {}, none: }
x-shared: &shared
  max_attempts: 3
name: 'a plan'
outputs:
  all: [1, 'two', ~]
# the end
"#;
    insta::assert_snapshot!(formatted(text));
}

#[test]
fn anchors_keep_their_place_before_aliases() {
    let text = "tasks:\n- with: &w { a: 1 }\n  id: a\n- needs: []\n  with: *w\n  id: b\n";
    let expected = "tasks:\n  - id: a\n    with: &w { a: 1 }\n  - id: b\n    needs: []\n    with: *w\n";
    assert_eq!(formatted(text), expected);
    // Sorting would move the alias before its anchor.
    let text = "x-b:\n  with: &w { a: 1 }\ntasks:\n  - with: &t [1]\n    id: a\n    needs: *t\n";
    assert!(formatted(text).contains("with: &t [1]\n    id: a\n    needs: *t\n"));
}

#[test]
fn comments_after_quoted_elements_are_kept() {
    for element in ["'y'", "\"y\"", "'it''s # y'", r#""\" # y""#, "y", "&a 'y'"] {
        let text = format!("a:\n  - - {element} # don't\n    - z\n");
        assert_eq!(formatted(&text), text);
        let (long, other) = ("long text ".repeat(8), "other text ".repeat(5));
        let text = format!("a:\n  - [{element}, {long}, {other}] # don't\n  - b\n");
        assert!(formatted(&text).starts_with(&format!("a:\n  - - {element} # don't\n")));
    }
}

#[test]
fn unsupported_and_invalid_files_are_reported() {
    let codes = |text: &str| match format_plan("plan.yaml", text) {
        Ok(text) => panic!("{text}"),
        Err(errors) => errors.list().iter().map(|error| error.code.clone()).collect::<Vec<_>>(),
    };
    assert_eq!(codes("tasks: [\n"), ["yaml::syntax"]);
    assert_eq!(codes("a: 1\na: 2\n"), ["yaml::duplicate_key"]);
    assert_eq!(codes("[a: 1]\n"), ["file::unformattable"]);
}

#[test]
fn indicators_and_directives_are_kept_or_written_in_the_standard_style() {
    for (text, expected) in [
        ("? name\n: 1\n? tasks\n:\n  - 2\n", "name: 1\n\ntasks:\n  - 2\n"),
        ("name: { ? a : 1 }\n", "name: { a: 1 }\n"),
        ("name: |2\n    b\n   c\n", "name: |2\n    b\n   c\n"),
        ("name:\n    text: |4-\n            b\n        c\n", "name:\n  text: |2-\n        b\n    c\n"),
        ("- >2 # x\n     b\n   c\n", "- >2 # x\n     b\n   c\n"),
        ("%YAML 1.2\n# c\n---\nname: 1\n...\n", "%YAML 1.2\n---\n# c\nname: 1\n"),
    ] {
        assert_eq!(formatted(text), expected, "{text}");
        assert_eq!(formatted(expected), expected, "{text}");
    }
}

#[test]
fn all_plans_of_the_repository_can_be_formatted() {
    fn visit(directory: &Path) {
        for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                visit(&entry);
            } else if entry.extension().is_some_and(|extension| extension == "yaml") {
                formatted(&std::fs::read_to_string(&entry).expect("text"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    visit(&root.join("plans"));
}

/// Writes random plans in random styles.
struct RandomPlan {
    state: u64,
    text: String,
    anchors: usize,
}

impl RandomPlan {
    fn of(seed: u64) -> String {
        let mut plan = Self { state: seed | 1, text: String::new(), anchors: 0 };
        if plan.one_in(5) {
            plan.text.push_str("---\n");
        }
        plan.map(0, 3);
        plan.trivia(0);
        plan.text
    }

    fn next(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).expect("31 bits") % below
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.next(count) == 0
    }

    /// Writes comments and blank lines.
    fn trivia(&mut self, indentation: usize) {
        while self.one_in(4) {
            if self.one_in(2) {
                self.text.push('\n');
            } else {
                let extra = if self.one_in(3) { 2 } else { 0 };
                let number = self.next(100);
                let _ = writeln!(self.text, "{}# comment {number}: [a, {{b", " ".repeat(indentation + extra));
            }
        }
    }

    fn line_end(&mut self) {
        if self.one_in(6) {
            let (number, spaces) = (self.next(100), self.next(5) + 1);
            let _ = write!(self.text, "{}# trailing {number}", " ".repeat(spaces));
        }
        self.text.push('\n');
    }

    fn map(&mut self, indentation: usize, depth: usize) {
        const KEYS: [&str; 12] =
            ["tasks", "id", "with", "name", "x-a", "needs", "if", "'quoted: key'", "outputs", "title", "a-b", "tool"];
        let (first, count) = (self.next(KEYS.len()), self.next(4) + 1);
        for index in 0..count {
            if index > 0 {
                self.trivia(indentation);
                self.text.push_str(&" ".repeat(indentation));
            }
            self.text.push_str(KEYS[(first + index * 5) % KEYS.len()]);
            self.text.push(':');
            self.value(indentation, depth);
        }
    }

    fn list(&mut self, indentation: usize, depth: usize) {
        for index in 0..self.next(3) + 1 {
            if index > 0 {
                self.trivia(indentation);
            }
            let _ = write!(self.text, "{}-", " ".repeat(indentation));
            if depth > 0 && self.one_in(2) {
                let spaces = self.next(3) + 1;
                self.text.push_str(&" ".repeat(spaces));
                self.map(indentation + 1 + spaces, depth - 1);
            } else {
                self.value(indentation, depth);
            }
        }
    }

    /// Writes the value after a colon or hyphen, to the end of its last line.
    fn value(&mut self, indentation: usize, depth: usize) {
        let inner = indentation + self.next(3) + 1;
        let margin = " ".repeat(inner);
        match self.next(if depth > 0 { 9 } else { 5 }) {
            0 => {
                let number = self.next(1_000);
                let _ = write!(self.text, " {number}");
                self.line_end();
            }
            1 => {
                let flow = self.flow(2);
                let _ = write!(self.text, "  {flow}");
                self.line_end();
            }
            2 => {
                let style = ["|", ">-", "|+", "|-", ">"][self.next(5)];
                let _ = write!(self.text, " {style}\n{margin}text # no comment\n\n{margin}  deeper: x\n{margin}end\n");
                if self.one_in(2) {
                    self.text.push('\n');
                }
            }
            3 => {
                let text = ["plain text", "'it''s'", "\"a \\n b\"", "~", "${{ inputs.a }}", "a#b", "-1.50", "a: &b"];
                let text = text[self.next(7)];
                let _ = write!(self.text, " {text}");
                self.line_end();
            }
            4 => {
                let quote = ["", "\"", "'"][self.next(3)];
                let _ = write!(self.text, " {quote}several\n{margin}lines\n\n{margin}   of text{quote}");
                self.line_end();
            }
            5 => {
                self.anchors += 1;
                let _ = write!(self.text, " &a{}", self.anchors);
                self.line_end();
                self.text.push_str(&margin);
                self.map(inner, depth - 1);
            }
            6 if self.anchors > 0 => {
                // The anchor may be on a list or map that is not closed yet.
                let number = self.next(10);
                let _ = write!(self.text, " {number}");
                self.line_end();
            }
            7 => {
                self.line_end();
                self.trivia(inner);
                self.list(inner, depth - 1);
            }
            _ => {
                self.line_end();
                self.trivia(inner);
                self.text.push_str(&margin);
                self.map(inner, depth - 1);
            }
        }
    }

    fn flow(&mut self, depth: usize) -> String {
        if depth == 0 || self.one_in(3) {
            return ["x", "'y, z'", "\"q\"", "5", "!!str 7", "long text with many words that fill the line"]
                [self.next(6)]
            .to_owned();
        }
        let parts: Vec<String> = (0..self.next(4)).map(|_| self.flow(depth - 1)).collect();
        let separator = [",", ", ", " , "][self.next(3)];
        match self.one_in(2) {
            true => format!("[{}]", parts.join(separator)),
            false => {
                let entries = parts.iter().enumerate().map(|(index, part)| format!("k{index}: {part}"));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(separator))
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn random_plans_keep_their_meaning_and_comments(seed: u64) {
        let text = RandomPlan::of(seed);
        prop_assume!(read_data("plan.yaml", &text).is_ok());
        let result = formatted(&text);
        prop_assert_eq!(read_data("plan.yaml", &result).ok(), read_data("plan.yaml", &text).ok());
        let comments = |text: &str| text.matches("# comment").count() + text.matches("# trailing").count();
        prop_assert_eq!(comments(&result), comments(&text));
    }
}
