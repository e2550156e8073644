//! Stores journals in SQLite files. No other module names SQLite.

mod control_queue;
mod error;
mod lease;
mod reader;
mod recovery_scan;
mod schedule_log;
mod schema;
mod store;
mod writer;

pub(super) use schema::FORMAT_VERSION;
pub(super) use store::SqliteStore;
