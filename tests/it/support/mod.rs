//! What the integration tests share. `tests/kills` and `tests/interop` include it by its path.

pub(crate) mod http_server;
pub(crate) mod pools;
pub(crate) mod restarts;
pub(crate) mod scripted_endpoint;
pub(crate) mod terminal;
pub(crate) mod workspace;
