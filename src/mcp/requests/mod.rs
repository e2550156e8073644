//! Keeps the state of each connection, and handles what agents request of the host: sampling and elicitation.

pub(crate) mod connection_state;
pub(crate) mod elicitation;
pub(crate) mod handler;
pub(crate) mod open_calls;
pub(crate) mod sampling;
pub(crate) mod sampling_quota;
pub(crate) mod session_state;
