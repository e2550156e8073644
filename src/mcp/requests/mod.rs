//! Handles what agents request of the host: sampling and elicitation.

pub(crate) mod elicitation;
pub(crate) mod handler;
pub(crate) mod sampling;
pub(crate) mod sampling_quota;
