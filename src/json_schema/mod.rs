//! Validates JSON against JSON Schemas from agents, plans, and models, within fixed limits. Pure and synchronous: the
//! caller decides on which thread a check runs.
//!
//! A small schema can describe an enormous amount of work: references can double at each level, patterns can repeat
//! repetitions, and keywords such as `unevaluatedProperties` are unfolded when they are compiled. Therefore every
//! schema is measured before it is compiled, and every check is estimated before it runs. A schema or a check that
//! exceeds [`SchemaLimits`] is rejected with a [`SchemaCheckError`].

mod compiled_schema;
mod cost;
mod defaults;
mod limits;
mod pattern;
mod references;
#[cfg(test)]
mod tests;
pub mod tool_signature;

pub(crate) use jsonschema::ValidationError;
pub(crate) use jsonschema::error::ValidationErrorKind;

pub(crate) use compiled_schema::{CompiledSchema, FormatValidation, bounded_message, is_small};
pub(crate) use defaults::apply_defaults;
pub(crate) use limits::{STACK_BYTES, SchemaCheckError, SchemaLimits};
pub(crate) use references::{Alternatives, alternatives, pointer_tokens, resolve_reference};
