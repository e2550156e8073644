//! Keeps the binary and large contents of results in files, beside the journal.

mod calls;
mod file_names;
mod store;

pub(crate) use calls::{restore_arguments, save_contents};
pub use store::ContentStore;
