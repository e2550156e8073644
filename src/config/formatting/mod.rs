//! Formats plan files.

pub(crate) mod format;
mod key_order;
mod writer;
