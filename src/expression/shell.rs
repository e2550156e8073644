//! Renders shell commands: each `${{ }}` becomes one quoted word, so that a value can never become a part of the
//! command.
//!
//! A value that is inserted inside quotes, a comment, or a here-document would not be protected by quotes of its own. So
//! a scanner follows the quoting of the command, and such expressions are errors. Where shells differ, or the scanner
//! does not know the rules, further expressions are errors, too.

use serde_json::Value;

use super::error::{ExpressionError, ExpressionErrorKind};
use super::evaluate::resolve_or_evaluate;
use super::scope::{EvalContext, Scope};
use super::template::{TemplatePart, split_template};
use crate::model::value_as_text;

/// The maximum size of a command with its values, in bytes. Linux limits each argument of a program to 128 KiB.
const MAX_COMMAND_BYTES: usize = 128 * 1024 - 1;

/// Checks that each `${{ }}` of a shell command is in a place where a quoted word is one argument.
///
/// # Errors
/// Returns an error about the first other place. Its range is one of `command`.
pub fn check_shell_command(command: &str) -> Result<(), ExpressionError> {
    let mut scanner = ShellScanner::default();
    for part in split_template(command)? {
        match part {
            TemplatePart::Text(text) => scanner.scan(text),
            TemplatePart::Expression(_, range) => {
                if let Some(problem) = scanner.problem_here() {
                    let message = format!("a value cannot be inserted {problem}");
                    let range = range.start.saturating_sub(3)..range.end + 2;
                    let error = ExpressionError::new(ExpressionErrorKind::InvalidSyntax, message, range);
                    return Err(error.with_help(
                        "each `${{ }}` becomes one quoted word, so it stands outside of quotes; or pass the value in \
                         `env`, and write `\"$NAME\"` in the command",
                    ));
                }
                scanner.end_word();
            }
        }
    }
    Ok(())
}

/// Returns a shell command with each `${{ }}` replaced by its value as one quoted word. A value that is not text becomes
/// its JSON.
///
/// # Errors
/// As [`check_shell_command`] and [`evaluate`](super::evaluate()), and for a value with a null character.
pub fn render_shell_command(command: &str, scope: &Scope<'_>) -> Result<String, ExpressionError> {
    check_shell_command(command)?;
    let context = EvalContext::Run(scope);
    let mut rendered = String::with_capacity(command.len());
    for part in split_template(command)? {
        match part {
            TemplatePart::Text(text) => rendered.push_str(text),
            TemplatePart::Expression(expression, range) => {
                let value = resolve_or_evaluate(expression, &context).map_err(|error| error.shifted_by(range.start))?;
                let text = match value.into_value() {
                    Value::String(text) => text,
                    value => value_as_text(&value),
                };
                if text.contains('\0') {
                    let message = "the value contains a null character, which no command can contain";
                    return Err(ExpressionError::new(ExpressionErrorKind::InvalidOperation, message, range));
                }
                push_quoted(&mut rendered, &text);
            }
        }
    }
    if rendered.len() > MAX_COMMAND_BYTES {
        let message = format!("the command with its values is larger than {MAX_COMMAND_BYTES} bytes");
        let error = ExpressionError::new(ExpressionErrorKind::LimitExceeded, message, 0..command.len());
        return Err(error.with_help("save large outputs in a file with `save`, and pass its path, `tasks.ID.saved`"));
    }
    Ok(rendered)
}

/// Appends a text as one word of a shell command.
fn push_quoted(command: &mut String, text: &str) {
    command.push('\'');
    // A quote cannot be escaped inside single quotes.
    command.push_str(&text.replace('\'', r"'\''"));
    command.push('\'');
}

/// Where the parts of one word are on two lines.
const AFTER_CONTINUATION: &str = "after a backslash that joins two lines within a word";

/// A construct around the current position of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Enclosure {
    /// `'…'`
    SingleQuotes,
    /// `"…"`
    DoubleQuotes,
    /// `` `…` ``
    Backquotes,
    /// `$(…)`, with the number of open parentheses inside.
    Substitution(usize),
    /// `${…}`
    Parameter,
    /// `$((…))`, with the number of open parentheses inside.
    Arithmetic(usize),
    /// From `#` to the end of the line.
    Comment,
}

/// Follows the quoting of a command in the language of POSIX shells.
#[derive(Debug, Default)]
struct ShellScanner {
    enclosures: Vec<Enclosure>,
    /// The construct after which the quoting is unknown.
    unknown: Option<&'static str>,
    /// True after a backslash, whose next character is not special.
    is_escaped: bool,
    /// The beginning of the current word, as far as it has only letters and digits.
    word: String,
    /// True if the next character begins a word.
    is_word_start: bool,
    /// True before the first character.
    has_started: bool,
}

impl ShellScanner {
    /// Returns the reason why a quoted word cannot be inserted here.
    fn problem_here(&self) -> Option<&'static str> {
        if self.is_escaped {
            return Some("after a backslash");
        }
        if let Some(unknown) = self.unknown {
            return Some(unknown);
        }
        self.enclosures.iter().find_map(|enclosure| match enclosure {
            // A substitution has quoting of its own, even inside double quotes.
            Enclosure::DoubleQuotes if self.is_in_substitution() => None,
            Enclosure::Substitution(_) => None,
            Enclosure::SingleQuotes | Enclosure::DoubleQuotes => Some("inside quotes"),
            Enclosure::Backquotes => Some("inside backquotes; use `$(…)`"),
            Enclosure::Parameter => Some("inside `${…}`"),
            Enclosure::Arithmetic(_) => Some("inside `$((…))`"),
            Enclosure::Comment => Some("in a comment"),
        })
    }

    fn is_in_substitution(&self) -> bool {
        matches!(self.enclosures.last(), Some(Enclosure::Substitution(_)))
    }

    /// Records that a value follows, which is a part of a word.
    fn end_word(&mut self) {
        self.word.clear();
        self.is_word_start = false;
        self.has_started = true;
    }

    fn scan(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let length = self.scan_next(c, rest);
            rest = &rest[length..];
        }
    }

    /// Processes the character `c` at the start of `rest`. Returns the number of bytes that it consumes.
    fn scan_next(&mut self, c: char, rest: &str) -> usize {
        let is_word_start = self.is_word_start || !self.has_started;
        self.has_started = true;
        self.is_word_start = false;
        if std::mem::take(&mut self.is_escaped) {
            return c.len_utf8();
        }
        match self.enclosures.last().copied() {
            Some(Enclosure::SingleQuotes) => {
                if c == '\'' {
                    self.enclosures.pop();
                }
            }
            Some(Enclosure::Comment) => {
                if c == '\n' {
                    self.enclosures.pop();
                    self.is_word_start = true;
                }
            }
            Some(Enclosure::DoubleQuotes) => match c {
                '"' => drop(self.enclosures.pop()),
                '\\' if rest.starts_with("\\\n") => self.unknown = Some(AFTER_CONTINUATION),
                '\\' => self.is_escaped = true,
                _ => return self.scan_expansion(c, rest),
            },
            Some(Enclosure::Backquotes) => match c {
                '`' => drop(self.enclosures.pop()),
                '\\' | '\'' | '"' | '$' => self.unknown = Some("after quotes or `$` inside backquotes; use `$(…)`"),
                _ => {}
            },
            Some(Enclosure::Parameter) => match c {
                '}' => drop(self.enclosures.pop()),
                '\\' | '\'' | '"' | '$' | '`' => self.unknown = Some("after quotes or `$` inside `${…}`"),
                _ => {}
            },
            Some(Enclosure::Arithmetic(open)) => match c {
                '(' => self.replace_last(Enclosure::Arithmetic(open + 1)),
                ')' if open > 0 => self.replace_last(Enclosure::Arithmetic(open - 1)),
                ')' if rest.starts_with("))") => {
                    self.enclosures.pop();
                    return 2;
                }
                '\\' | '\'' | '"' | '$' | '`' | ')' => self.unknown = Some("after quotes or `$` inside `$((…))`"),
                _ => {}
            },
            Some(Enclosure::Substitution(_)) | None => return self.scan_command(c, rest, is_word_start),
        }
        c.len_utf8()
    }

    /// Processes a character of a command outside of quotes.
    fn scan_command(&mut self, c: char, rest: &str, is_word_start: bool) -> usize {
        if c.is_alphanumeric() || c == '_' {
            self.word.push(c);
            // The patterns of `case` have unbalanced parentheses.
            let is_whole = !rest[c.len_utf8()..].starts_with(|next: char| next.is_alphanumeric() || next == '_');
            if is_whole && self.word == "case" && self.is_in_substitution() {
                self.unknown = Some("after `case` inside `$(…)`");
            }
            return c.len_utf8();
        }
        self.word.clear();
        match c {
            '\\' if rest.starts_with("\\\n") => {
                // The shell joins the lines before it reads words.
                if !is_word_start {
                    self.unknown = Some(AFTER_CONTINUATION);
                }
                self.is_word_start = true;
                return 2;
            }
            '\\' => self.is_escaped = true,
            '\'' => self.enclosures.push(Enclosure::SingleQuotes),
            '"' => self.enclosures.push(Enclosure::DoubleQuotes),
            '#' if is_word_start => self.enclosures.push(Enclosure::Comment),
            '<' if rest.starts_with("<<<") => return 3,
            '<' if rest.starts_with("<<") => self.unknown = Some("after `<<`: a here-document expands its text"),
            '$' if rest.starts_with("$'") || rest.starts_with("$\"") => {
                self.unknown = Some("after `$'` or `$\"`, which only some shells know");
            }
            '(' => {
                if rest.starts_with("((") {
                    self.unknown = Some("after `((`, which only some shells know");
                }
                if let Some(Enclosure::Substitution(open)) = self.enclosures.last().copied() {
                    self.replace_last(Enclosure::Substitution(open + 1));
                }
                self.is_word_start = true;
            }
            ')' => {
                match self.enclosures.last().copied() {
                    Some(Enclosure::Substitution(0)) => drop(self.enclosures.pop()),
                    Some(Enclosure::Substitution(open)) => self.replace_last(Enclosure::Substitution(open - 1)),
                    _ => {}
                }
                self.is_word_start = true;
            }
            ';' | '&' | '|' | '<' | '>' => self.is_word_start = true,
            ' ' | '\t' | '\n' => self.is_word_start = true,
            c if c.is_whitespace() || c.is_control() => self.unknown = Some("after an unusual space"),
            _ => return self.scan_expansion(c, rest),
        }
        c.len_utf8()
    }

    /// Processes the start of an expansion, which is also possible inside double quotes.
    fn scan_expansion(&mut self, c: char, rest: &str) -> usize {
        let (enclosure, length) = match c {
            '`' => (Enclosure::Backquotes, 1),
            '$' if rest.starts_with("$((") => (Enclosure::Arithmetic(0), 3),
            '$' if rest.starts_with("$(") => (Enclosure::Substitution(0), 2),
            '$' if rest.starts_with("${") => (Enclosure::Parameter, 2),
            '$' if rest.starts_with("$[") => {
                self.unknown = Some("after `$[`, which only some shells know");
                return 2;
            }
            // `$#` is a number, and no comment begins inside a word.
            '$' if rest.starts_with("$#") => return 2,
            _ => return c.len_utf8(),
        };
        self.enclosures.push(enclosure);
        self.is_word_start = length == 2;
        self.word.clear();
        length
    }

    fn replace_last(&mut self, enclosure: Enclosure) {
        if let Some(last) = self.enclosures.last_mut() {
            *last = enclosure;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expression::tests::NoTasks;

    fn render(command: &str) -> Result<String, String> {
        let inputs = json!({"v": "it's; $(id)", "n": 7, "list": ["a b"], "nul": "a\0", "big": "x".repeat(200_000)});
        let scope = Scope::new(&inputs, &NoTasks);
        render_shell_command(command, &scope).map_err(|error| error.message)
    }

    #[test]
    fn values_become_quoted_words() {
        let word = r"'it'\''s; $(id)'";
        for (command, expected) in [
            ("echo ${{ inputs.v }}", format!("echo {word}")),
            ("--a=${{ inputs.v }}.txt", format!("--a={word}.txt")),
            ("${{ inputs.n }} ${{ inputs.list }}", r#"'7' '["a b"]'"#.to_owned()),
            ("a 'b' \"c\" ${{ inputs.n }}", "a 'b' \"c\" '7'".to_owned()),
            ("a # don't\nb ${{ inputs.n }}", "a # don't\nb '7'".to_owned()),
            ("a#'${{ inputs.n }}", "a value cannot be inserted inside quotes".to_owned()),
            (r"a \' ${{ inputs.n }}", r"a \' '7'".to_owned()),
            ("a $# ${{ inputs.n }}", "a $# '7'".to_owned()),
            ("x=\"$(cat ${{ inputs.n }})\"", "x=\"$(cat '7')\"".to_owned()),
            ("(cd a && ls) | grep ${{ inputs.n }}", "(cd a && ls) | grep '7'".to_owned()),
            ("echo $((1 + (2))) \"${HOME:-x}\" ${{ inputs.n }}", "echo $((1 + (2))) \"${HOME:-x}\" '7'".to_owned()),
            ("a \\\n  # don't\nb ${{ inputs.n }}", "a \\\n  # don't\nb '7'".to_owned()),
            ("case $1 in a) b;; esac; c ${{ inputs.n }}", "case $1 in a) b;; esac; c '7'".to_owned()),
            ("echo $${{ x }}", "echo ${{ x }}".to_owned()),
        ] {
            assert_eq!(render(command).unwrap_or_else(|message| message), expected, "{command}");
        }
    }

    #[test]
    fn places_without_a_quoted_word_are_errors() {
        for command in [
            "echo '${{ inputs.v }}'",
            "echo \"${{ inputs.v }}\"",
            "echo \"$(x \"${{ inputs.v }}\")\"",
            "echo `x ${{ inputs.v }}`",
            "echo `x '` ${{ inputs.v }}",
            "echo \\${{ inputs.v }}",
            "a # ${{ inputs.v }}",
            "a;# ${{ inputs.v }}",
            "$(# ${{ inputs.v }}",
            "cat <<EOF\n${{ inputs.v }}\nEOF",
            "echo $((1 + ${{ inputs.v }}))",
            "echo ${x:-${{ inputs.v }}}",
            "echo ${x:-'} ${{ inputs.v }}",
            "echo $'\\'' ${{ inputs.v }}",
            "((x = ${{ inputs.v }}))",
            "echo \"$(case a in a) echo '\"' ;; esac)\" ${{ inputs.v }}",
            "echo $[${{ inputs.v }}]",
            "echo $( ((x = ${{ inputs.v }})) )",
            "a \\\n# ${{ inputs.v }}",
            "echo \"$\\\n(x \" ${{ inputs.v }}",
            "a\u{a0}# '\n ${{ inputs.v }}",
        ] {
            assert!(render(command).expect_err(command).starts_with("a value cannot be inserted"), "{command}");
        }
        assert!(render("echo ${{ inputs.nul }}").expect_err("a null character").contains("null character"));
        assert!(render("echo ${{ inputs.big }}").expect_err("too large").contains("larger than"));
    }
}
