//! The commands about plan files: writing, formatting, checking, and drawing them.

pub(crate) mod fmt;
pub(crate) mod graph;
pub(crate) mod plan;
pub(crate) mod saved;
pub(crate) mod schema;
pub(crate) mod validate;
