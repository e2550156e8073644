//! Asks a model until its answer can be used, a bounded number of times, each time with all that is wrong with the last.
//! Never judges an answer: whoever asks does.

use super::{
    draft::{self, Draft},
    llm::{PlanError, Progress, Rejected},
    prompt,
};
use crate::{
    config::{Diagnostic, Diagnostics, MAX_SHOWN},
    llm::Llm,
    model::{ChatMessage, ChatReply, ChatRequest, ChatRole, JsonObject, PlannerTurn},
};

/// Most repairs of an answer. A model that has not mended it by then rarely does.
const MOST_REPAIRS: u32 = 2;

/// The warning of a plan whose tools nobody could be asked for.
pub(super) const UNREACHABLE: &str = "plan::unreachable_agent";

/// Most characters of an answer without a plan that the model is shown again.
const LONGEST_ECHO: usize = 2_000;

/// How often a model was asked, and what it answered.
#[derive(Default)]
pub(super) struct Spent {
    pub(super) turns: u32,
    /// The turns that were answered.
    pub(super) answered: Vec<PlannerTurn>,
}

/// Whoever hears how it goes.
pub(super) struct Watch<'a> {
    pub(super) tell: &'a mut (dyn FnMut(Progress) + Send),
    pub(super) spent: &'a mut Spent,
}

/// Judges a model's answers.
pub(super) trait Judge: Send + Sync {
    /// What comes of an answer that will do.
    type Taken: Send;

    /// The file as which an answer that is nothing at all is kept.
    fn unreadable(&self, answer: &str) -> Draft;

    /// The answer's name in its mistakes.
    fn file(&self) -> &str;

    /// What the answer means, or the file that it makes with all that is wrong with it.
    fn judge(&self, answer: &JsonObject) -> Result<Self::Taken, (Draft, Diagnostics)>;
}

/// An answer that cannot be used.
struct Refused {
    rejected: Rejected,
    /// The answer as the model is shown it again; never empty.
    answer: String,
    /// Every mistake, in the validator's words, with the task that it is in.
    told: Vec<String>,
}

/// Asks, and at most twice more for repairs.
pub(super) async fn converse<J: Judge>(
    llm: &dyn Llm,
    mut request: ChatRequest,
    judge: &J,
    watch: Watch<'_>,
) -> Result<J::Taken, PlanError> {
    let Watch { tell, spent } = watch;
    let mut rejected = None;
    loop {
        spent.turns += 1;
        let reply = match llm.chat(&request).await {
            Ok(reply) => reply,
            Err(source) => return Err(PlanError::Model { source, rejected }),
        };
        spent.answered.push(PlannerTurn::of(&request, &reply));
        let refused = match take(judge, &reply) {
            Ok(taken) => return Ok(taken),
            Err(refused) => refused,
        };
        let repair = spent.turns;
        if repair > MOST_REPAIRS {
            return Err(PlanError::Invalid(Box::new(refused.rejected)));
        }
        let mistakes = refused.rejected.mistakes.errors() + refused.rejected.mistakes.warnings();
        tell(Progress::Repairing { mistakes, repair, most: MOST_REPAIRS });
        // Only the last answer is shown: what was wrong before it is of no use any more.
        request.messages.truncate(1);
        request.messages.push(ChatMessage::text(ChatRole::Assistant, refused.answer));
        request.messages.push(ChatMessage::text(ChatRole::User, prompt::repair(&refused.told)));
        rejected = Some(Box::new(refused.rejected));
    }
}

fn take<J: Judge>(judge: &J, reply: &ChatReply) -> Result<J::Taken, Refused> {
    let answer = reply.text();
    let Some(object) = draft::read(&answer) else { return Err(unreadable(judge, reply, &answer)) };
    judge.judge(&object).map_err(|(draft, mistakes)| {
        let mistakes = draft.strangers.iter().fold(mistakes, |mistakes, stranger| {
            mistakes.and("plan::unknown_key", format!("the answer has {stranger}, which its form does not have"))
        });
        let told = mistakes.list().iter().take(MAX_SHOWN).map(|found| in_words(found, &draft)).collect();
        Refused { rejected: Rejected { text: draft.text, mistakes }, answer, told }
    })
}

fn unreadable<J: Judge>(judge: &J, reply: &ChatReply, answer: &str) -> Refused {
    let message = match reply.stop_reason.as_str() {
        "maxTokens" => "the answer was cut off before its end, and so is no plan: a plan with fewer words is needed",
        _ => "the answer holds no JSON object with `tasks`",
    };
    let Draft { text, .. } = judge.unreadable(answer);
    let mistakes = Diagnostics::whole_file(judge.file(), "plan::no_plan", message);
    let answer = if answer.trim().is_empty() { "(nothing)".to_owned() } else { prompt::cut(answer, LONGEST_ECHO) };
    Refused { rejected: Rejected { text, mistakes }, answer, told: vec![format!("- {message}")] }
}

/// A mistake as the model is told it. It has never seen the file, so the task stands for the line.
fn in_words(found: &Diagnostic, draft: &Draft) -> String {
    let task = found.position.and_then(|position| draft.task_at(position.line));
    let place = task.map(|task| format!("in task `{task}`: ")).unwrap_or_default();
    let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("- {place}{}{help}", found.message)
}
