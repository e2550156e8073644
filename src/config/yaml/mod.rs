//! Reads YAML and JSON files into documents with positions.

pub(crate) mod document;
pub(crate) mod parser;
pub(crate) mod read;
pub(crate) mod syntax_reader;
pub(crate) mod syntax_tree;
