//! Builds the JSON Schema of a reply.

pub(super) mod answer_schema;
mod schema_size;
mod strict_arguments;
