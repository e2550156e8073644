//! The questions of a run and their answers.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::{
    journal::{JournalError, JournalReader},
    model::{Answer, Event, Question, QuestionId, Record, RunId, Timestamp},
};

/// The questions of a run, in the order in which they were first asked.
#[derive(Debug, Clone, Default)]
pub struct QuestionLog {
    questions: IndexMap<QuestionId, AskedQuestion>,
}

/// A question that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedQuestion {
    /// The question.
    pub question: Arc<Question>,
    /// The time when it was first asked.
    pub at: Timestamp,
    /// The answer and its source.
    pub answer: Option<(Answer, String)>,
    /// The reason that it could not be answered when it was last asked.
    pub deferred_reason: Option<String>,
}

impl QuestionLog {
    /// Reads the questions of a run from a journal.
    ///
    /// # Errors
    /// When the run cannot be read.
    pub fn read(reader: &dyn JournalReader, run: &RunId) -> Result<Self, JournalError> {
        let mut questions = Self::default();
        for record in reader.records(run, 0) {
            questions.apply(&record?);
        }
        Ok(questions)
    }

    /// Applies the next event.
    pub fn apply(&mut self, record: &Record) {
        match &record.event {
            Event::QuestionAsked { question, .. } => {
                let question = Arc::clone(question);
                let id = question.id.clone();
                self.questions
                    .insert(id, AskedQuestion { question, at: record.at, answer: None, deferred_reason: None });
            }
            Event::QuestionAskedAgain { question, .. } => {
                if let Some(asked) = self.questions.get_mut(question) {
                    asked.deferred_reason = None;
                }
            }
            Event::QuestionAnswered { question, answer, by } => {
                if let Some(asked) = self.questions.get_mut(question) {
                    asked.answer = Some((answer.clone(), by.clone()));
                }
            }
            Event::QuestionLeftOpen { question, reason } => {
                if let Some(asked) = self.questions.get_mut(question) {
                    asked.deferred_reason = Some(reason.clone());
                }
            }
            _ => {}
        }
    }

    /// Returns the questions without an answer.
    pub fn open(&self) -> impl Iterator<Item = &AskedQuestion> {
        self.questions.values().filter(|asked| asked.answer.is_none())
    }

    /// Returns a question by its ID.
    pub fn get(&self, question: &str) -> Option<&AskedQuestion> {
        self.questions.get(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn question_is_open_until_answered() {
        let mut questions = QuestionLog::default();
        let open =
            |questions: &QuestionLog| questions.open().map(|asked| asked.question.id.to_string()).collect::<Vec<_>>();
        let mut seen = Vec::new();
        for record in samples::sample_run() {
            questions.apply(&record);
            if seen.last() != Some(&open(&questions)) {
                seen.push(open(&questions));
            }
        }
        assert_eq!(seen, [vec![], vec!["q1".to_owned()], vec![], vec!["q2".to_owned()]]);
        let asked = questions.get("q2").expect("was asked");
        assert_eq!((asked.deferred_reason.as_deref(), asked.at.0), (Some("no one answered"), 1_700_000_024_000));
        assert_eq!(questions.get("q1").and_then(|asked| asked.answer.clone()).expect("answered").1, "person");
    }
}
