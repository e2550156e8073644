//! Parses typed lines into values and finds the choices that they select. It does not validate against the schema.

use serde_json::{Number, Value};

use super::kind::{FieldChoice, Kind, simplify};
use crate::model::has_leading_zero;

impl Kind {
    /// Parses a line, if it is a value of this kind.
    pub(super) fn parse(&self, line: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::String(line.to_owned())),
            // As in plans and input files, such digits are text.
            Self::Number | Self::Integer if has_leading_zero(line) => None,
            Self::Number => integer(line).or_else(|| Number::from_f64(line.parse().ok()?).map(Value::Number)),
            Self::Integer => integer(line),
            Self::Boolean => match line.to_lowercase().as_str() {
                "y" | "yes" | "true" => Some(Value::Bool(true)),
                "n" | "no" | "false" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Select(choices) => pick(choices, line),
            Self::MultiSelect(choices) => {
                let parts = line.split(',').map(str::trim).filter(|part| !part.is_empty());
                let mut picked = Vec::new();
                for value in parts.map(|part| pick(choices, part)) {
                    let value = value?;
                    if !picked.contains(&value) {
                        picked.push(value);
                    }
                }
                Some(Value::Array(picked))
            }
            Self::Json => serde_json::from_str(line).ok(),
        }
    }
}

/// Finds a choice by its value, title, or number, ignoring case if that is unambiguous.
fn pick(choices: &[FieldChoice], text: &str) -> Option<Value> {
    let is_exact = |choice: &&FieldChoice| simplify(&choice.value) == text || choice.title == text;
    let folded = text.to_lowercase();
    let is_like = |choice: &&FieldChoice| {
        simplify(&choice.value).to_lowercase() == folded || choice.title.to_lowercase() == folded
    };
    let mut like = choices.iter().filter(is_like);
    let only_like = like.next().filter(|_| like.next().is_none());
    let numbered = || {
        let number = text.parse::<usize>().ok().filter(|_| are_numbered(choices))?;
        choices.get(number.checked_sub(1)?)
    };
    choices.iter().find(is_exact).or(only_like).or_else(numbered).map(|choice| choice.value.clone())
}

/// Returns whether numbers select choices. They do not if a value or a title is itself a number.
pub(super) fn are_numbered(choices: &[FieldChoice]) -> bool {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    !choices.iter().any(|choice| is_number(&simplify(&choice.value)) || is_number(&choice.title))
}

fn integer(line: &str) -> Option<Value> {
    line.parse::<i64>().map(Value::from).or_else(|_| line.parse::<u64>().map(Value::from)).ok()
}
