//! The keys of the files, and their JSON Schemas.

pub(crate) mod export;
pub(crate) mod keys;
pub(crate) mod misnamed;
pub(crate) mod table;
