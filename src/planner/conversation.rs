//! Asks a model until its answer can be used, a bounded number of times, each time with all that is wrong with the last.
//! Never judges an answer: whoever asks does.

use serde_json::Value;

use super::{
    draft::{self, Draft},
    limits::TokenLimit,
    llm::{PlanError, Progress, Rejected},
    prompt,
};
use crate::{
    config::{AgentsFile, Diagnostic, Diagnostics, MAX_SHOWN},
    llm::Llm,
    model::{
        ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, Ending, JsonObject, PlannerTurn,
        tool_call_markup,
    },
};

/// Most repairs of an answer. A model that has not mended it by then rarely does.
const MOST_REPAIRS: u32 = 2;

/// The warning of a plan whose tools nobody could be asked for.
pub(super) const UNREACHABLE: &str = "plan::unreachable_agent";

/// Limits the characters of a model's reason for planning nothing.
const MAX_ANALYSIS: usize = 4_000;

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

    /// The agents file, which holds the limits of an answer.
    fn agents(&self) -> &AgentsFile;

    /// Whether an answer without tasks is one.
    fn may_be_empty(&self) -> bool;

    /// The file that an answer makes.
    fn draft(&self, answer: &JsonObject) -> Draft;

    /// What the answer means, or the file that it makes with all that is wrong with it.
    fn judge(&self, answer: &JsonObject) -> Result<Self::Taken, (Draft, Diagnostics)>;
}

/// An answer that cannot be used.
enum Refused {
    /// It can be asked for again.
    Repairable(Repair),
    /// It says that nothing is to be done, in these words.
    NoTasks(String),
}

/// What another answer is asked for with.
struct Repair {
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
    let mut limit = TokenLimit::of(judge.agents());
    let mut rejected = None;
    let mut repairs = 0;
    loop {
        spent.turns += 1;
        request.max_tokens = limit.current();
        let reply = match llm.chat(&request).await {
            Ok(reply) => reply,
            // An endpoint may refuse a limit that it cannot serve.
            Err(ChatError::Endpoint { status: Some(400 | 422), .. }) if limit.shrink() => continue,
            Err(source) => return Err(PlanError::Model { source, rejected }),
        };
        spent.answered.push(PlannerTurn::of(&request, &reply));
        if let Some(warning) = &reply.warning {
            tell(Progress::Warned(warning.clone()));
        }
        let refused = match take(judge, &reply, &mut limit) {
            Ok(taken) => return Ok(taken),
            Err(Refused::NoTasks(analysis)) => return Err(PlanError::NoTasks { analysis }),
            Err(Refused::Repairable(repair)) => repair,
        };
        repairs += 1;
        if repairs > MOST_REPAIRS {
            return Err(PlanError::Invalid(Box::new(refused.rejected)));
        }
        let mistakes = refused.rejected.mistakes.errors() + refused.rejected.mistakes.warnings();
        tell(Progress::Repairing { mistakes, repair: repairs, most: MOST_REPAIRS });
        // Only the last answer is shown: what was wrong before it is of no use any more.
        request.messages.truncate(1);
        request.messages.push(ChatMessage::text(ChatRole::Assistant, refused.answer).into());
        request.messages.push(ChatMessage::text(ChatRole::User, prompt::repair(&refused.told)).into());
        rejected = Some(Box::new(refused.rejected));
    }
}

fn take<J: Judge>(judge: &J, reply: &ChatReply, limit: &mut TokenLimit) -> Result<J::Taken, Refused> {
    let answer = reply.text();
    if let Some(problem) = incomplete(judge, reply, &answer, limit) {
        return Err(unreadable(judge, &answer, problem));
    }
    let Some(object) = draft::read(&answer) else {
        let message = match (reply.parts.iter().find_map(called), tool_call_markup(&answer)) {
            (Some(call), _) => format!(
                "the answer is {call}, and no tool can be called while planning: answer with a plan as text, which calls \
                 tools in its tasks"
            ),
            (None, Some(markup)) => format!(
                "the answer is a tool call as text (`{markup}`), and no tool can be called while planning: answer with a \
                 plan, which calls tools in its tasks"
            ),
            (None, None) => "the answer holds no JSON object with `tasks`".to_owned(),
        };
        return Err(unreadable(judge, &answer, Problem { code: "plan::no_plan", message, help: None }));
    };
    let tasks = object.get("tasks");
    let is_empty = tasks.is_none_or(|tasks| tasks.is_null() || tasks.as_array().is_some_and(Vec::is_empty));
    let analysis = object.get("analysis").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if is_empty && !judge.may_be_empty() && !analysis.is_empty() {
        return Err(Refused::NoTasks(prompt::cut(analysis, MAX_ANALYSIS)));
    }
    let too_many = too_many_tasks(judge, tasks);
    let (draft, mistakes) = match (judge.judge(&object), too_many) {
        (Ok(taken), None) => return Ok(taken),
        (Ok(_), Some((message, help))) => {
            let draft = judge.draft(&object);
            (draft, Diagnostics::whole_file(judge.file(), "plan::too_many_tasks", message).with_help(help))
        }
        (Err((draft, mistakes)), Some((message, help))) => {
            (draft, mistakes.and("plan::too_many_tasks", message).with_help(help))
        }
        (Err((draft, mistakes)), None) => (draft, mistakes),
    };
    let mistakes = draft.strangers.iter().fold(mistakes, |mistakes, stranger| {
        mistakes.and("plan::unknown_key", format!("the answer has {stranger}, which its form does not have"))
    });
    let told = mistakes.list().iter().take(MAX_SHOWN).map(|found| in_words(found, &draft)).collect();
    Err(Refused::Repairable(Repair { rejected: Rejected { text: draft.text, mistakes }, answer, told }))
}

/// Returns the tool call that a part of a reply is.
fn called(part: &ChatPart) -> Option<String> {
    match part {
        ChatPart::UnreadableToolUse { name, .. } if name.is_empty() => Some("a tool call without a name".to_owned()),
        ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } => {
            Some(format!("a call of the tool `{name}`"))
        }
        _ => None,
    }
}

/// Returns what is wrong with a plan of more tasks than the limit, and what raises the limit.
fn too_many_tasks<J: Judge>(judge: &J, tasks: Option<&Value>) -> Option<(String, String)> {
    let max_tasks = judge.agents().planner.max_tasks;
    let planned = tasks.and_then(Value::as_array).map_or(0, Vec::len);
    let message = || format!("the plan has {planned} tasks, and at most {max_tasks} are allowed");
    (planned > max_tasks).then(|| (message(), "`max_tasks` of `[planner]` in the agents file is the limit".to_owned()))
}

/// What is wrong with an answer that is no plan.
struct Problem {
    code: &'static str,
    message: String,
    help: Option<String>,
}

/// Returns what is wrong with an answer that ended before its end. A complete plan in it may be a part of another one.
fn incomplete<J: Judge>(judge: &J, reply: &ChatReply, answer: &str, limit: &mut TokenLimit) -> Option<Problem> {
    match reply.ending() {
        Ending::Complete => None,
        Ending::Truncated => {
            let cut_at = limit.current();
            let help = limit.help(judge.agents());
            let is_reasoning = |part: &ChatPart| matches!(part, ChatPart::Reasoning { .. });
            let reasoned = match answer.trim().is_empty() && reply.parts.iter().any(is_reasoning) {
                true => ": reasoning used all of them, and no plan was written",
                false => "",
            };
            let room = match limit.grow() {
                true => format!("there is room for {} tokens now", limit.current()),
                false => "there is no more room".to_owned(),
            };
            let message = format!(
                "the answer was cut off at its limit of {cut_at} tokens{reasoned} ({room}): think less, and write a plan \
                 with fewer tasks and fewer words"
            );
            Some(Problem { code: "plan::cut_off", message, help: Some(help) })
        }
        Ending::Filtered => withheld("a content filter of the endpoint stopped the answer".to_owned()),
        Ending::Refused => withheld("the model refused to plan this goal".to_owned()),
        Ending::Unknown(word) => {
            withheld(format!("the answer ended for a reason that is not known (`{word}`), so it may not be complete"))
        }
    }
}

fn withheld(message: String) -> Option<Problem> {
    let help = Some("ask for the goal in other words, or choose another model".to_owned());
    Some(Problem { code: "plan::withheld", message, help })
}

fn unreadable<J: Judge>(judge: &J, answer: &str, problem: Problem) -> Refused {
    let Problem { code, message, help } = problem;
    let Draft { text, .. } = judge.unreadable(answer);
    let told = vec![format!("- {message}")];
    let mistakes = Diagnostics::whole_file(judge.file(), code, message);
    let mistakes = help.into_iter().fold(mistakes, Diagnostics::with_help);
    let answer = if answer.trim().is_empty() { "(nothing)".to_owned() } else { prompt::cut(answer, LONGEST_ECHO) };
    Refused::Repairable(Repair { rejected: Rejected { text, mistakes }, answer, told })
}

/// A mistake as the model is told it. It has never seen the file, so the task stands for the line.
fn in_words(found: &Diagnostic, draft: &Draft) -> String {
    let task = found.position.and_then(|position| draft.task_at(position.line));
    let place = task.map(|task| format!("in task `{task}`: ")).unwrap_or_default();
    let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("- {place}{}{help}", found.message)
}
