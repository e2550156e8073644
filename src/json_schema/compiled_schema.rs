//! Compiles a schema within limits, and validates values with it.

use std::fmt::{self, Write as _};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::cost::{self, CostWalker, SchemaMetrics};
use super::limits::{SchemaCheckError, SchemaLimits};
use super::references::SchemaReferences;
use crate::model::text::floor_char_boundary;

/// The maximum number of backtracking steps for one match of a pattern that the linear engine does not support.
const MAX_BACKTRACKS: usize = 10_000;

/// The number of runs that the validator may repeat when a match reaches [`MAX_BACKTRACKS`]. It divides the step limit.
const MAX_BACKTRACKING_RERUNS: u64 = 8;

/// The validation of the keyword `format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum FormatValidation {
    /// As the draft of the schema specifies.
    #[default]
    DraftDefault,
    /// Always.
    Always,
    /// Never, for what another program validates itself.
    Never,
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
        let SchemaMetrics { has_backtracking_patterns, references } = cost::measure(&schema, limits)?;
        let options = || {
            let options = jsonschema::options();
            match formats {
                FormatValidation::DraftDefault => options,
                FormatValidation::Always => options.should_validate_formats(true),
                FormatValidation::Never => options.should_validate_formats(false),
            }
        };
        let backtracking = || PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS);
        let built = match has_backtracking_patterns {
            true => options().with_pattern_options(backtracking()).build(&schema),
            false => options().with_pattern_options(PatternOptions::regex()).build(&schema),
        };
        let validator =
            built.map_err(|error| SchemaCheckError::InvalidSchema(bounded_message(&error, MAX_REASON_BYTES)))?;
        Ok(Self { root: schema, references, validator, has_backtracking_patterns })
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
        let hit_limit =
            |error: &ValidationError<'_>| matches!(error.kind(), ValidationErrorKind::BacktrackLimitExceeded { .. });
        match violations.iter().any(hit_limit) {
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
        let available = self.limit.saturating_sub(self.text.len());
        let fits = floor_char_boundary(text, available);
        self.text.push_str(&text[..fits]);
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
