//! The routes of the API.

mod actions;
mod comparing;
mod files;
mod listing;
mod metrics;
mod openapi;
mod plans;
mod request_data;
mod running;
mod session;
mod starting;
mod stream;
mod table;
mod tasks;

pub(super) use table::router;
