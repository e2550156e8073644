//! Validates JSON against JSON Schemas that agents, plans and models supply, within fixed bounds.
//! Pure and synchronous: the caller decides on which thread a check runs.
//!
//! A small schema can describe an enormous amount of work: references can double at each level, patterns can
//! repeat repetitions, and keywords such as `unevaluatedProperties` are unfolded when they are compiled. So every
//! schema is measured before it is compiled, and every check is estimated before it runs. What exceeds
//! [`Limits`] is reported as [`Unchecked`] and not checked.

mod cost;
mod pattern;
mod references;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

pub(crate) use jsonschema::{ValidationError, error::ValidationErrorKind};

use cost::{Measured, Walker};
use references::References;

/// Bounds the work that one schema and one check may cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of all keys and strings of a schema.
    bytes: usize,
    /// JSON values in a schema.
    values: usize,
    /// Levels of nested lists and objects in a schema.
    depth: usize,
    /// States of all patterns of a schema together.
    pattern_states: u64,
    /// Schemas that the `unevaluated…` keywords of a schema unfold to.
    unfolded: u64,
    /// Steps of one check: about one for each pair of a schema and a value that it applies to.
    steps: u64,
    /// Levels of nested schemas and values in one check.
    levels: usize,
}

impl Limits {
    /// For checks on a thread of their own with a stack of at least [`STACK_SIZE`].
    pub(crate) const BACKGROUND: Self = Self {
        bytes: 4 * 1024 * 1024,
        values: 100_000,
        depth: 256,
        pattern_states: 100_000,
        unfolded: 10_000,
        steps: 1_000_000,
        levels: 512,
    };

    /// For checks in place, which take milliseconds at most.
    pub(crate) const INLINE: Self = Self {
        bytes: 256 * 1024,
        values: 10_000,
        depth: 64,
        pattern_states: 5_000,
        unfolded: 500,
        steps: 20_000,
        levels: 96,
    };
}

/// The stack that a check within [`Limits::BACKGROUND`] needs, in bytes.
pub(crate) const STACK_SIZE: usize = 32 * 1024 * 1024;

/// Backtracking steps of one match of a pattern that the linear engine does not support.
const MAX_BACKTRACKS: usize = 10_000;

/// Runs that the validator may repeat when a match reaches [`MAX_BACKTRACKS`], as a divisor of the step limit.
const BACKTRACKING_RERUNS: u64 = 8;

/// Says why something was not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unchecked {
    /// The schema exceeds a limit.
    SchemaTooLarge(String),
    /// The schema is not a valid JSON Schema, or refers to something that is not in it.
    InvalidSchema(String),
    /// Checking this value exceeds a limit.
    TooMuchWork(String),
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SchemaTooLarge(limit) => write!(f, "the schema is too large to check: {limit}"),
            Self::InvalidSchema(reason) => write!(f, "invalid JSON Schema: {reason}"),
            Self::TooMuchWork(limit) => write!(f, "checking it takes too much work: {limit}"),
        }
    }
}

/// Says whether the keyword `format` is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Formats {
    /// As the schema's draft says.
    #[default]
    AsDraft,
    /// Always.
    Checked,
}

/// A compiled schema.
#[derive(Debug)]
pub(crate) struct Schema {
    root: Value,
    references: References,
    validator: Validator,
    /// Whether a pattern needs the backtracking engine.
    backtracks: bool,
}

impl Schema {
    /// Compiles `schema` if it is within `limits`.
    ///
    /// # Errors
    /// [`Unchecked::SchemaTooLarge`] or [`Unchecked::InvalidSchema`].
    pub(crate) fn compile(schema: Value, formats: Formats, limits: &Limits) -> Result<Self, Unchecked> {
        let Measured { backtracks, references } = cost::measure(&schema, limits)?;
        let options = || {
            let options = jsonschema::options();
            match formats {
                Formats::AsDraft => options,
                Formats::Checked => options.should_validate_formats(true),
            }
        };
        let backtracking = || PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS);
        let built = match backtracks {
            true => options().with_pattern_options(backtracking()).build(&schema),
            false => options().with_pattern_options(PatternOptions::regex()).build(&schema),
        };
        let validator = built.map_err(|error| Unchecked::InvalidSchema(message(&error, MAX_REASON)))?;
        Ok(Self { root: schema, references, validator, backtracks })
    }

    /// Returns every violation of the schema in `value`.
    ///
    /// # Errors
    /// [`Unchecked::TooMuchWork`] if the check exceeds `limits`.
    pub(crate) fn violations<'v>(
        &'v self,
        value: &'v Value,
        limits: &Limits,
    ) -> Result<Vec<ValidationError<'v>>, Unchecked> {
        self.estimate(value, limits)?;
        if self.validator.is_valid(value) {
            return Ok(Vec::new());
        }
        let violations: Vec<_> = self.validator.iter_errors(value).collect();
        let backtracked =
            |error: &ValidationError<'_>| matches!(error.kind(), ValidationErrorKind::BacktrackLimitExceeded { .. });
        match violations.iter().any(backtracked) {
            true => {
                Err(Unchecked::TooMuchWork(format!("a pattern needs more than {MAX_BACKTRACKS} backtracking steps")))
            }
            false => Ok(violations),
        }
    }

    /// Returns whether checking `value` stays within `limits`.
    ///
    /// # Errors
    /// [`Unchecked::TooMuchWork`] names the limit.
    pub(crate) fn estimate(&self, value: &Value, limits: &Limits) -> Result<(), Unchecked> {
        let limits = match self.backtracks {
            true => Limits { steps: limits.steps / BACKTRACKING_RERUNS, ..*limits },
            false => *limits,
        };
        Walker::new(&self.root, &self.references, &limits).check(value)
    }
}

/// Returns whether a schema is small enough to be compiled in place.
pub(crate) fn is_small(schema: &Value) -> bool {
    cost::measure(schema, &Limits::INLINE).is_ok()
}

/// Bytes of the reason why a schema is invalid.
const MAX_REASON: usize = 300;

/// Returns the validator's message in at most `limit` bytes; it may repeat the whole value.
pub(crate) fn message(error: &ValidationError<'_>, limit: usize) -> String {
    let mut text = Bounded { text: String::new(), limit };
    let is_cut = write!(text, "{error}").is_err();
    if is_cut {
        text.text.push('…');
    }
    text.text
}

/// Collects text up to a limit, and stops whoever writes more.
struct Bounded {
    text: String,
    limit: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.limit.saturating_sub(self.text.len());
        let fits = (0..=room.min(more.len())).rev().find(|at| more.is_char_boundary(*at)).unwrap_or(0);
        self.text.push_str(&more[..fits]);
        if fits < more.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
