//! Chooses the agent for an attempt.

pub(crate) mod health;
pub(crate) mod outages;
pub(crate) mod router;
