//! Mutable access to a run for applying an event.

use std::ops::Deref;

use super::queues::Queues;
use super::run_state::State;

/// Mutable access to the state of a run, for applying an event.
pub(crate) struct Fold<'r> {
    pub(crate) state: &'r mut State,
    pub(crate) queues: &'r mut Queues,
}

impl Deref for Fold<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
    }
}
