//! Gets answers from people, or from rules that people wrote.
//! Never decides what an answer means.

pub mod answers;
pub mod form;
pub mod form_prompt;
mod line_reader;
pub mod policy;
pub mod terminal_prompter;
mod url_prompt;

use crate::model::{Answer, Question};

/// Somebody who can be asked. Dropping the future withdraws the question.
#[async_trait::async_trait]
pub trait Human: Send + Sync {
    /// Asks; waits for ever only where an answer can come from elsewhere, which withdraws the question.
    async fn ask(&self, question: &Question) -> HumanResponse;

    /// Returns whether a person can be asked here, now.
    fn is_person_here(&self) -> bool {
        false
    }

    /// Throws away what is typed for a question that is on the screen: the process ends, and the shell must not get it.
    fn discard_typed(&self) {}

    /// Asks for a yes or a no to what the host is about to do, before there is a run whose question it could be. Only
    /// a person can say yes.
    async fn confirm(&self, _what: &str) -> HumanResponse {
        HumanResponse::Deferred { reason: "nobody can be asked".to_owned() }
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum HumanResponse {
    /// An answer, valid by the question's form.
    Answered {
        /// What was said.
        answer: Answer,
        /// Who said it: `person`, `answers file`, `no input`.
        answered_by: String,
    },
    /// A yes to a call and to every further call of its task in the run.
    AllApproved {
        /// Who said it.
        by: String,
    },
    /// Nobody here can answer; only the plan's approvals end so.
    Deferred {
        /// Why.
        reason: String,
    },
}
