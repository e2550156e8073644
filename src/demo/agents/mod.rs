//! The tools of the demo agents.

pub(crate) mod archive;
pub(crate) mod bindery;
pub(crate) mod concierge;
pub(crate) mod documents;
pub(crate) mod jobs;
pub(crate) mod library;
pub(crate) mod research;
pub(crate) mod travel;
