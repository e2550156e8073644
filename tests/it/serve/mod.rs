//! The run pages, over real sockets to a real server.

mod acting;
mod client;
mod reading;
mod refusals;
mod reports;
mod streaming;
