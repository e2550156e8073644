//! Asks a model until its reply is valid, a bounded number of times. Each repair request lists all diagnostics of the
//! last reply. The caller's [`AnswerValidator`] decides what is valid.

use serde_json::Value;

use super::answer::plan_draft::{self, PlanDraft};
use super::answer::reply_form::{self, Conclusion};
use super::answer::streamed_reply;
use super::constant_call::ConstantCall;
use super::planning::{Goal, PlanError, PlanningContext, PlanningProgress, RejectedPlan};
use super::prompt::rules;
use super::schema::answer_schema::{FormLimits, PlanForm};
use super::token_limit::TokenLimit;
use super::watched_request::{ReplyEnd, WatchedReply, request_reply, task_written};
use crate::config::{AgentsFile, Diagnostic, Diagnostics, MAX_SHOWN_DIAGNOSTICS, PlannerForm};
use crate::model::text::truncate_chars;
use crate::model::{
    ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, JsonObject, LlmSpec, PlannerExchange,
    ReplySchema, ReplyStatus, tool_call_markup,
};

/// The maximum number of repairs. A model that has not fixed its reply by then rarely does.
const MAX_REPAIRS: u32 = 2;

/// The code of the warning about a plan that uses an unreachable agent.
const UNREACHABLE_AGENT: &str = "plan::unreachable_agent";

/// The maximum length of a reply without a plan when it is repeated to the model.
const MAX_ECHO_CHARS: usize = 2_000;

/// The maximum number of tokens of a reply in the compact form, which the bounds of its schema fit into.
const MAX_COMPACT_TOKENS: u32 = 2_048;

/// The number of requests to a model, and its replies.
#[derive(Default)]
pub(super) struct PlannerLog {
    pub(super) requests: u32,
    /// The completed exchanges.
    pub(super) exchanges: Vec<PlannerExchange>,
}

/// The receivers of progress and of the log.
pub(super) struct PlanningObserver<'a> {
    pub(super) on_progress: &'a mut (dyn FnMut(PlanningProgress) + Send),
    pub(super) log: &'a mut PlannerLog,
}

/// A valid reply and its warnings, or all of its diagnostics.
type LoadResult<T> = Result<(T, Diagnostics), Diagnostics>;

/// A validator of a model's replies, whose valid value is a `T`.
pub(super) struct AnswerValidator<'a, T> {
    pub(super) goal: Goal<'a>,
    pub(super) context: &'a PlanningContext<'a>,
    /// What a reply without tasks is.
    pub(super) empty_reply: EmptyReply,
    /// Writes the reply as a file.
    pub(super) draft: &'a (dyn Fn(&JsonObject) -> PlanDraft + Sync),
    /// Returns the call of a complete task that can start before the plan is complete.
    pub(super) early_call: &'a (dyn Fn(&Value) -> Option<ConstantCall> + Sync),
    /// Validates the text of the file.
    pub(super) load: &'a (dyn Fn(&str) -> LoadResult<T> + Sync),
}

/// What a reply without tasks is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyReply {
    /// An answer, a question, or the reason why nothing can be done.
    Conclusion,
    /// A valid reply like others.
    Plan,
}

/// A usable reply.
#[derive(Debug)]
pub(super) enum PlannerReply<T> {
    /// A valid plan or patch, and the text of the reply.
    Valid(T, String),
    /// Something else than a plan.
    Conclusion(Conclusion),
}

/// The first request to a model.
pub(super) struct PlanningPrompt {
    pub(super) system: String,
    pub(super) question: String,
    /// The schema of the reply.
    pub(super) output: ReplySchema,
    /// The form of the plan.
    pub(super) limits: FormLimits,
}

/// The prompts for a plan.
pub(super) struct PlanningPrompts<'a> {
    /// The prompt of the first request.
    pub(super) first: PlanningPrompt,
    /// Returns the prompt for a simpler form, if there is one.
    pub(super) simplified: &'a (dyn Fn(FormLimits) -> Option<PlanningPrompt> + Sync),
}

impl PlanningPrompts<'_> {
    /// Returns the prompt for a model that cannot write the form of `limits`.
    fn simpler(&self, limits: FormLimits, agents: &AgentsFile) -> Option<PlanningPrompt> {
        let may_be_compact = limits.form == PlanForm::Full && agents.planner.form == PlannerForm::Auto;
        // Models behind hosted endpoints are larger.
        (may_be_compact && limits.has_bounds).then(|| (self.simplified)(limits.compact()))?
    }
}

/// The rejection of a reply.
enum AnswerRejection {
    /// The model can be asked for a repair.
    Repairable(Box<RepairRequest>),
    /// The model or its endpoint refused, for this reason.
    Refused(String),
}

/// The contents of a repair request.
struct RepairRequest {
    rejected: RejectedPlan,
    /// The reply as it is repeated to the model; never empty.
    answer: String,
    /// The message of each diagnostic, with its task.
    problems: Vec<String>,
    /// Whether the reply is a plan, although not a valid one.
    is_readable: bool,
}

/// Requests a plan, and at most two repairs.
pub(super) async fn plan_with_repairs<T>(
    prompts: PlanningPrompts<'_>,
    validator: &AnswerValidator<'_, T>,
    observer: PlanningObserver<'_>,
) -> Result<PlannerReply<T>, PlanError> {
    let PlanningObserver { on_progress, log } = observer;
    let PlanningContext { llm, agents, .. } = *validator.context;
    let model = agents.planner_model().map_or(LlmSpec::DEFAULT_NAME, |spec| spec.model.as_str());
    let mut limit = TokenLimit::from_agents(agents);
    let mut limits = prompts.first.limits;
    let mut request = ChatRequest {
        model: agents.planner.model.clone(),
        temperature: agents.planner.temperature,
        reasoning_effort: agents.planner.reasoning_effort.clone(),
        ..ChatRequest::default()
    };
    set_prompt(&mut request, &prompts.first);
    let mut rejected = None;
    let mut repairs = 0;
    let mut last_answer = String::new();
    loop {
        log.requests += 1;
        request.max_tokens = match limits.form {
            PlanForm::Full => limit.current(),
            PlanForm::Compact => limit.current().min(MAX_COMPACT_TOKENS),
        };
        let mut on_task = |number: usize, task: &Value| {
            on_progress(task_written(number, task));
            if let Some(call) = (validator.early_call)(task) {
                on_progress(PlanningProgress::CallReady(Box::new(call)));
            }
        };
        let WatchedReply { reply, end } = match request_reply(llm, &request, (limits, model), &mut on_task).await {
            Ok(watched) => watched,
            // An endpoint may reject a limit that it does not support.
            Err(ChatError::Endpoint { status: Some(400 | 422), .. }) if limit.shrink() => continue,
            Err(source) => return Err(PlanError::Model { source, rejected }),
        };
        log.exchanges.push(PlannerExchange::from_reply(&request, &reply));
        if let Some(warning) = &reply.warning {
            on_progress(PlanningProgress::Warned(warning.clone()));
        }
        let repair = match evaluate(validator, &reply, (end, limits), &mut limit) {
            Ok(accepted) => return Ok(accepted),
            Err(AnswerRejection::Refused(reason)) => return Err(PlanError::Refused { reason }),
            Err(AnswerRejection::Repairable(repair)) => *repair,
        };
        repairs += 1;
        // A model that repeats its reply word for word would do so again.
        let is_complete = end == ReplyEnd::Repetition || reply.reply_status() == ReplyStatus::Complete;
        let is_repeated = is_complete && repair.answer == last_answer;
        // A model that cannot repair its plan may be able to write a simpler one.
        let is_hopeless = !repair.is_readable || is_repeated || repairs >= MAX_REPAIRS;
        let simpler = if is_hopeless { prompts.simpler(limits, agents) } else { None };
        if let Some(simpler) = simpler {
            on_progress(PlanningProgress::Simplified);
            limits = simpler.limits;
            set_prompt(&mut request, &simpler);
            rejected = Some(Box::new(repair.rejected));
            continue;
        }
        if repairs > MAX_REPAIRS || is_repeated {
            return Err(PlanError::Invalid(Box::new(repair.rejected)));
        }
        let mistakes = repair.rejected.mistakes.errors() + repair.rejected.mistakes.warnings();
        on_progress(PlanningProgress::Repairing { mistakes, repair: repairs, max: MAX_REPAIRS });
        last_answer.clone_from(&repair.answer);
        // Only the last reply is sent: earlier diagnostics are obsolete.
        request.messages.truncate(1);
        request.messages.push(ChatMessage::text(ChatRole::Assistant, repair.answer).into());
        request.messages.push(ChatMessage::text(ChatRole::User, rules::repair_prompt(&repair.problems)).into());
        rejected = Some(Box::new(repair.rejected));
    }
}

/// Sets the prompt of a conversation that begins.
fn set_prompt(request: &mut ChatRequest, prompt: &PlanningPrompt) {
    request.system = Some(prompt.system.clone());
    request.messages = vec![ChatMessage::text(ChatRole::User, prompt.question.clone()).into()];
    request.output = Some(prompt.output.clone());
}

fn evaluate<T>(
    validator: &AnswerValidator<'_, T>,
    reply: &ChatReply,
    (end, limits): (ReplyEnd, FormLimits),
    limit: &mut TokenLimit,
) -> Result<PlannerReply<T>, AnswerRejection> {
    let answer = reply.text();
    if end == ReplyEnd::Repetition && limits.form == PlanForm::Full {
        let message = "the answer was ended, because it repeats itself or has an endless task".to_owned();
        let mistakes = Diagnostics::for_file(validator.context.file, "plan::cut_off", message);
        let mistakes = mistakes.with_help("set `form = \"compact\"` in `[planner]`, or choose a larger model");
        return Err(reject_unreadable(validator, &answer, mistakes));
    }
    if let Some(reason) = refusal(reply) {
        return Err(AnswerRejection::Refused(reason));
    }
    if end == ReplyEnd::Endpoint
        && let Some(mistakes) = truncation_problem(validator.context, reply, &answer, limit)
    {
        return Err(reject_unreadable(validator, &answer, mistakes));
    }
    let Some(mut object) = reply_form::find_reply(&answer) else {
        let message = match (reply.parts.iter().find_map(describe_tool_call), tool_call_markup(&answer)) {
            (Some(call), _) => format!(
                "the answer is {call}, but tools cannot be called during planning: answer with a plan as text whose \
                 tasks call the tools"
            ),
            (None, Some(markup)) => format!(
                "the answer is a tool call as text (`{markup}`), but tools cannot be called during planning: answer with \
                 a plan whose tasks call the tools"
            ),
            (None, None) => "the answer does not contain a JSON object with `tasks`".to_owned(),
        };
        let mistakes = Diagnostics::for_file(validator.context.file, "plan::no_plan", message);
        return Err(reject_unreadable(validator, &answer, mistakes));
    };
    if limits.form == PlanForm::Compact
        && let Some(Value::Array(tasks)) = object.get_mut("tasks")
    {
        tasks.truncate(streamed_reply::tasks_before_repetition(tasks).len());
    }
    if validator.empty_reply == EmptyReply::Conclusion
        && !reply_form::has_tasks(&object)
        && let Some(conclusion) = reply_form::conclusion(&object)
    {
        return Ok(PlannerReply::Conclusion(conclusion));
    }
    let tasks = object.get("tasks");
    let too_many = too_many_tasks(validator.context.agents.planner.max_tasks, tasks);
    let draft = (validator.draft)(&object);
    let is_complete = draft.unknown_keys.is_empty() && draft.invalid_references.is_empty() && too_many.is_none();
    // A person may plan for an agent that is currently unreachable, but a model has not seen its tools.
    let is_reachable =
        |warnings: &Diagnostics| warnings.list().iter().all(|diagnostic| diagnostic.code != UNREACHABLE_AGENT);
    let mistakes = match (validator.load)(&draft.text) {
        Ok((accepted, warnings)) if is_complete && is_reachable(&warnings) => {
            return Ok(PlannerReply::Valid(accepted, Value::Object(object).to_string()));
        }
        Ok((_, warnings)) => warnings,
        Err(mistakes) => mistakes,
    };
    let mistakes = draft
        .invalid_references
        .iter()
        .fold(mistakes, |mistakes, message| mistakes.with_error("plan::unknown_output", message.clone()));
    let mistakes = too_many.into_iter().fold(mistakes, |mistakes, (message, help)| {
        mistakes.with_error("plan::too_many_tasks", message).with_help(help)
    });
    let mistakes = draft.unknown_keys.iter().fold(mistakes, |mistakes, unknown| {
        mistakes.with_error("plan::unknown_key", format!("unknown key in the answer: {unknown}"))
    });
    let problems = mistakes
        .list()
        .iter()
        .take(MAX_SHOWN_DIAGNOSTICS)
        .map(|diagnostic| describe_diagnostic(diagnostic, &draft))
        .collect();
    Err(AnswerRejection::Repairable(Box::new(RepairRequest {
        rejected: RejectedPlan { text: draft.text, mistakes },
        answer,
        problems,
        is_readable: true,
    })))
}

/// Describes the tool call in a part of a reply, if it is one.
fn describe_tool_call(part: &ChatPart) -> Option<String> {
    match part {
        ChatPart::UnreadableToolUse { name, .. } if name.is_empty() => Some("a tool call without a name".to_owned()),
        ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } => {
            Some(format!("a call of the tool `{name}`"))
        }
        _ => None,
    }
}

/// Returns the error about a plan with too many tasks, and the help that names the limit.
fn too_many_tasks(max_tasks: usize, tasks: Option<&Value>) -> Option<(String, &'static str)> {
    let planned = tasks.and_then(Value::as_array).map_or(0, Vec::len);
    let message = || format!("the plan has {planned} tasks, but at most {max_tasks} are allowed");
    (planned > max_tasks).then(|| (message(), "the limit is `max_tasks` in `[planner]` of the agents file"))
}

/// Returns the problem of an incomplete reply, if it is incomplete. A complete object in it may be a part of another
/// plan.
fn truncation_problem(
    context: &PlanningContext<'_>,
    reply: &ChatReply,
    answer: &str,
    limit: &mut TokenLimit,
) -> Option<Diagnostics> {
    let message = match reply.reply_status() {
        ReplyStatus::Complete => return None,
        ReplyStatus::Truncated => {
            let max_tokens = limit.current();
            let help = limit.help(context.agents);
            let is_reasoning = |part: &ChatPart| matches!(part, ChatPart::Reasoning { .. });
            let used_for = match answer.trim().is_empty() && reply.parts.iter().any(is_reasoning) {
                true => ", all of them used for reasoning",
                false => "",
            };
            let next_limit = match limit.grow() {
                true => format!("the limit is now {} tokens", limit.current()),
                false => "the limit stays the same".to_owned(),
            };
            let message = format!(
                "the answer was truncated at its limit of {max_tokens} tokens{used_for} ({next_limit}): reason less, and \
                 write a plan with fewer tasks and shorter texts"
            );
            return Some(Diagnostics::for_file(context.file, "plan::cut_off", message).with_help(help));
        }
        ReplyStatus::Filtered | ReplyStatus::Refused => return None,
        ReplyStatus::Unknown(word) => {
            format!("the answer ended for an unknown reason (`{word}`) and may be incomplete")
        }
    };
    let mistakes = Diagnostics::for_file(context.file, "plan::withheld", message);
    Some(mistakes.with_help("rephrase the goal, or choose another model"))
}

/// Returns the reason of a refusal. A repair would be refused too.
fn refusal(reply: &ChatReply) -> Option<String> {
    match reply.reply_status() {
        ReplyStatus::Filtered => Some("the content filter of the endpoint stopped the answer".to_owned()),
        ReplyStatus::Refused => Some("the model refused to plan this goal".to_owned()),
        _ => None,
    }
}

fn reject_unreadable<T>(validator: &AnswerValidator<'_, T>, answer: &str, mistakes: Diagnostics) -> AnswerRejection {
    let PlanDraft { text, .. } = plan_draft::write_unreadable(&validator.goal, answer);
    let problems = mistakes.list().iter().map(|diagnostic| format!("- {}", diagnostic.message)).collect();
    let answer = if answer.trim().is_empty() { "(nothing)" } else { answer };
    let answer = truncate_chars(answer, MAX_ECHO_CHARS).into_owned();
    AnswerRejection::Repairable(Box::new(RepairRequest {
        rejected: RejectedPlan { text, mistakes },
        answer,
        problems,
        is_readable: false,
    }))
}

/// Formats a diagnostic for the model. The model has not seen the file, so the task replaces the line number.
fn describe_diagnostic(diagnostic: &Diagnostic, draft: &PlanDraft) -> String {
    let task = diagnostic.position.and_then(|position| draft.task_at(position.line));
    let prefix = task.map(|task| format!("in task `{task}`: ")).unwrap_or_default();
    let help = diagnostic.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("- {prefix}{}{help}", diagnostic.message)
}
