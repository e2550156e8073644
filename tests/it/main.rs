//! The integration tests that need nothing but the Rust toolchain and Python: one binary, because each one links all of
//! kapell. `tests/kills` and `tests/interop` take longer, and have binaries of their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod architecture;
mod cli;
mod documents;
mod mcp;
mod serve;
mod support;
