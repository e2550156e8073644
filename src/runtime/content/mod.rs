//! Keeps contents of results in files, beside the journal: binary and large ones, those that plans save, and those that
//! later calls reuse.

mod call_cache;
mod calls;
mod file_names;
mod references;
mod saved_outputs;
mod spool;
mod spool_files;
mod store;
mod writing;

pub(crate) use call_cache::CacheSlot;
pub use call_cache::{CachedResult, CallCache};
pub(crate) use calls::{missing_file_failure, restore_arguments, save_contents};
pub(crate) use saved_outputs::save_output;
pub(crate) use spool::{FileContents, Received, ReferenceKind, Spool, SpoolError, SpoolLimits};
pub use store::ContentStore;
