//! Folds events into spans. A span is complete once an event ends it.

use std::collections::HashMap;

use super::conventions as names;
use super::span::{AttributeValue, RunSpan, SpanEvent};
use crate::engine::CallTracker;
use crate::model::{
    AgentId, AgentInfo, Asker, AttemptId, ChatError, ChatReply, ConnectionTransport, Event, Failure, GoalPlanning,
    HOST_AGENT, Outcome, Question, QuestionId, Record, RequestId, RunId, RunStatus, SamplingOrigin, TaskId, Timestamp,
    ToolOutput, TraceContext,
};
use crate::view::text::answer_action;

/// The part of a run that a span stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum SpanKey {
    Run,
    Planning,
    Task(TaskId),
    Attempt(AttemptId),
    Exchange(AttemptId),
    Question(QuestionId),
    Sampling(RequestId),
    Replan(u32),
}

/// The spans of a run, event by event.
#[derive(Debug)]
pub struct SpanFold {
    run: RunId,
    trace: TraceContext,
    open: HashMap<SpanKey, RunSpan>,
    /// The keys of open spans in the order of their start, so that spans end in a defined order.
    order: Vec<SpanKey>,
    ended: Vec<RunSpan>,
    agents: HashMap<AgentId, (String, Option<ConnectionTransport>)>,
    last_event_at: Timestamp,
    /// Set if spans contain what is said: arguments, results, and messages.
    calls: Option<CallTracker>,
}

impl SpanFold {
    /// Creates the spans of a run without events. `with_content` adds arguments, results, and messages.
    pub fn new(run: &RunId, trace: TraceContext, with_content: bool) -> Self {
        Self {
            run: run.clone(),
            trace,
            open: HashMap::new(),
            order: Vec::new(),
            ended: Vec::new(),
            agents: HashMap::new(),
            last_event_at: Timestamp::default(),
            calls: with_content.then(CallTracker::default),
        }
    }

    /// Returns the trace that the spans belong to.
    pub fn trace(&self) -> &TraceContext {
        &self.trace
    }

    /// Returns the spans that have ended since the last call.
    pub fn drain_ended(&mut self) -> Vec<RunSpan> {
        std::mem::take(&mut self.ended)
    }

    /// Applies the next event.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        let call = self.calls.as_mut().and_then(|calls| calls.apply(record));
        match &record.event {
            Event::RunStarted { plan, .. } => {
                let run = self.run.to_string();
                let span = self.start(SpanKey::Run, None, at, format!("run {}", plan.name));
                span.set(names::OPERATION, names::INVOKE_WORKFLOW);
                span.set(names::RUN_ID, run);
                span.set(names::PLAN_NAME, plan.name.as_str());
            }
            Event::GoalPlanned(planning) => self.goal_planned(planning, at),
            Event::AgentConnected { agent, info } => self.agent_connected(agent, info),
            Event::TasksAdded { parent: task, .. }
            | Event::IterationAdded { parent: task, .. }
            | Event::GroupStarted { task, .. }
            | Event::TimerStarted { task, .. }
            | Event::SignalAwaited { task, .. } => self.start_task(task, at),
            Event::AttemptStarted { attempt, agent, tool } => {
                self.attempt_started(attempt, agent, tool, at);
                if let (Some(call), Some(span)) = (call, self.open.get_mut(&SpanKey::Attempt(attempt.clone()))) {
                    span.set(names::TOOL_ARGUMENTS, call.arguments.to_string());
                }
            }
            Event::AttemptSucceeded { attempt, output } => {
                let result = self.content_of(output);
                self.end(&SpanKey::Attempt(attempt.clone()), at, |span| {
                    span.attributes.extend(result.map(|result| (names::TOOL_RESULT, result.into())));
                });
                self.end_task(&attempt.task, "succeeded", None, at);
            }
            Event::AttemptFailed { attempt, failure } => self.attempt_failed(attempt, failure, at),
            Event::ModelRequested { attempt, messages, .. } => {
                self.start_task(&attempt.task, at);
                let parent = SpanKey::Task(attempt.task.clone());
                let with_content = self.calls.is_some();
                let span = self.start(SpanKey::Exchange(attempt.clone()), Some(&parent), at, names::CHAT.to_owned());
                span.is_client = true;
                span.set(names::OPERATION, names::CHAT);
                if with_content {
                    span.set(names::INPUT_MESSAGES, json_text(messages));
                }
            }
            Event::ModelReplied { attempt, result } => self.replied(&SpanKey::Exchange(attempt.clone()), result, at),
            Event::RetryScheduled { task, agent, reason, .. } => {
                if let Some(span) = self.open.get_mut(&SpanKey::Task(task.clone())) {
                    let agent = agent.iter().map(|agent| (names::AGENT, agent.as_str().into()));
                    let attributes = agent.chain([(names::RETRY_REASON, reason.as_str().into())]).collect();
                    span.events.push(SpanEvent { at, name: "retry scheduled", attributes });
                }
            }
            Event::TaskEnded { task, outcome } => self.task_ended(task, outcome, at),
            Event::QuestionAsked { question, .. } => self.asked(question, at),
            Event::QuestionAnswered { question, answer, by } => {
                self.end(&SpanKey::Question(question.clone()), at, |span| {
                    span.set(names::ANSWER_ACTION, answer_action(answer));
                    span.set(names::ANSWERED_BY, by.as_str());
                });
            }
            Event::SamplingStarted { request, origin, chat } => {
                let parent = match origin {
                    SamplingOrigin::Agent(origin) => origin.attempt.clone().map(SpanKey::Attempt),
                    SamplingOrigin::Planner { replan } => Some(SpanKey::Replan(*replan)),
                };
                let with_content = self.calls.is_some();
                let key = SpanKey::Sampling(request.clone());
                let span = self.start(key, parent.as_ref(), at, names::CHAT.to_owned());
                span.is_client = true;
                span.set(names::OPERATION, names::CHAT);
                if let SamplingOrigin::Agent(origin) = origin {
                    span.set(names::AGENT, origin.agent.as_str());
                    span.set(names::METHOD, "sampling/createMessage");
                }
                span.set(names::REQUEST_MAX_TOKENS, u64::from(chat.max_tokens));
                if with_content {
                    span.set(names::INPUT_MESSAGES, json_text(&chat.messages));
                }
            }
            Event::SamplingFinished { request, result } => {
                self.replied(&SpanKey::Sampling(request.clone()), result, at)
            }
            Event::ReplanStarted { number, .. } => {
                let span = self.start(SpanKey::Replan(*number), None, at, "replan".to_owned());
                span.set(names::REPLAN, u64::from(*number));
            }
            Event::Replanned { number, result } => {
                let error = result.as_ref().err().map(|failure| failure.message.clone());
                self.end(&SpanKey::Replan(*number), at, |span| span.error = error);
            }
            Event::RunResumed { reattached, .. } => self.resumed(reattached),
            Event::RunEnded { status, .. } if !status.is_unfinished() => self.run_ended(*status, at),
            _ => {}
        }
        self.last_event_at = at;
    }

    /// Starts a span. Its parent is the run, unless another open span is named.
    fn start(&mut self, key: SpanKey, parent: Option<&SpanKey>, at: Timestamp, name: String) -> &mut RunSpan {
        let parent = match (&key, parent) {
            (SpanKey::Run, _) => self.trace.caller_span(),
            (_, Some(parent)) if self.open.contains_key(parent) => Some(self.id(parent)),
            _ => Some(self.id(&SpanKey::Run)),
        };
        let id = self.id(&key);
        self.order.push(key.clone());
        self.open.entry(key).or_insert(RunSpan {
            id,
            parent,
            name,
            is_client: false,
            started_at: at,
            ended_at: at,
            attributes: Vec::new(),
            events: Vec::new(),
            error: None,
        })
    }

    /// Ends a span, if it is open.
    fn end(&mut self, key: &SpanKey, at: Timestamp, complete: impl FnOnce(&mut RunSpan)) {
        let Some(mut span) = self.open.remove(key) else { return };
        self.order.retain(|open| open != key);
        span.ended_at = at;
        complete(&mut span);
        self.ended.push(span);
    }

    /// Ends the open spans that match, the latest first.
    fn end_matching(&mut self, at: Timestamp, error: &str, matches: impl Fn(&SpanKey) -> bool) {
        let keys: Vec<SpanKey> = self.order.iter().rev().filter(|key| matches(key)).cloned().collect();
        for key in keys {
            self.end(&key, at, |span| span.error = Some(error.to_owned()));
        }
    }

    /// Returns the ID of a span. That of an attempt is what the agent gets as its parent.
    fn id(&self, key: &SpanKey) -> u64 {
        let run = self.run.as_str();
        let part = |kind: &str, id: &str| self.trace.span_id(&[run, kind, id]);
        match key {
            SpanKey::Run => part("run", ""),
            SpanKey::Planning => part("planning", ""),
            SpanKey::Task(task) => part("task", task.as_str()),
            SpanKey::Attempt(attempt) => self.trace.span_id(&[&attempt.key(&self.run)]),
            SpanKey::Exchange(exchange) => part("exchange", &exchange.to_string()),
            SpanKey::Question(question) => part("question", question.as_str()),
            SpanKey::Sampling(request) => part("sampling", request.as_str()),
            SpanKey::Replan(number) => part("replan", &number.to_string()),
        }
    }

    /// Starts the span of a task and those of the tasks that it belongs to.
    fn start_task(&mut self, task: &TaskId, at: Timestamp) {
        let key = SpanKey::Task(task.clone());
        if self.open.contains_key(&key) {
            return;
        }
        let parent = task.as_str().rfind(['.', '[', '/']).map(|end| TaskId::from(&task.as_str()[..end]));
        if let Some(parent) = &parent {
            self.start_task(parent, at);
        }
        let span = self.start(key, parent.map(SpanKey::Task).as_ref(), at, format!("task {task}"));
        span.set(names::TASK_ID, task.as_str());
    }

    fn end_task(&mut self, task: &TaskId, outcome: &'static str, error: Option<String>, at: Timestamp) {
        self.end(&SpanKey::Task(task.clone()), at, |span| {
            span.set(names::TASK_OUTCOME, outcome);
            span.error = error;
        });
    }

    fn task_ended(&mut self, task: &TaskId, outcome: &Outcome, at: Timestamp) {
        let is_of_task = |key: &SpanKey| match key {
            SpanKey::Attempt(attempt) | SpanKey::Exchange(attempt) => attempt.task == *task,
            _ => false,
        };
        self.end_matching(at, "the task ended first", is_of_task);
        let (outcome, error) = match outcome {
            Outcome::Succeeded(_) => ("succeeded", None),
            Outcome::Failed(failure) => ("failed", Some(failure.message.clone())),
            Outcome::Skipped(_) => ("skipped", None),
            Outcome::Cancelled => ("cancelled", Some("cancelled".to_owned())),
        };
        self.end_task(task, outcome, error, at);
    }

    fn attempt_started(&mut self, attempt: &AttemptId, agent: &AgentId, tool: &str, at: Timestamp) {
        self.start_task(&attempt.task, at);
        let connection = self.agents.get(agent).cloned();
        // The operations of the host have no method of MCP, and other operations than calls have their method as tool.
        let method = match tool {
            _ if agent.as_str() == HOST_AGENT => None,
            "resources/read" | "prompts/get" => Some(tool),
            _ => Some("tools/call"),
        };
        let name = match method {
            Some("tools/call") => format!("tools/call {tool}"),
            _ => tool.to_owned(),
        };
        let parent = SpanKey::Task(attempt.task.clone());
        let span = self.start(SpanKey::Attempt(attempt.clone()), Some(&parent), at, name);
        span.is_client = true;
        if method == Some("tools/call") {
            span.set(names::OPERATION, names::EXECUTE_TOOL);
            span.set(names::TOOL_NAME, tool);
        }
        span.attributes.extend(method.map(|method| (names::METHOD, method.into())));
        span.set(names::AGENT, agent.as_str());
        span.set(names::ATTEMPT, u64::from(attempt.number));
        if let Some((protocol, transport)) = connection {
            span.set(names::PROTOCOL_VERSION, protocol);
            let network = |transport| if transport == ConnectionTransport::Stdio { "pipe" } else { "tcp" };
            span.attributes.extend(transport.map(|transport| (names::NETWORK_TRANSPORT, network(transport).into())));
        }
    }

    fn attempt_failed(&mut self, attempt: &AttemptId, failure: &Failure, at: Timestamp) {
        let kind = serde_json::to_value(failure.kind).ok().and_then(|kind| Some(kind.as_str()?.to_owned()));
        self.end(&SpanKey::Attempt(attempt.clone()), at, |span| {
            span.attributes.extend(kind.map(|kind| (names::ERROR_TYPE, kind.into())));
            span.error = Some(failure.message.clone());
        });
    }

    fn agent_connected(&mut self, agent: &AgentId, info: &AgentInfo) {
        self.agents.insert(agent.clone(), (info.protocol.clone(), info.transport));
    }

    /// The plan was made before the run, so the span has no duration.
    fn goal_planned(&mut self, planning: &GoalPlanning, at: Timestamp) {
        let usage = planning.usage();
        let model = planning.exchanges.last().map(|exchange| exchange.model.clone());
        let span = self.start(SpanKey::Planning, None, at, "plan a goal".to_owned());
        span.attributes.extend(model.map(|model| (names::RESPONSE_MODEL, model.into())));
        if let Some(usage) = usage {
            span.set(names::INPUT_TOKENS, usage.input_tokens);
            span.set(names::OUTPUT_TOKENS, usage.output_tokens);
        }
        self.end(&SpanKey::Planning, at, |_| {});
    }

    fn asked(&mut self, question: &Question, at: Timestamp) {
        if let Some(task) = question.asker.task() {
            self.start_task(task, at);
        }
        let (name, parent) = match &question.asker {
            Asker::Agent(origin) => ("elicitation/create", origin.attempt.clone().map(SpanKey::Attempt)),
            Asker::Plan { task } => ("question", Some(SpanKey::Task(task.clone()))),
            Asker::Host { attempt } => ("question", Some(SpanKey::Task(attempt.task.clone()))),
            Asker::Replan { number } => ("question", Some(SpanKey::Replan(*number))),
        };
        let agent = question.asker.agent().cloned();
        let key = SpanKey::Question(question.id.clone());
        let span = self.start(key, parent.as_ref(), at, name.to_owned());
        span.set(names::QUESTION_ID, question.id.as_str());
        if let Some(agent) = agent {
            span.set(names::AGENT, agent.as_str());
            span.set(names::METHOD, name);
        }
    }

    fn replied(&mut self, key: &SpanKey, result: &Result<ChatReply, ChatError>, at: Timestamp) {
        let with_content = self.calls.is_some();
        self.end(key, at, |span| match result {
            Ok(reply) => {
                span.name = format!("{} {}", names::CHAT, reply.model);
                span.set(names::RESPONSE_MODEL, reply.model.as_str());
                span.set(names::FINISH_REASONS, AttributeValue::List(vec![reply.stop_reason.clone()]));
                if let Some(usage) = reply.usage {
                    span.set(names::INPUT_TOKENS, usage.input_tokens);
                    span.set(names::OUTPUT_TOKENS, usage.output_tokens);
                }
                span.attributes.extend(reply.cost_usd.map(|cost| (names::COST, AttributeValue::Amount(cost))));
                if with_content {
                    span.set(names::OUTPUT_MESSAGES, json_text(&reply.parts));
                }
            }
            Err(error) => span.error = Some(error.to_string()),
        });
    }

    /// Ends what the earlier process left open, except for what continues.
    fn resumed(&mut self, reattached: &[AttemptId]) {
        let is_lost = |key: &SpanKey| match key {
            SpanKey::Attempt(attempt) => !reattached.contains(attempt),
            SpanKey::Exchange(_) | SpanKey::Sampling(_) | SpanKey::Replan(_) => true,
            SpanKey::Run | SpanKey::Planning | SpanKey::Task(_) | SpanKey::Question(_) => false,
        };
        self.end_matching(self.last_event_at, "the process ended", is_lost);
    }

    fn run_ended(&mut self, status: RunStatus, at: Timestamp) {
        self.end_matching(at, "the run ended first", |key| *key != SpanKey::Run);
        let error = matches!(status, RunStatus::Failed | RunStatus::Cancelled).then(|| status.to_string());
        self.end(&SpanKey::Run, at, |span| {
            span.set(names::RUN_STATUS, status.as_str());
            span.error = error;
        });
    }

    fn content_of(&self, output: &ToolOutput) -> Option<String> {
        self.calls.is_some().then(|| output.value().to_string())
    }
}

fn json_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    /// Formats spans as a tree, in the order of their start.
    fn tree(spans: &[RunSpan]) -> String {
        fn add(spans: &[RunSpan], parent: Option<u64>, depth: usize, text: &mut String) {
            let mut children: Vec<&RunSpan> = spans.iter().filter(|span| span.parent == parent).collect();
            children.sort_by_key(|span| (span.started_at, span.name.clone()));
            for span in children {
                let error = span.error.as_ref().map(|error| format!("  error: {error}")).unwrap_or_default();
                let (start, end) = (span.started_at.0, span.ended_at.0);
                *text += &format!("{:indent$}{} {start}-{end}{error}\n", "", span.name, indent = depth * 2);
                for (name, value) in &span.attributes {
                    *text += &format!("{:indent$}{name}={value:?}\n", "", indent = depth * 2 + 4);
                }
                for event in &span.events {
                    *text +=
                        &format!("{:indent$}! {} {:?}\n", "", event.name, event.attributes, indent = depth * 2 + 4);
                }
                add(spans, Some(span.id), depth + 1, text);
            }
        }
        let mut text = String::new();
        add(spans, None, 0, &mut text);
        text
    }

    fn spans_of(records: &[Record], with_content: bool) -> Vec<RunSpan> {
        let run = RunId::from("0190");
        let mut fold = SpanFold::new(&run, TraceContext::of_run(&run), with_content);
        records.iter().for_each(|record| fold.apply(record));
        fold.drain_ended()
    }

    #[test]
    fn whole_run_is_one_tree() {
        insta::assert_snapshot!(tree(&spans_of(&samples::whole_run(), false)));
    }

    #[test]
    fn contents_are_only_there_on_request() {
        let content = [names::TOOL_RESULT, names::INPUT_MESSAGES, names::OUTPUT_MESSAGES];
        let has_content = |with_content| {
            let spans = spans_of(&samples::whole_run(), with_content);
            spans.iter().flat_map(|span| &span.attributes).any(|(name, _)| content.contains(name))
        };
        assert!(has_content(true) && !has_content(false));
    }

    #[test]
    fn every_span_of_an_ended_run_has_its_parent() {
        let spans = spans_of(&samples::whole_run(), false);
        let roots = spans.iter().filter(|span| span.parent.is_none());
        assert_eq!(roots.map(|span| span.name.as_str()).collect::<Vec<_>>().len(), 1);
        for span in &spans {
            assert!(span.parent.is_none_or(|parent| spans.iter().any(|other| other.id == parent)), "{span:?}");
            assert!(span.ended_at >= span.started_at);
        }
    }
}
