//! The run pages: an HTTP server with a JSON API, and the page that uses it.
//!
//! It reads the journal, and sends answers and cancellations through the control queue of a run, as the commands do. Runs
//! that it starts have processes of their own, so the end of the server ends no run.

mod access;
mod assets;
mod documents;
mod driver_program;
mod event_words;
mod live;
mod page_api_error;
mod report;
mod routes;
mod scheduled_runs;
mod serve_error;
mod server;
mod settings;
mod state;

pub use access::PageToken;
pub use driver_program::DriverProgram;
pub use report::report_html;
pub use scheduled_runs::ScheduledProcesses;
pub use serve_error::ServeError;
pub use server::PageServer;
pub use settings::{AgentsSource, ServeSettings};
