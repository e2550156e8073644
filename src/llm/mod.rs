//! Client for language models.

mod client;
mod error;
mod local_models;
mod models;
mod openai;
mod probe;
mod rate_limiter;
mod reply_accumulator;
mod request_body;
#[cfg(test)]
mod samples;
mod tool_names;
mod tool_schema;
mod transport;
mod wire;

pub use client::{Llm, OnDelta};
pub use local_models::{FoundServer, LocalServer, find_local_models};
pub use models::Models;
pub use openai::OpenAi;
pub use probe::{Check, ProbeOutcome, probe_model};
pub use transport::EndpointError;
