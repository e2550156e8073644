//! Policies for questions without an interactive person, and the order in which answer sources are used.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::rules::{AnswerRules, RuleProblem};
use crate::model::{JsonObject, Question};
use crate::ui::human::{Human, HumanResponse, PlanReview, ReviewDecision, default_response};
use crate::ui::terminal::screen::Screen;
use crate::view::text::printable;

/// Answers without any input: declines elicitations, so that agents can continue, and defers approvals of the plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInput;

#[async_trait::async_trait]
impl Human for NoInput {
    async fn ask(&self, question: &Question) -> HumanResponse {
        default_response(question, "no input is available")
    }

    async fn confirm(&self, _: &str) -> HumanResponse {
        HumanResponse::Deferred { reason: "no input is available".to_owned() }
    }

    async fn review_plan(&self, _: &PlanReview<'_>) -> ReviewDecision {
        ReviewDecision::Deferred { reason: "no input is available".to_owned() }
    }
}

/// Leaves every question open until another process answers it or the agent stops waiting.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoteAnswers;

#[async_trait::async_trait]
impl Human for RemoteAnswers {
    async fn ask(&self, _: &Question) -> HumanResponse {
        std::future::pending().await
    }
}

/// Answers by the rules of an answers file first, then by a fallback.
pub struct RulesThenHuman {
    answers: AnswerRules,
    fallback: Box<dyn Human>,
    screen: Screen,
    /// The mismatched rules that were already reported. Locked briefly, and never while asking.
    reported_rules: Mutex<HashSet<usize>>,
}

impl RulesThenHuman {
    /// Creates a source that uses `answers`, then `fallback` if no rule answers. Each mismatched rule is reported on
    /// `screen` once.
    pub fn new(answers: AnswerRules, fallback: Box<dyn Human>, screen: Screen) -> Self {
        Self { answers, fallback, screen, reported_rules: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl Human for RulesThenHuman {
    async fn ask(&self, question: &Question) -> HumanResponse {
        let outcome = self.answers.apply(question);
        for RuleProblem { rule, problem } in outcome.mismatches {
            if self.reported_rules.lock().insert(rule) {
                let problem = printable(&problem);
                self.screen.println(format!("answers file: rule {rule} does not match this question: {problem}"));
            }
        }
        match outcome.answer {
            Some(answer) => HumanResponse::Answered { answer, answered_by: "answers file".to_owned() },
            None => self.fallback.ask(question).await,
        }
    }

    fn is_person_here(&self) -> bool {
        self.fallback.is_person_here()
    }

    fn discard_typed(&self) {
        self.fallback.discard_typed();
    }

    async fn fill_form(&self, heading: &str, schema: &JsonObject) -> HumanResponse {
        self.fallback.fill_form(heading, schema).await
    }

    async fn confirm(&self, what: &str) -> HumanResponse {
        self.fallback.confirm(what).await
    }

    async fn review_plan(&self, review: &PlanReview<'_>) -> ReviewDecision {
        self.fallback.review_plan(review).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Answer, Asker, Form, Origin};
    use crate::ui::terminal::screen::ScreenCapabilities;
    use crate::ui::terminal::screen::memory::MemoryDevice;

    fn question(form: Form) -> Question {
        let asker = Asker::Agent(Origin { agent: "travel".into(), attempt: None, key: None });
        Question {
            id: "q1".into(),
            asker,
            item: None,
            tool: None,
            message: "Book?".to_owned(),
            form,
            call: None,
            deadline: None,
        }
    }

    fn fields() -> Form {
        let schema = json!({"properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]});
        Form::Fields { schema: schema.as_object().expect("an object").clone() }
    }

    fn declined() -> HumanResponse {
        HumanResponse::Answered { answer: Answer::Decline, answered_by: "no input available".to_owned() }
    }

    #[tokio::test]
    async fn no_input_declines_agents_and_defers_approvals() {
        assert_eq!(NoInput.ask(&question(fields())).await, declined());
        assert_eq!(NoInput.ask(&question(Form::Url { url: "https://a.test".to_owned(), id: None })).await, declined());
        let open = HumanResponse::Deferred { reason: "no input is available".to_owned() };
        assert_eq!(NoInput.ask(&question(Form::Approval)).await, declined());
        let of_plan = Question { asker: Asker::Plan { task: "publish".into() }, ..question(Form::Approval) };
        assert_eq!(NoInput.ask(&of_plan).await, open);
    }

    #[tokio::test]
    async fn rules_answer_first_and_mismatches_are_reported_once() {
        let memory = MemoryDevice::default();
        let capabilities = ScreenCapabilities { live: false, color: false };
        let screen = Screen::with_device(memory.clone(), capabilities).expect("a thread");
        let answers = AnswerRules::new(vec![
            json!({"message": "book", "accept": {"confirm": "maybe"}}),
            json!({"message": "rail", "cancel": true}),
        ])
        .expect("rules");
        let human = RulesThenHuman::new(answers, Box::new(NoInput), screen.clone());

        assert_eq!(human.ask(&question(fields())).await, declined());
        assert_eq!(human.ask(&question(fields())).await, declined());
        let by_rail = Question { message: "By rail?".to_owned(), ..question(fields()) };
        let cancelled = HumanResponse::Answered { answer: Answer::Cancel, answered_by: "answers file".to_owned() };
        assert_eq!(human.ask(&by_rail).await, cancelled);
        screen.flush();
        assert_eq!(
            memory.text(),
            "answers file: rule 1 does not match this question: `confirm`: \"maybe\" does not fit: expected yes or no\n"
        );
    }
}
