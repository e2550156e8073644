//! Stores the questions of a run, their states, and the calls that asked them.

use std::sync::Arc;

use crate::model::{Answer, Asker, AttemptId, IdHashMap, IdMap, Question, QuestionId, RequestId};

/// A question and its state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuestionEntry {
    pub(crate) question: Arc<Question>,
    /// The agent's request that waits for the answer.
    pub(crate) request: Option<RequestId>,
    pub(crate) state: QuestionState,
}

/// The state of a question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum QuestionState {
    Open,
    Deferred,
    Answered { answer: Answer, by: Arc<str> },
}

/// The questions of a run in the order in which they were asked. A run can have many questions, so frequent queries use
/// counters and an index by call.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Questions {
    entries: IdMap<QuestionId, QuestionEntry>,
    /// The questions asked by agents' calls, as indices into `entries`.
    by_attempt: IdHashMap<AttemptId, Vec<usize>>,
    /// The number of questions that a person or a deadline may still answer.
    answerable_count: usize,
    /// The number of deferred questions.
    deferred_count: usize,
}

impl QuestionEntry {
    /// Returns whether a person or a deadline may still answer.
    pub(crate) fn can_be_answered(&self) -> bool {
        match self.state {
            QuestionState::Open => true,
            QuestionState::Deferred => self.question.deadline.is_some(),
            QuestionState::Answered { .. } => false,
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.state, QuestionState::Answered { .. })
    }

    fn is_deferred(&self) -> bool {
        self.state == QuestionState::Deferred
    }
}

impl Questions {
    pub(crate) fn get(&self, id: &QuestionId) -> Option<&QuestionEntry> {
        self.entries.get(id)
    }

    /// Returns all questions in the order in which they were asked.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = &QuestionEntry> {
        self.entries.values()
    }

    /// Returns the questions that a call has asked.
    pub(crate) fn of_attempt(&self, attempt: &AttemptId) -> impl DoubleEndedIterator<Item = &QuestionEntry> {
        self.by_attempt.get(attempt).into_iter().flatten().map(|index| &self.entries[*index])
    }

    /// Returns whether the run, if it has no other work, waits for deferred questions only: some are deferred, and no
    /// question can still be answered.
    pub(crate) fn is_waiting_for_deferred(&self) -> bool {
        self.deferred_count > 0 && self.answerable_count == 0
    }

    /// Adds an open question.
    pub(crate) fn insert(&mut self, question: &Arc<Question>, request: Option<RequestId>) {
        if let Asker::Agent(origin) = &question.asker
            && let Some(attempt) = &origin.attempt
        {
            self.by_attempt.entry(attempt.clone()).or_default().push(self.entries.len());
        }
        let entry = QuestionEntry { question: Arc::clone(question), request, state: QuestionState::Open };
        self.answerable_count += 1;
        self.entries.insert(question.id.clone(), entry);
    }

    /// Changes the question with this ID, if there is one. Returns the changed question.
    pub(crate) fn update(
        &mut self,
        id: &QuestionId,
        change: impl FnOnce(&mut QuestionEntry),
    ) -> Option<&QuestionEntry> {
        let entry = self.entries.get_mut(id)?;
        self.answerable_count -= usize::from(entry.can_be_answered());
        self.deferred_count -= usize::from(entry.is_deferred());
        change(entry);
        self.answerable_count += usize::from(entry.can_be_answered());
        self.deferred_count += usize::from(entry.is_deferred());
        Some(entry)
    }

    /// Reopens deferred questions and removes the request IDs, which are valid only in the process that received the
    /// requests.
    pub(crate) fn reopen_after_resume(&mut self) {
        for entry in self.entries.values_mut() {
            entry.request = None;
            if entry.is_deferred() {
                entry.state = QuestionState::Open;
            }
        }
        self.deferred_count = 0;
        self.answerable_count = self.entries.values().filter(|entry| entry.can_be_answered()).count();
    }
}
