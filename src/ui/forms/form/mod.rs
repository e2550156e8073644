//! Parses the form of an elicitation from its JSON Schema, and lines of text into the values of its fields.
//!
//! A schema may differ from what the specification allows: a field of an unknown kind is entered as JSON.
//!
//! Follows `requestedSchema` of MCP's `elicitation/create` in 2025-11-25 and 2026-07-28, and the `enumNames` of
//! 2025-06-18.

mod checks;
mod field;
mod form_schema;
mod kind;
mod schema;
#[cfg(test)]
mod tests;
mod typed;

pub use field::{FormField, ValueLimits};
pub use form_schema::FormSchema;
pub use kind::{FieldChoice, Kind};
