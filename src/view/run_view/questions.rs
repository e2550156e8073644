//! A question of a run and its answer.

use std::sync::Arc;

use crate::model::{Answer, Question, Timestamp};

/// A question that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedQuestion {
    /// The question.
    pub question: Arc<Question>,
    /// The time when it was first asked.
    pub at: Timestamp,
    /// The answer and its source.
    pub answer: Option<(Answer, String)>,
    /// The latest reason that it could not be answered.
    pub deferred_because: Option<String>,
    /// Set if it was asked again since it was left open.
    pub(super) is_pending_again: bool,
}

impl AskedQuestion {
    /// Returns the reason that it could not be answered when it was last asked.
    pub fn deferred_reason(&self) -> Option<&str> {
        self.deferred_because.as_deref().filter(|_| !self.is_pending_again)
    }

    /// Returns whether it waits for an answer.
    pub fn is_open(&self) -> bool {
        self.answer.is_none()
    }
}
