//! The run pages: an HTTP server with a JSON API, and the page that uses it.
//!
//! It reads the journal, and sends answers and cancellations through the control queue of a run, as the commands do. Runs
//! that it starts have processes of their own, so the end of the server ends no run.

mod access;
mod api_error;
mod assets;
mod documents;
mod driver_program;
mod live;
mod routes;
mod server;
mod settings;
mod state;

pub use access::AccessToken;
pub use driver_program::DriverProgram;
pub use server::{PageServer, ServeError};
pub use settings::{AgentsSource, ServeSettings};
