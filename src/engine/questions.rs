//! Keeps the questions of a run: how each stands, and which call asked it.
//! Never decides what an answer means.

use std::sync::Arc;

use crate::model::{Answer, Asker, AttemptId, IdHashMap, IdMap, Question, QuestionId, RequestId};

/// What is known of a question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuestionEntry {
    pub(super) question: Arc<Question>,
    /// The agent's request that waits for the answer.
    pub(super) request: Option<RequestId>,
    pub(super) state: QuestionState,
}

/// How a question stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum QuestionState {
    Open,
    Deferred,
    Answered { answer: Answer, by: Arc<str> },
}

/// The questions of a run, in the order in which they were asked. What is asked of all of them at every event is
/// counted or found by its call: a run can have many.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Questions {
    entries: IdMap<QuestionId, QuestionEntry>,
    /// What the calls of agents asked: places in `entries`.
    by_attempt: IdHashMap<AttemptId, Vec<usize>>,
    /// How many somebody may yet answer, or their deadline will.
    answerable_count: usize,
    /// How many nobody here can answer.
    deferred_count: usize,
}

impl QuestionEntry {
    /// Whether somebody may yet answer, or a deadline will.
    pub(super) fn can_be_answered(&self) -> bool {
        match self.state {
            QuestionState::Open => true,
            QuestionState::Deferred => self.question.deadline.is_some(),
            QuestionState::Answered { .. } => false,
        }
    }

    fn is_deferred(&self) -> bool {
        self.state == QuestionState::Deferred
    }
}

impl Questions {
    /// How many were asked.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, id: &QuestionId) -> Option<&QuestionEntry> {
        self.entries.get(id)
    }

    /// All of them.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &QuestionEntry> {
        self.entries.values()
    }

    /// What a call has asked.
    pub(super) fn of_attempt(&self, attempt: &AttemptId) -> impl DoubleEndedIterator<Item = &QuestionEntry> {
        self.by_attempt.get(attempt).into_iter().flatten().map(|place| &self.entries[*place])
    }

    /// Whether a run with nothing else to do waits for people who are not here: some cannot answer, and nobody else
    /// will.
    pub(super) fn is_waiting_for_deferred(&self) -> bool {
        self.deferred_count > 0 && self.answerable_count == 0
    }

    /// Adds an open question.
    pub(super) fn insert(&mut self, question: &Arc<Question>, request: Option<RequestId>) {
        if let Asker::Agent(origin) = &question.asker
            && let Some(attempt) = &origin.attempt
        {
            self.by_attempt.entry(attempt.clone()).or_default().push(self.entries.len());
        }
        let entry = QuestionEntry { question: Arc::clone(question), request, state: QuestionState::Open };
        self.answerable_count += 1;
        self.entries.insert(question.id.clone(), entry);
    }

    /// Changes a question; gives it as it is then, if there is one of that id.
    pub(super) fn update(
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

    /// Opens again what was left open, and forgets the requests, which only the process knows that got them.
    pub(super) fn reopen_after_resume(&mut self) {
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
