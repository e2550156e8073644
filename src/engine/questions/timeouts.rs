//! Answers overdue questions with the default of the plan.

use serde_json::Value;

use crate::engine::state::run::Fold;
use crate::engine::state::run_state::State;
use crate::engine::transition::Transition;
use crate::model::{Answer, Asker, DefaultAnswer, Event, Form, JsonObject, Timestamp};

/// The name recorded as the author of a default answer.
const ANSWERED_BY: &str = "its deadline";

impl State {
    /// Returns the time at which a question of `asker` gets a default answer, and that default.
    pub(crate) fn question_deadline(&self, asker: &Asker, now: Timestamp) -> Option<(Timestamp, DefaultAnswer)> {
        let node = self.graph.node_index(asker.task()?.as_str())?;
        let policy = self.graph[node].task.questions?;
        Some((now.after(policy.timeout.0), policy.default))
    }
}

impl Transition<'_> {
    /// Answers every overdue question.
    pub(crate) fn answer_overdue_questions(&mut self) {
        while let Some((at, id)) = self.run.queues.question_deadlines.first().cloned() {
            let entry = self.run.questions.get(&id).filter(|entry| entry.can_be_answered());
            let Some(question) = entry.map(|entry| &entry.question) else {
                self.run.queues.question_deadlines.pop_first();
                continue;
            };
            if at > self.now {
                break;
            }
            let default = question.deadline.as_ref().map_or(DefaultAnswer::Decline, |deadline| deadline.default);
            let answer = default_answer(default, &question.form);
            self.run.queues.question_deadlines.pop_first();
            self.on_question_answered(id, answer, ANSWERED_BY.to_owned());
        }
    }
}

/// Returns the answer for a default. A form is declined if its required fields do not all have defaults.
fn default_answer(default: DefaultAnswer, form: &Form) -> Answer {
    match (default, form) {
        (DefaultAnswer::Accept, Form::Approval) => Answer::Accept { content: None },
        (DefaultAnswer::Accept, Form::Fields { schema }) => match form_defaults(schema) {
            Some(content) => Answer::Accept { content: Some(Value::Object(content)) },
            None => Answer::Decline,
        },
        (DefaultAnswer::Decline, _) | (DefaultAnswer::Accept, Form::Url { .. }) => Answer::Decline,
        (DefaultAnswer::Cancel, _) => Answer::Cancel,
    }
}

/// Returns the defaults of a form's fields, or `None` if a required field has no default.
fn form_defaults(schema: &JsonObject) -> Option<JsonObject> {
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let given: JsonObject =
        fields.filter_map(|(name, field)| Some((name.clone(), field.get("default")?.clone()))).collect();
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    required.filter_map(Value::as_str).all(|name| given.contains_key(name)).then_some(given)
}

impl Fold<'_> {
    /// Stores the time at which a question gets its default answer.
    pub(crate) fn record_question_deadline(&mut self, event: &Event) {
        if let Event::QuestionAsked { question, .. } = event
            && let Some(deadline) = &question.deadline
        {
            self.queues.question_deadlines.insert((deadline.at, question.id.clone()));
        }
    }
}
