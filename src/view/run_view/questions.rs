//! The questions of a run and their answers.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::model::{Answer, Question, QuestionId, Timestamp};

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

/// The questions of a run by ID, in the order in which they were first asked.
#[derive(Debug, Clone, Default)]
pub(super) struct AskedQuestions(pub(super) IndexMap<QuestionId, AskedQuestion>);

impl AskedQuestions {
    /// Returns the questions without an answer.
    pub(super) fn open(&self) -> impl Iterator<Item = &AskedQuestion> {
        self.0.values().filter(|asked| asked.is_open())
    }

    pub(super) fn asked(&mut self, question: &Arc<Question>, at: Timestamp) {
        let asked = AskedQuestion {
            question: Arc::clone(question),
            at,
            answer: None,
            deferred_because: None,
            is_pending_again: false,
        };
        self.0.insert(question.id.clone(), asked);
    }

    pub(super) fn asked_again(&mut self, question: &QuestionId) -> Option<&Question> {
        let asked = self.0.get_mut(question)?;
        asked.is_pending_again = true;
        Some(&asked.question)
    }

    pub(super) fn answered(&mut self, question: &QuestionId, answer: &Answer, by: &str) -> Option<&Question> {
        let asked = self.0.get_mut(question)?;
        asked.answer = Some((answer.clone(), by.to_owned()));
        Some(&asked.question)
    }

    pub(super) fn keep_open(&mut self, question: &QuestionId, reason: &str) {
        if let Some(asked) = self.0.get_mut(question) {
            asked.deferred_because = Some(reason.to_owned());
            asked.is_pending_again = false;
        }
    }
}
