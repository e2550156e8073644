//! Answers questions by the rules of a file that a person wrote beforehand (`--answers FILE`).
//! An answer is used only if it is valid for the form of the question.
//!
//! ```yaml
//! - agent: travel               # all given conditions must match
//!   message: book this trip     # a part of the message, ignoring case
//!   accept: { confirm: true }   # the fields; defaults apply to the others
//! - task: publish
//!   accept: true                # an approval, a page, or a form with sufficient defaults
//! - tool: delete
//!   decline: true               # or `cancel: true`
//! ```
//!
//! The first rule that matches answers. A rule whose fields do not fit the form is skipped and reported.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Answer, Form, JsonObject, Question};
use crate::ui::forms::form::FormSchema;

/// The rules, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerRules {
    rules: Vec<Rule>,
}

/// A problem with a rule of an answers file: it is invalid, or its answer does not fit the form of a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {problem}")]
pub struct RuleProblem {
    /// The position of the rule in the file, from 1.
    pub rule: usize,
    /// The description of the problem.
    pub problem: String,
}

/// The result of applying the rules to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleOutcome {
    /// The answer of the first rule that matches and fits the form.
    pub answer: Option<Answer>,
    /// The earlier rules that match but do not fit the form.
    pub mismatches: Vec<RuleProblem>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    agent: Option<String>,
    tool: Option<String>,
    task: Option<String>,
    /// In lowercase.
    message: Option<String>,
    action: RuleAction,
}

#[derive(Debug, Clone, PartialEq)]
enum RuleAction {
    Accept(JsonObject),
    Decline,
    Cancel,
}

/// A rule as written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    agent: Option<String>,
    tool: Option<String>,
    task: Option<String>,
    message: Option<String>,
    accept: Option<Value>,
    decline: Option<bool>,
    cancel: Option<bool>,
}

impl TryFrom<RawRule> for Rule {
    type Error = &'static str;

    fn try_from(written: RawRule) -> Result<Self, Self::Error> {
        let action = match (written.accept, written.decline, written.cancel) {
            (Some(Value::Bool(true)), None, None) => RuleAction::Accept(JsonObject::new()),
            (Some(Value::Object(fields)), None, None) => RuleAction::Accept(fields),
            (Some(_), None, None) => return Err("`accept` must be `true` or the fields of the answer"),
            (None, Some(true), None) => RuleAction::Decline,
            (None, None, Some(true)) => RuleAction::Cancel,
            _ => return Err("a rule must have exactly one of `accept`, `decline: true`, and `cancel: true`"),
        };
        let message = written.message.map(|message| message.to_lowercase());
        Ok(Self { agent: written.agent, tool: written.tool, task: written.task, message, action })
    }
}

impl AnswerRules {
    /// Parses the rules of an answers file.
    ///
    /// # Errors
    /// Returns the first rule that is invalid.
    pub fn new(rules: Vec<Value>) -> Result<Self, RuleProblem> {
        let read = |(index, rule): (usize, Value)| {
            let written = RawRule::deserialize(rule).map_err(|error| error.to_string());
            let rule = written.and_then(|written| Rule::try_from(written).map_err(str::to_owned));
            rule.map_err(|problem| RuleProblem { rule: index + 1, problem })
        };
        Ok(Self { rules: rules.into_iter().enumerate().map(read).collect::<Result<_, _>>()? })
    }

    /// Applies the rules to `question`.
    pub fn apply(&self, question: &Question) -> RuleOutcome {
        let mut mismatches = Vec::new();
        for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.matches(question)) {
            match rule.action.answer(&question.form) {
                Ok(answer) => return RuleOutcome { answer: Some(answer), mismatches },
                Err(problem) => mismatches.push(RuleProblem { rule: index + 1, problem }),
            }
        }
        RuleOutcome { answer: None, mismatches }
    }
}

impl Rule {
    fn matches(&self, question: &Question) -> bool {
        let (agent, task) = (question.asker.agent(), question.asker.task());
        let is = |condition: &Option<String>, value: Option<&str>| {
            condition.as_deref().is_none_or(|name| value == Some(name))
        };
        is(&self.agent, agent.map(|agent| agent.as_str()))
            && is(&self.tool, question.tool.as_deref())
            && self.task.as_deref().is_none_or(|name| task.is_some_and(|task| is_task_or_item(name, task.as_str())))
            && self.message.as_deref().is_none_or(|part| question.message.to_lowercase().contains(part))
    }
}

/// Returns whether `task` is the task `name` or an item of it.
fn is_task_or_item(name: &str, task: &str) -> bool {
    task.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

impl RuleAction {
    fn answer(&self, form: &Form) -> Result<Answer, String> {
        let fields = match self {
            Self::Decline => return Ok(Answer::Decline),
            Self::Cancel => return Ok(Answer::Cancel),
            Self::Accept(fields) => fields,
        };
        match form {
            Form::Fields { schema } => {
                let content = FormSchema::parse_schema(schema).complete_answer(fields.clone())?;
                Ok(Answer::Accept { content: Some(content) })
            }
            Form::Approval | Form::Url { .. } if fields.is_empty() => Ok(Answer::Accept { content: None }),
            Form::Approval | Form::Url { .. } => Err("it has fields, but the question is yes or no".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::read_answer_rules;
    use crate::model::{Asker, AttemptId, Origin};

    fn test_question(agent: &str, task: Option<&str>, message: &str) -> Question {
        let attempt = task.map(|task| AttemptId { task: task.into(), number: 1 });
        let Value::Object(schema) = json!({
            "type": "object",
            "properties": {"confirm": {"type": "boolean"}, "notes": {"type": "string", "default": "-"}},
            "required": ["confirm"],
        }) else {
            panic!("an object")
        };
        Question {
            id: "q1".into(),
            asker: Asker::Agent(Origin { agent: agent.into(), attempt, key: None }),
            item: None,
            tool: Some("book_trip".into()),
            message: message.to_owned(),
            form: Form::Fields { schema },
            call: None,
            deadline: None,
        }
    }

    fn answers(text: &str) -> AnswerRules {
        let indented = text.replace('\n', "\n  ");
        let file = if text.is_empty() { String::new() } else { format!("answers:\n  {indented}") };
        AnswerRules::new(read_answer_rules("answers.yaml", &file).expect(text)).expect(text)
    }

    fn answer(text: &str, question: &Question) -> Option<Answer> {
        answers(text).apply(question).answer
    }

    #[test]
    fn first_matching_rule_answers() {
        let question = test_question("travel", Some("book[2]"), "Book THIS trip?");
        let accepted = Some(Answer::Accept { content: Some(json!({"confirm": true, "notes": "-"})) });
        for conditions in [
            "agent: travel",
            "tool: book_trip",
            "task: book",
            "task: 'book[2]'",
            "message: this Trip",
            "agent: travel, task: book",
        ] {
            assert_eq!(
                answer(&format!("- {{{conditions}, accept: {{confirm: true}}}}"), &question),
                accepted,
                "{conditions}"
            );
        }
        for conditions in [
            "agent: trav",
            "tool: book",
            "task: boo",
            "task: 'book[1]'",
            "message: that trip",
            "agent: travel, task: find",
        ] {
            assert_eq!(
                answer(&format!("- {{{conditions}, accept: {{confirm: true}}}}"), &question),
                None,
                "{conditions}"
            );
        }
        assert_eq!(
            answer("- agent: other\n  decline: true\n- cancel: true\n- decline: true", &question),
            Some(Answer::Cancel)
        );
        assert_eq!(answer("", &question), None);
        assert_eq!(answer("[]", &question), None);
    }

    #[test]
    fn mismatched_rule_is_skipped_and_reported() {
        let question = test_question("travel", None, "Book?");
        let outcome = answers("- accept: {confirm: maybe}\n- accept: true\n- accept: {confirm: false, notes: 5}")
            .apply(&question);
        let problem = |text: &str| text.to_owned();
        assert_eq!(
            outcome,
            RuleOutcome {
                answer: None,
                mismatches: vec![
                    RuleProblem { rule: 1, problem: problem("`confirm`: \"maybe\" does not fit: expected yes or no") },
                    RuleProblem { rule: 2, problem: problem("`confirm` is required") },
                    RuleProblem { rule: 3, problem: problem("`notes`: 5 does not fit: expected text") },
                ]
            }
        );
    }

    #[test]
    fn accepts_approvals_and_urls_without_fields() {
        let asker = || Asker::Plan { task: "publish".into() };
        let url = Form::Url { url: "https://example.com".to_owned(), id: None };
        for form in [Form::Approval, url] {
            let question = Question { asker: asker(), tool: None, form, ..test_question("", None, "Post?") };
            let accepted = Some(Answer::Accept { content: None });
            assert_eq!(answer("- {task: publish, accept: true}", &question), accepted);
            assert_eq!(answer("- {agent: publish, accept: true}", &question), None);
            assert_eq!(answer("- accept: {confirm: true}", &question), None);
        }
    }

    #[test]
    fn invalid_rule_is_reported_by_number() {
        for (rules, rule, problem) in [
            (json!([{"cancel": true}, {"decline": true, "cancel": true}]), 2, "a rule must have exactly one of"),
            (json!([{"decline": false}]), 1, "a rule must have exactly one of"),
            (json!([{"accept": 5}]), 1, "`accept` must be `true` or the fields"),
            (json!([{"agent": ["a"], "cancel": true}]), 1, "invalid type: sequence"),
        ] {
            let Value::Array(rules) = rules else { panic!("a list") };
            let error = AnswerRules::new(rules).expect_err(problem);
            assert_eq!(error.rule, rule);
            assert!(error.problem.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn digits_with_a_leading_zero_are_text() {
        let Value::Object(schema) = json!({"type": "object", "properties": {"zip": {"type": "string"}}}) else {
            panic!("an object")
        };
        let question = Question { form: Form::Fields { schema }, ..test_question("travel", None, "Where?") };
        let accepted = Some(Answer::Accept { content: Some(json!({"zip": "08989"})) });
        assert_eq!(answer("- accept: {zip: 08989}", &question), accepted);
    }
}
