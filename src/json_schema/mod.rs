//! Validates JSON against JSON Schemas from agents, plans, and models, within fixed limits. Pure and synchronous: the
//! caller decides on which thread a check runs.
//!
//! A small schema can describe an enormous amount of work: references can double at each level, patterns can repeat
//! repetitions, and keywords such as `unevaluatedProperties` are unfolded when they are compiled. Therefore every
//! schema is measured before it is compiled, and every check is estimated before it runs. A schema or a check that
//! exceeds [`SchemaLimits`] is rejected with a [`SchemaCheckError`].

mod cost;
mod pattern;
mod references;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

pub(crate) use jsonschema::{ValidationError, error::ValidationErrorKind};

use cost::{CostWalker, SchemaMetrics};
use references::SchemaReferences;
pub(crate) use references::{Alternatives, alternatives, pointer_tokens, resolve_reference};

use crate::model::text::floor_char_boundary;

/// Limits on the work of one schema and one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchemaLimits {
    /// The maximum number of bytes of all keys and strings of a schema.
    max_bytes: usize,
    /// The maximum number of JSON values in a schema.
    max_values: usize,
    /// The maximum nesting of lists and objects in a schema.
    max_depth: usize,
    /// The maximum number of states of all patterns of a schema together.
    max_pattern_states: u64,
    /// The maximum number of schemas that the `unevaluated…` keywords of a schema unfold to.
    max_unfolded_schemas: u64,
    /// The maximum number of steps of one check: about one for each pair of a schema and a value that it applies to.
    max_steps: u64,
    /// The maximum nesting of schemas and values in one check.
    max_levels: usize,
}

impl SchemaLimits {
    /// The limits for checks on a separate thread with a stack of at least [`STACK_BYTES`].
    pub(crate) const BACKGROUND: Self = Self {
        max_bytes: 4 * 1024 * 1024,
        max_values: 100_000,
        max_depth: 256,
        max_pattern_states: 100_000,
        max_unfolded_schemas: 10_000,
        max_steps: 1_000_000,
        max_levels: 512,
    };

    /// The limits for checks on the current thread, which take milliseconds at most.
    pub(crate) const INLINE: Self = Self {
        max_bytes: 256 * 1024,
        max_values: 10_000,
        max_depth: 64,
        max_pattern_states: 5_000,
        max_unfolded_schemas: 500,
        max_steps: 20_000,
        max_levels: 96,
    };
}

/// The stack size for a check within [`SchemaLimits::BACKGROUND`], in bytes.
pub(crate) const STACK_BYTES: usize = 32 * 1024 * 1024;

/// The maximum number of backtracking steps for one match of a pattern that the linear engine does not support.
const MAX_BACKTRACKS: usize = 10_000;

/// The number of runs that the validator may repeat when a match reaches [`MAX_BACKTRACKS`]. It divides the step limit.
const MAX_BACKTRACKING_RERUNS: u64 = 8;

/// The reason why a check did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SchemaCheckError {
    /// The schema exceeds a limit.
    SchemaTooLarge(String),
    /// The schema is not a valid JSON Schema, or refers to something outside of it.
    InvalidSchema(String),
    /// The check of this value exceeds a limit.
    CheckTooExpensive(String),
}

impl fmt::Display for SchemaCheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SchemaTooLarge(limit) => write!(f, "the schema is too large to check: {limit}"),
            Self::InvalidSchema(reason) => write!(f, "invalid JSON Schema: {reason}"),
            Self::CheckTooExpensive(limit) => write!(f, "checking it takes too much work: {limit}"),
        }
    }
}

/// The validation of the keyword `format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum FormatValidation {
    /// As the draft of the schema specifies.
    #[default]
    DraftDefault,
    /// Always.
    Always,
}

/// A compiled schema.
#[derive(Debug)]
pub(crate) struct CompiledSchema {
    root: Value,
    references: SchemaReferences,
    validator: Validator,
    /// True if a pattern needs the backtracking engine.
    has_backtracking_patterns: bool,
}

impl CompiledSchema {
    /// Compiles `schema` if it is within `limits`.
    ///
    /// # Errors
    /// Returns [`SchemaCheckError::SchemaTooLarge`] or [`SchemaCheckError::InvalidSchema`].
    pub(crate) fn compile(
        schema: Value,
        formats: FormatValidation,
        limits: &SchemaLimits,
    ) -> Result<Self, SchemaCheckError> {
        let SchemaMetrics { has_backtracking_patterns: backtracks, references } = cost::measure(&schema, limits)?;
        let options = || {
            let options = jsonschema::options();
            match formats {
                FormatValidation::DraftDefault => options,
                FormatValidation::Always => options.should_validate_formats(true),
            }
        };
        let backtracking = || PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS);
        let built = match backtracks {
            true => options().with_pattern_options(backtracking()).build(&schema),
            false => options().with_pattern_options(PatternOptions::regex()).build(&schema),
        };
        let validator =
            built.map_err(|error| SchemaCheckError::InvalidSchema(bounded_message(&error, MAX_REASON_BYTES)))?;
        Ok(Self { root: schema, references, validator, has_backtracking_patterns: backtracks })
    }

    /// Returns every violation of the schema in `value`.
    ///
    /// # Errors
    /// Returns [`SchemaCheckError::CheckTooExpensive`] if the check exceeds `limits`.
    pub(crate) fn violations<'v>(
        &'v self,
        value: &'v Value,
        limits: &SchemaLimits,
    ) -> Result<Vec<ValidationError<'v>>, SchemaCheckError> {
        self.check_cost(value, limits)?;
        if self.validator.is_valid(value) {
            return Ok(Vec::new());
        }
        let violations: Vec<_> = self.validator.iter_errors(value).collect();
        let backtracked =
            |error: &ValidationError<'_>| matches!(error.kind(), ValidationErrorKind::BacktrackLimitExceeded { .. });
        match violations.iter().any(backtracked) {
            true => Err(SchemaCheckError::CheckTooExpensive(format!(
                "a pattern needs more than {MAX_BACKTRACKS} backtracking steps"
            ))),
            false => Ok(violations),
        }
    }

    /// Checks that validating `value` stays within `limits`.
    ///
    /// # Errors
    /// Returns [`SchemaCheckError::CheckTooExpensive`] with the limit.
    pub(crate) fn check_cost(&self, value: &Value, limits: &SchemaLimits) -> Result<(), SchemaCheckError> {
        let limits = match self.has_backtracking_patterns {
            true => SchemaLimits { max_steps: limits.max_steps / MAX_BACKTRACKING_RERUNS, ..*limits },
            false => *limits,
        };
        CostWalker::new(&self.root, &self.references, &limits).check_value(value)
    }
}

/// Returns whether a schema is small enough to be compiled on the current thread.
pub(crate) fn is_small(schema: &Value) -> bool {
    cost::measure(schema, &SchemaLimits::INLINE).is_ok()
}

/// The maximum number of bytes of the reason why a schema is invalid.
const MAX_REASON_BYTES: usize = 300;

/// Returns the validator's message, truncated to `limit` bytes; it may contain the whole value.
pub(crate) fn bounded_message(error: &ValidationError<'_>, limit: usize) -> String {
    let mut text = BoundedWriter { text: String::new(), limit };
    let is_cut = write!(text, "{error}").is_err();
    if is_cut {
        text.text.push('…');
    }
    text.text
}

/// A writer that collects text up to a limit and then returns an error.
struct BoundedWriter {
    text: String,
    limit: usize,
}

impl fmt::Write for BoundedWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.limit.saturating_sub(self.text.len());
        let fits = floor_char_boundary(text, room);
        self.text.push_str(&text[..fits]);
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
