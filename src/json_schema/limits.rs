//! The limits on schemas and checks, and the error of what exceeds them.

use std::fmt;

/// Limits on the work of one schema and one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchemaLimits {
    /// The maximum number of bytes of all keys and strings of a schema.
    pub(super) max_bytes: usize,
    /// The maximum number of JSON values in a schema.
    pub(super) max_values: usize,
    /// The maximum nesting of lists and objects in a schema.
    pub(super) max_depth: usize,
    /// The maximum number of states of all patterns of a schema together.
    pub(super) max_pattern_states: u64,
    /// The maximum number of schemas that the `unevaluated…` keywords of a schema unfold to.
    pub(super) max_unfolded_schemas: u64,
    /// The maximum number of steps of one check: about one for each pair of a schema and a value that it applies to.
    pub(super) max_steps: u64,
    /// The maximum nesting of schemas and values in one check.
    pub(super) max_levels: usize,
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
