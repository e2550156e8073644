//! Keeps contents of results in files, beside the journal: binary and large ones, those that plans save, and those that
//! later calls reuse.

mod call_cache;
mod calls;
mod file_names;
mod saved_outputs;
mod store;

pub(crate) use call_cache::CacheSlot;
pub use call_cache::{CachedResult, CallCache};
pub(crate) use calls::{restore_arguments, save_contents};
pub(crate) use saved_outputs::save_output;
pub use store::ContentStore;
