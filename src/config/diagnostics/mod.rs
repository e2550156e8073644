//! Problems in files, with their positions.

pub(crate) mod diagnostic;
pub(crate) mod sink;
pub(crate) mod source;
