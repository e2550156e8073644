//! Formats the parts of a plan file: comments, values, and its name.

use serde_json::Value;

use crate::config;

/// The maximum width of a comment line.
const COMMENT_WIDTH: usize = 100;
/// The maximum length of a plan's name.
const MAX_NAME_CHARS: usize = 48;

/// Returns a plan name made of the first words of the goal.
pub(super) fn plan_name(goal: &str) -> String {
    let mut name = String::new();
    for word in goal.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !name.is_empty() {
            if name.chars().count() + word.chars().count() >= MAX_NAME_CHARS {
                break;
            }
            name.push('-');
        }
        name.extend(word.chars().take(MAX_NAME_CHARS).flat_map(char::to_lowercase));
    }
    if name.is_empty() { "plan".to_owned() } else { name }
}

/// Formats text as comment lines, without characters that could end the comment or control a terminal.
pub(super) fn comment(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|c| !is_unsafe(*c)).collect();
        if word.is_empty() {
            continue;
        }
        if line.len() > 1 && line.chars().count() + word.chars().count() >= COMMENT_WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(&word);
    }
    if line.len() > 1 {
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

/// Formats the entries of a map, or the elements of a list, as YAML.
///
/// The YAML writer wraps texts at Unicode line separators, which alters them. Values with such characters are written
/// as JSON, which is valid YAML, with these characters escaped.
pub(super) fn to_yaml(value: &Value) -> String {
    let text = config::write_data(value).expect("YAML can express all JSON");
    let is_altered = |c: char| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    if !text.contains(is_altered) {
        return text;
    }
    let json = |value: &Value| {
        let escape =
            |c: char| if is_altered(c) || c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
        value.to_string().chars().map(escape).collect::<String>()
    };
    match value {
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| format!("{}: {}\n", json(&key.as_str().into()), json(value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| format!("- {}\n", json(item))).collect(),
        _ => json(value) + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_names_are_short_words() {
        assert_eq!(plan_name("¿Wo ist   der Bahnhof?"), "wo-ist-der-bahnhof");
        assert_eq!(plan_name("!?"), "plan");
        assert_eq!(plan_name(&"word ".repeat(50)).chars().count(), 44);
        assert_eq!(plan_name(&"x".repeat(100)), "x".repeat(MAX_NAME_CHARS));
    }

    #[test]
    fn comments_stay_comments() {
        let hostile = "a\nb\r\u{85}c\u{2028}d \u{1b}[2J \u{202e}e \u{feff}";
        assert_eq!(comment(hostile), "# a b c d [2J e\n");
        let long = comment(&"word ".repeat(60));
        assert!(
            long.lines().count() > 2 && long.lines().all(|line| line.starts_with("# ") && line.len() <= COMMENT_WIDTH)
        );
    }
}
