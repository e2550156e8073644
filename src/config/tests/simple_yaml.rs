//! The reader of simple files against the one of all files.

use proptest::{collection::vec, prelude::*, sample::select};

use crate::config::{
    findings::Findings,
    plan_file, simple_yaml,
    source::Source,
    tree::{Node, Tree},
};

/// Every value of a tree in a line of its own, with its place and those of the keys.
fn lines(node: &Node<'_>, path: &str, found: &mut Vec<String>) {
    let (start, end) = (node.extent.start, node.extent.end);
    match &node.tree {
        Tree::List(nodes) => {
            found.push(format!("{path} {start}..{end} list"));
            nodes.iter().for_each(|node| lines(node, &format!("{path}[]"), found));
        }
        Tree::Map(map) => {
            found.push(format!("{path} {start}..{end} map"));
            for (key, entry) in map.iter() {
                let (start, end) = (entry.key.start, entry.key.end);
                lines(&entry.node, &format!("{path}.{key:?} {start}..{end}"), found);
            }
        }
        leaf => found.push(format!("{path} {start}..{end} {leaf:?}")),
    }
}

fn flat(node: &Node<'_>) -> Vec<String> {
    let mut found = Vec::new();
    lines(node, "", &mut found);
    found
}

/// What all of YAML makes of a text: its tree with all places, unless there are mistakes.
fn by_the_book(text: &str) -> Result<Vec<String>, String> {
    let mut findings = Findings::new("plan", Source::new("x", text.to_owned()).into());
    let tree = plan_file::read_any(text, &mut findings).map(|root| flat(&root));
    let mistakes = findings.finish();
    tree.filter(|_| mistakes.is_empty()).ok_or_else(|| mistakes.to_string())
}

fn simple(text: &str) -> Option<Vec<String>> {
    simple_yaml::read(text).map(|root| flat(&root))
}

/// Whether a file is simple; if so, it must mean the same to both.
fn agrees(text: &str) -> bool {
    let Some(found) = simple(text) else { return false };
    let meant = by_the_book(text).unwrap_or_else(|mistakes| panic!("{text:?} is no plan: {mistakes}"));
    let differs = |(one, other): &(&String, &String)| one != other;
    assert_eq!(found.iter().zip(&meant).find(differs), None, "{text:?}");
    assert_eq!(found.len(), meant.len(), "{text:?}");
    true
}

#[test]
fn what_plans_are_written_in_is_simple() {
    for text in [
        include_str!("../../../plans/lisbon.yaml"),
        "tasks:\n- id: a\n  with: {\"text\": \"${{ tasks.a.output }}|\", n: [1, -2.5, 0x1F, null, ~, true]}\n",
        "a: # why\n  - b: 1\n    c: |\n      one\n\n        two\n    d: |-\n      three\n  # and\n  - - x\n    - 'it''s'\n",
        "{\"a\": [\n  {\"b\": \"\\\"c\\\\\\n\"},\n  [],\n  {}\n],\n\"d\":1}",
        "a:\n  b:\nc:\n-\n- # nothing\n-\n  d: e\nf: |+\n  g\n\nh: x:y # z\n",
        "\n# only a list\n - ä: ö # ü\n   🦀: [é, \"漢\"]\n",
        "a: |\n  no end of line",
        "a",
    ] {
        assert!(agrees(text), "{text}");
    }
}

#[test]
fn what_takes_more_than_a_look_is_left_to_the_other() {
    for text in [
        "a: b\n  c\n",
        "a: >\n  b\n",
        "a: &b c\n",
        "a: *b\n",
        "a: !!str 1\n",
        "a: \"b\n  c\"\n",
        "a: \"\\u0041\"\n",
        "a: b\na: c\n",
        "a: {b: 1, b: 2}\n",
        "<<: a\n",
        "a:\tb\n",
        "---\na: b\n",
        "a: b\n...\n",
        "? a\n: b\n",
        "a: b: c\n",
        "a: [b: c]\n",
        "a: {b, c}\n",
        "a:\n  b: 1\n c: 2\n",
        "a: 99999999999999999999\n",
        "a: [b\n",
        "a: {b: [\n1]}\n",
        "\u{feff}a: b\n",
        "",
        "# nothing\n",
    ] {
        assert_eq!(simple(text), None, "{text}");
    }
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(agrees(&deep(plan_file::MAX_DEPTH)));
    assert_eq!(simple(&deep(plan_file::MAX_DEPTH + 1)), None);
}

/// A word or sign of YAML, and some that only look like it.
fn token() -> impl Strategy<Value = &'static str> {
    select(vec![
        "a",
        "b",
        "c d",
        "1",
        "-1",
        "0x1",
        "1e3",
        ".",
        "-",
        "- ",
        "-a",
        "--- ",
        "...",
        ":",
        ": ",
        "a: ",
        "b: ",
        "c:",
        "\"a\": ",
        "\"b\":",
        "'c': ",
        "\"",
        "'",
        "''",
        "\\\"",
        "\\n",
        "\\x41",
        "#",
        " #",
        " # a",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ",",
        "{a: 1}",
        "[a, b]",
        "{\"a\":1}",
        "[]",
        "{}",
        "|\n",
        "|-\n",
        "|+\n",
        "|",
        ">",
        "|2\n",
        "\n",
        "\n\n",
        "\n  ",
        "\n    ",
        "\n ",
        "\n\n  ",
        "\n  - ",
        "\n- ",
        "\n    - ",
        "\na: ",
        "\nb:",
        "\n  a: ",
        "\n  b:",
        "\n    a: ",
        "\n    b: ",
        "\n# a\n",
        "\n  # a\n",
        "\n      # a",
        "${{ a }}",
        "\"${{ a }}\"",
        "~",
        "null",
        "true",
        "?",
        "? ",
        "&a ",
        "*a",
        "!a ",
        "!!str ",
        "%",
        "@",
        "`",
        "<<: ",
        "ä",
        "漢",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\t",
        "\r\n",
        "  ",
        " ",
    ])
}

/// A value as it is written, without the indentation that its place gives it.
#[derive(Debug, Clone)]
struct Written {
    lines: Vec<String>,
    /// Whether it is a list or a map of lines, which a key has below it.
    is_block: bool,
}

impl Written {
    fn leaf(text: &str) -> Self {
        Self { lines: text.split('\n').map(str::to_owned).collect(), is_block: false }
    }

    fn block(entries: Vec<(String, Self, usize, &'static str)>) -> Self {
        let mut lines = Vec::new();
        for (sign, value, spaces, gap) in entries {
            let is_below = value.is_block && sign != "-";
            let mut rest = value.lines.into_iter();
            let first = if is_below { None } else { rest.next() };
            lines.push(first.map_or(sign.clone(), |first| format!("{sign}{}{first}", " ".repeat(spaces + 1))));
            let indent = " ".repeat(if sign == "-" { spaces + 2 } else { spaces });
            lines.extend(rest.map(|line| format!("{indent}{line}")));
            lines.extend(gap.split('\n').skip(1).map(str::to_owned));
        }
        Self { lines, is_block: true }
    }
}

/// A value, written in one of many ways; now and then in a wrong one.
fn value(depth: u32) -> BoxedStrategy<Written> {
    let leaves = [
        "a",
        "b c",
        "1",
        "-0.5",
        "true",
        "~",
        "x:y",
        "-z",
        "a#b",
        "\"q\"",
        "'it''s'",
        "\"\\\"\\\\\"",
        "[]",
        "{}",
        "[a, 'b', [1]]",
        "{a: 1, \"b\":2}",
        "{a: [ {b: c} ] }",
        "a # b",
        "\"c\" # d",
        "ä ö",
        "",
        "# only",
        "|\n  a\n  b",
        "|-\n\n  a\n\n    b",
        "|+\n a\n",
        "[a,\n  b]",
        "{ a: 1,\n\n  # why\n  b: 2 }",
        "{a: 1, }",
    ];
    let leaf = select(leaves.to_vec()).prop_map(Written::leaf);
    if depth == 0 {
        return leaf.boxed();
    }
    let gap = || select(vec!["", "", "", "\n", "\n  # note", "\n# note", "\n      "]);
    let key = |index: usize, spelling: usize| {
        [format!("k{index}:"), format!("\"k{index}\":"), format!("'k {index}':"), format!("k-{index} :")][spelling]
            .clone()
    };
    let map = vec((0_usize..4, value(depth - 1), 0_usize..4, gap()), 1..4).prop_map(move |entries| {
        let entries = entries.into_iter().enumerate();
        Written::block(
            entries.map(|(at, (spelling, value, spaces, gap))| (key(at, spelling), value, spaces, gap)).collect(),
        )
    });
    let list = vec((value(depth - 1), 0_usize..3, gap()), 1..4).prop_map(|entries| {
        Written::block(entries.into_iter().map(|(value, spaces, gap)| ("-".to_owned(), value, spaces, gap)).collect())
    });
    prop_oneof![1 => leaf, 3 => map, 2 => list].boxed()
}

/// A text with something else in place of a part.
fn changed(text: &str, at: usize, length: usize, put: &str) -> String {
    let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}{put}{}", &text[..boundary(at)], &text[boundary(at + length)..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_heap_of_signs_means_the_same_to_both(tokens in vec(token(), 0..14)) {
        agrees(&tokens.concat());
    }

    #[test]
    fn any_value_means_the_same_to_both(written in value(3)) {
        agrees(&written.lines.join("\n"));
        agrees(&format!("{}\n", written.lines.join("\n")));
    }

    #[test]
    fn any_change_of_a_value_means_the_same_to_both(
        written in value(3),
        at in 0_usize..200,
        length in 0_usize..4,
        put in token(),
    ) {
        agrees(&changed(&written.lines.join("\n"), at, length, put));
    }

    #[test]
    fn any_change_of_a_plan_means_the_same_to_both(
        at in 0_usize..3_000,
        length in 0_usize..40,
        put in vec(token(), 0..3),
    ) {
        agrees(&changed(include_str!("../../../plans/lisbon.yaml"), at, length, &put.concat()));
    }
}
