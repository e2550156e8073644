//! The interface to the sources of answers: people, and rules that people wrote.

use std::path::Path;

use crate::model::{Answer, Asker, JsonObject, Question};

/// A source of answers. Dropping the future withdraws the question.
#[async_trait::async_trait]
pub trait Human: Send + Sync {
    /// Asks a question.
    ///
    /// The future may stay pending forever only if an answer can come from elsewhere, since that withdraws the
    /// question.
    async fn ask(&self, question: &Question) -> HumanResponse;

    /// Returns whether a person can be asked in this process.
    fn is_person_here(&self) -> bool {
        false
    }

    /// Discards input that was typed for the question on the screen. Before the process exits, this keeps it from the
    /// shell.
    fn discard_typed(&self) {}

    /// Asks for values of the properties of `schema`, before a run exists. Only a person can give them.
    async fn fill_form(&self, _heading: &str, _schema: &JsonObject) -> HumanResponse {
        HumanResponse::Deferred { reason: "no person is available".to_owned() }
    }

    /// Asks for confirmation of a host action before a run exists. Only a person can confirm it.
    async fn confirm(&self, _what: &str) -> HumanResponse {
        HumanResponse::Deferred { reason: "no person is available".to_owned() }
    }

    /// Shows a plan before it runs, and asks whether to run it. Only a person can approve it.
    async fn review_plan(&self, _review: &PlanReview<'_>) -> ReviewDecision {
        ReviewDecision::Deferred { reason: "no person is available".to_owned() }
    }
}

/// A plan that a person sees before it runs.
#[derive(Debug, Clone, Copy)]
pub struct PlanReview<'a> {
    /// The plan, or what is wrong with it. It may contain text of a model or an agent.
    pub text: &'a str,
    /// The file that the person can change.
    pub file: Option<&'a Path>,
    /// Whether the plan can run.
    pub validity: PlanValidity,
    /// Whether the person can ask for another plan.
    pub wishes: PlanWishes,
}

/// Whether a person can ask for another plan in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanWishes {
    /// A planner takes them into account.
    Possible,
    /// A person wrote the plan.
    Impossible,
}

/// Whether a plan can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanValidity {
    /// The plan can run.
    Valid,
    /// The plan has mistakes, and has to be changed first.
    Invalid,
}

/// The decision of a person about a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReviewDecision {
    /// Run it.
    Approved,
    /// Do not run it.
    Rejected,
    /// The person may have changed the file, which has to be read again.
    Edited,
    /// The person wants another plan, in these words.
    Wished(String),
    /// No person was asked.
    Deferred {
        /// The reason.
        reason: String,
    },
}

/// The response to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum HumanResponse {
    /// An answer that is valid for the form of the question.
    Answered {
        /// The answer.
        answer: Answer,
        /// The source of the answer: `person`, `answers file`, `no input`.
        answered_by: String,
    },
    /// Approval of a call and of all further calls of its tool in the run.
    AllApproved {
        /// The source of the approval.
        by: String,
    },
    /// The question stays open, because it cannot be answered here. This happens only to approvals of the host and the
    /// plan.
    Deferred {
        /// The reason.
        reason: String,
    },
}

/// Returns the response to a question that cannot be answered, for the given reason.
pub(crate) fn default_response(question: &Question, reason: &str) -> HumanResponse {
    match question.asker {
        Asker::Plan { .. } | Asker::Replan { .. } | Asker::Host { .. } => {
            HumanResponse::Deferred { reason: reason.to_owned() }
        }
        // An agent waits only during its call, and cannot continue without an answer.
        Asker::Agent(_) => {
            HumanResponse::Answered { answer: Answer::Decline, answered_by: "no input available".to_owned() }
        }
    }
}
