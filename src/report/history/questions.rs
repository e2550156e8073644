//! Knows the questions of a run, and what came of each.
//! Never asks one.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::{
    journal::{JournalError, Reader},
    model::{Answer, Event, Question, QuestionId, Record, RunId, Timestamp},
};

/// The questions of a run, in the order in which they were asked.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    asked: IndexMap<QuestionId, Asked>,
}

/// A question that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The question.
    pub question: Arc<Question>,
    /// When it was asked first.
    pub at: Timestamp,
    /// The answer, and who gave it.
    pub answer: Option<(Answer, String)>,
    /// Why nobody could answer where it was asked last.
    pub left_open_because: Option<String>,
}

impl Questions {
    /// Those of a run in a journal.
    ///
    /// # Errors
    /// When the run cannot be read.
    pub fn read(reader: &Reader, run: &RunId) -> Result<Self, JournalError> {
        let mut questions = Self::default();
        for record in reader.records(run, 0) {
            questions.apply(&record?);
        }
        Ok(questions)
    }

    /// Takes the next event.
    pub fn apply(&mut self, record: &Record) {
        match &record.event {
            Event::QuestionAsked { question, .. } => {
                let question = Arc::clone(question);
                let id = question.id.clone();
                self.asked.insert(id, Asked { question, at: record.at, answer: None, left_open_because: None });
            }
            Event::QuestionAskedAgain { question, .. } => {
                if let Some(asked) = self.asked.get_mut(question) {
                    asked.left_open_because = None;
                }
            }
            Event::QuestionAnswered { question, answer, by } => {
                if let Some(asked) = self.asked.get_mut(question) {
                    asked.answer = Some((answer.clone(), by.clone()));
                }
            }
            Event::QuestionLeftOpen { question, reason } => {
                if let Some(asked) = self.asked.get_mut(question) {
                    asked.left_open_because = Some(reason.clone());
                }
            }
            _ => {}
        }
    }

    /// Those without an answer.
    pub fn open(&self) -> impl Iterator<Item = &Asked> {
        self.asked.values().filter(|asked| asked.answer.is_none())
    }

    /// One of them.
    pub fn get(&self, question: &str) -> Option<&Asked> {
        self.asked.get(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn a_question_is_open_until_it_is_answered() {
        let mut questions = Questions::default();
        let open =
            |questions: &Questions| questions.open().map(|asked| asked.question.id.to_string()).collect::<Vec<_>>();
        let mut seen = Vec::new();
        for record in samples::journey() {
            questions.apply(&record);
            if seen.last() != Some(&open(&questions)) {
                seen.push(open(&questions));
            }
        }
        assert_eq!(seen, [vec![], vec!["q1".to_owned()], vec![], vec!["q2".to_owned()]]);
        let asked = questions.get("q2").expect("was asked");
        assert_eq!((asked.left_open_because.as_deref(), asked.at.0), (Some("nobody is there"), 1_700_000_024_000));
        assert_eq!(questions.get("q1").and_then(|asked| asked.answer.clone()).expect("answered").1, "person");
    }
}
