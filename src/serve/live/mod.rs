//! Runs as they progress, read from the journal that any process may write.

mod list_entries;
mod open_page;
mod page_cache;
mod run_record;

pub(super) use list_entries::{ListEntries, ListEntry};
pub(super) use open_page::OpenPage;
pub(super) use page_cache::PageCache;
pub(super) use run_record::{AgentOutput, RunRecord, RunRecords};
