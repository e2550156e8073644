//! Who answers when nobody can be asked, and who is asked first.
//! Never invents an answer.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use super::{Human, Reply, answers::Answers};
use crate::{
    model::{Answer, Asker, Question},
    report::{screen::Screen, text::printable},
};

/// Nobody: declines what agents ask, so that they can go on, and leaves the plan's approvals for later.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInput;

#[async_trait::async_trait]
impl Human for NoInput {
    async fn ask(&self, question: &Question) -> Reply {
        nobody(question, "there is no input")
    }

    async fn confirm(&self, _: &str) -> Reply {
        Reply::LeftOpen { reason: "there is no input".to_owned() }
    }
}

/// Nobody here, but somebody elsewhere: leaves every question open until an answer comes from another process, or the
/// agent stops waiting.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnsweredElsewhere;

#[async_trait::async_trait]
impl Human for AnsweredElsewhere {
    async fn ask(&self, _: &Question) -> Reply {
        std::future::pending().await
    }
}

/// What follows when nobody can answer, for the given reason.
pub(super) fn nobody(question: &Question, reason: &str) -> Reply {
    match question.asker {
        Asker::Plan { .. } | Asker::Replan { .. } | Asker::Host { .. } => Reply::LeftOpen { reason: reason.to_owned() },
        // An agent waits while its call lasts, and cannot go on without an answer.
        Asker::Agent(_) => Reply::Answered { answer: Answer::Decline, by: "no input".to_owned() },
    }
}

/// The rules of an answers file first, then somebody else.
pub struct RulesFirst {
    answers: Answers,
    otherwise: Box<dyn Human>,
    screen: Screen,
    /// The rules of which it was said that they do not fit; locked for moments, never while asking.
    told: Mutex<HashSet<usize>>,
}

impl RulesFirst {
    /// Asks `answers`, and `otherwise` where no rule answers. Rules that do not fit are named on `screen`, once each.
    pub fn new(answers: Answers, otherwise: Box<dyn Human>, screen: Screen) -> Self {
        Self { answers, otherwise, screen, told: Mutex::default() }
    }

    fn is_news(&self, rule: usize) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(rule)
    }
}

#[async_trait::async_trait]
impl Human for RulesFirst {
    async fn ask(&self, question: &Question) -> Reply {
        let found = self.answers.find(question);
        for misfit in found.misfits {
            if self.is_news(misfit.rule) {
                let problem = printable(&misfit.problem).into_owned();
                self.screen.println(format!("answers file: rule {} does not answer this: {problem}", misfit.rule));
            }
        }
        match found.answer {
            Some(answer) => Reply::Answered { answer, by: "answers file".to_owned() },
            None => self.otherwise.ask(question).await,
        }
    }

    fn is_person_here(&self) -> bool {
        self.otherwise.is_person_here()
    }

    fn discard_typed(&self) {
        self.otherwise.discard_typed();
    }

    async fn confirm(&self, what: &str) -> Reply {
        self.otherwise.confirm(what).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::{Form, Origin},
        report::screen::{Abilities, memory::Memory},
    };

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

    fn declined() -> Reply {
        Reply::Answered { answer: Answer::Decline, by: "no input".to_owned() }
    }

    #[tokio::test]
    async fn nobody_declines_what_agents_ask_and_leaves_the_plans_approvals_open() {
        assert_eq!(NoInput.ask(&question(fields())).await, declined());
        assert_eq!(NoInput.ask(&question(Form::Url { url: "https://a.test".to_owned() })).await, declined());
        let open = Reply::LeftOpen { reason: "there is no input".to_owned() };
        assert_eq!(NoInput.ask(&question(Form::Approval)).await, declined());
        let of_plan = Question { asker: Asker::Plan { task: "publish".into() }, ..question(Form::Approval) };
        assert_eq!(NoInput.ask(&of_plan).await, open);
    }

    #[tokio::test]
    async fn rules_answer_before_anybody_is_asked_and_a_misfit_is_named_once() {
        let memory = Memory::default();
        let abilities = Abilities { live: false, colour: false };
        let screen = Screen::over(memory.clone(), abilities).expect("a thread");
        let answers = Answers::new(vec![
            json!({"message": "book", "accept": {"confirm": "maybe"}}),
            json!({"message": "rail", "cancel": true}),
        ])
        .expect("rules");
        let human = RulesFirst::new(answers, Box::new(NoInput), screen.clone());

        assert_eq!(human.ask(&question(fields())).await, declined());
        assert_eq!(human.ask(&question(fields())).await, declined());
        let by_rail = Question { message: "By rail?".to_owned(), ..question(fields()) };
        let cancelled = Reply::Answered { answer: Answer::Cancel, by: "answers file".to_owned() };
        assert_eq!(human.ask(&by_rail).await, cancelled);
        screen.flush();
        assert_eq!(
            memory.text(),
            "answers file: rule 1 does not answer this: `confirm`: \"maybe\" does not fit: expected yes or no\n"
        );
    }
}
