//! Asks for the approval of a call or a plan, which a person can change first.

use serde_json::Value;

use super::dialogue::{CANCEL_COMMAND, Dialogue, DialogueExit};
use crate::model::{JsonObject, ProposedCall, Question};
use crate::ui::forms::changed_arguments::parse_arguments;
use crate::ui::forms::form_prompt::{call_lines, details};
use crate::ui::human::{PlanReview, PlanValidity, PlanWishes, ReviewDecision};

/// The scope of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yes {
    /// The call that is shown, with these arguments if the person changed them.
    ToThis(Option<JsonObject>),
    /// That call and all further calls like it.
    ToAll,
}

/// The keys of an approval, each with its effect.
struct ApprovalKeys(Vec<(&'static str, String)>);

impl ApprovalKeys {
    fn of(question: &Question, edited: Option<&JsonObject>) -> Self {
        let mut keys = vec![("y", "approves the call".to_owned()), ("n", "declines it, and its task fails".to_owned())];
        match &question.call {
            Some(_) if edited.is_some() => keys[0].1 = "approves the call with the changed arguments".to_owned(),
            Some(call) => {
                keys.push((
                    "a",
                    format!("approves this and all further calls of `{}.{}` in this run", call.agent, call.tool),
                ));
            }
            None if question.item.is_some_and(|item| item.of > 1) => {
                keys.push(("a", "approves this and all further items of the task in this run".to_owned()));
            }
            None => {}
        }
        if question.call.as_ref().is_some_and(|call| call.arguments.is_object()) {
            keys.push(("e", "changes the arguments first".to_owned()));
        }
        if details(question).is_some() {
            keys.push(("d", "shows all arguments".to_owned()));
        }
        Self(keys)
    }

    fn label(&self) -> String {
        self.0.iter().map(|(key, _)| format!("{key}/")).collect::<String>() + "?"
    }

    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == key)
    }
}

impl Dialogue<'_> {
    /// Asks for approval of one call, or of all calls like it.
    pub(super) async fn approval(&mut self, question: &Question) -> Result<Yes, DialogueExit> {
        let mut shown = question.clone();
        let mut edited = None;
        loop {
            let keys = ApprovalKeys::of(&shown, edited.as_ref());
            let line = self.read_line(&format!("approve? [{}]", keys.label())).await?.to_lowercase();
            let key = match line.as_str() {
                "yes" => "y",
                "no" => "n",
                "all" => "a",
                "edit" => "e",
                "details" => "d",
                other => other,
            };
            match (key, &shown.call) {
                ("y", _) => return Ok(Yes::ToThis(edited)),
                ("n", _) => return Err(DialogueExit::Declined),
                ("a", _) if keys.has("a") => return Ok(Yes::ToAll),
                ("d", _) if keys.has("d") => {
                    self.write_lines(details(&shown).into_iter().flatten().map(|line| format!("  {line}")));
                }
                ("e", Some(call)) if keys.has("e") => {
                    if let Some(arguments) = self.edit_arguments(call).await? {
                        let call = ProposedCall { arguments: Value::Object(arguments.clone()), ..call.clone() };
                        edited = Some(arguments);
                        shown.call = Some(call);
                        self.write_lines(call_lines(&shown).into_iter().map(|line| format!("  {line}")));
                    }
                }
                ("?" | "h" | "help" | ":help", _) => {
                    let lines = keys.0.iter().map(|(key, effect)| format!("  `{key}` {effect}"));
                    self.write_lines(lines.chain([format!("  `{CANCEL_COMMAND}` dismisses the question")]));
                }
                ("", _) => self.print("type `y` or `n`, or `?` for help"),
                _ => self.print(&format!("`{line}` does not fit: type one of `{}`", keys.label())),
            }
        }
    }

    /// Lets the person change the arguments until they fit the tool. Returns `None` if they stay as they were.
    async fn edit_arguments(&mut self, call: &ProposedCall) -> Result<Option<JsonObject>, DialogueExit> {
        let mut text = serde_json::to_string_pretty(&call.arguments).unwrap_or_default();
        loop {
            let edited = match self.edit_text(&text, ".json").await {
                Some(Ok(edited)) => edited,
                Some(Err(problem)) => {
                    self.print(&problem);
                    return Ok(None);
                }
                None => {
                    let line = inline(&text);
                    let typed = self.read_line_from("arguments as JSON", &line).await?;
                    if typed.is_empty() { line } else { typed }
                }
            };
            match parse_arguments(call, &edited) {
                Ok(arguments) if Value::Object(arguments.clone()) == call.arguments => {
                    self.print("the arguments are unchanged");
                    return Ok(None);
                }
                Ok(arguments) => return Ok(Some(arguments)),
                Err(problems) => {
                    problems.iter().for_each(|problem| self.print(problem));
                    text = edited;
                }
            }
            loop {
                match self.read_line("edit again? [Y/n]").await?.to_lowercase().as_str() {
                    "" | "y" | "yes" | "e" => break,
                    "n" | "no" => return Ok(None),
                    _ => self.print("type `y` to edit the arguments again, or `n` to keep them as they were"),
                }
            }
        }
    }
}

impl Dialogue<'_> {
    /// Asks whether to run a plan, which the person can change in an editor.
    pub(super) async fn review_plan(&mut self, review: &PlanReview<'_>) -> Result<ReviewDecision, DialogueExit> {
        let keys = match (review.validity, review.file) {
            (PlanValidity::Valid, Some(_)) => "[Y]es / [e]dit / [n]o",
            (PlanValidity::Valid, None) => "[Y]es / [n]o",
            (PlanValidity::Invalid, _) => "[e]dit / [n]o",
        };
        let keys = match review.wishes {
            PlanWishes::Possible => format!("{keys} / what to change"),
            PlanWishes::Impossible => keys.to_owned(),
        };
        let is_valid = review.validity == PlanValidity::Valid;
        loop {
            let line = self.read_line(&format!("run this plan? {keys}")).await?;
            match (line.to_lowercase().as_str(), review.file) {
                ("" | "y" | "yes", _) if is_valid => return Ok(ReviewDecision::Approved),
                ("n" | "no", _) => return Ok(ReviewDecision::Rejected),
                ("e" | "edit", Some(file)) => match self.edit_file(file).await {
                    Some(Ok(())) => return Ok(ReviewDecision::Edited),
                    Some(Err(problem)) => self.print(&problem),
                    None => self.print(&format!(
                        "no editor is set: set `VISUAL` or `EDITOR`, or change `{0}` and run it with `kapell run {0}`",
                        file.display()
                    )),
                },
                // A sentence is a wish; a word may be a slip.
                _ if review.wishes == PlanWishes::Possible && line.trim().contains(' ') => {
                    return Ok(ReviewDecision::Wished(line.trim().to_owned()));
                }
                _ => self.print(&format!("`{line}` does not fit: expected one of {keys}")),
            }
        }
    }
}

/// Returns JSON in one line.
fn inline(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or_else(|_| text.replace('\n', " "), |value| value.to_string())
}
