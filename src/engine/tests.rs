//! Fixtures for the engine tests: small plans, and a driver that executes no commands by itself.

mod prompts;
mod random;
mod recovery;
mod tasks;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{NewRun, Resumption, Run, StepOutput, sent_calls};
use crate::model::{
    AgentId, AgentInfo, AgentPolicy, Answer, Ask, Asker, AttemptId, Backoff, Budget, Call, ChatError, ChatPart,
    ChatReply, ChatRequest, Command, Consent, ContentBlock, DefaultAnswer, DiscardReason, DiscardedCall, Effect,
    EndCause, Event, Expression, Failure, FailureKind, FileWait, Foreach, GoalPlanning, Group, Hook, HookTrigger,
    HumanDuration, Input, ItemPlace, JsonObject, MicroDollars, OnFailure, Operation, Origin, Outcome, Plan, PlanPatch,
    PlannerExchange, Prompt, PromptSource, PromptTool, QuestionPolicy, Record, Repeat, ReplanPolicy, ReplanRequest,
    ResourceWait, Retry, Route, RunStatus, SamplingOrigin, ServerPrompt, SkipReason, SubPlan, Task, TaskId, Template,
    Timestamp, ToolChoice, ToolInfo, ToolOutput, Usage, Wait, Work,
};

/// The environment variable that multiplies the number of random schedules of each property.
const SCHEDULES: &str = "KAPELL_SCHEDULES_FACTOR";

/// Returns a configuration for `usual` random schedules, or for the multiple that [`SCHEDULES`] sets.
fn schedules(what: &str, usual: u32) -> ProptestConfig {
    let factor = std::env::var(SCHEDULES).map_or(1, |factor| factor.parse().expect("a whole number"));
    let cases = usual.checked_mul(factor).expect("fewer schedules");
    eprintln!("\nexploring {cases} {what}");
    ProptestConfig { cases, ..ProptestConfig::default() }
}

fn agent_policy() -> AgentPolicy {
    AgentPolicy {
        required: false,
        max_concurrency: 2,
        tool_timeout: HumanDuration(Duration::from_secs(60)),
        effect: None,
        fingerprint: String::new(),
    }
}

fn route(agent: &str, rank: u32) -> Route {
    Route { agent: agent.into(), tool: "work".into(), rank }
}

fn call(routes: Vec<Route>, arguments: Value) -> Work {
    Work::Call(Call { operation: Operation::CallTool, routes, arguments: Template(arguments), awaits: None })
}

/// Returns the work of a task that reads a resource.
fn read(routes: Vec<Route>, parameters: Value) -> Work {
    let tool = Operation::ReadResource.method();
    let routes = routes.into_iter().map(|route| Route { tool: tool.into(), ..route }).collect();
    let arguments = Template(parameters);
    Work::Call(Call { operation: Operation::ReadResource, routes, arguments, awaits: None })
}

/// Returns the task with other routes.
fn with_routes(routes: Vec<Route>, task: Task) -> Task {
    Task { work: call(routes, json!({})), ..task }
}

/// Returns the task with other arguments.
fn with_arguments(arguments: Value, task: Task) -> Task {
    Task { work: call(vec![route("a", 0)], arguments), ..task }
}

fn task(id: &str, needs: &[&str]) -> Task {
    Task {
        needs: needs.iter().map(|&id| TaskId::from(id)).collect(),
        ..Task::new(id.into(), call(vec![route("a", 0)], json!({})))
    }
}

fn plan(tasks: Vec<Task>) -> Arc<Plan> {
    let routed = tasks.iter().flat_map(Task::routes).map(|route| route.agent.clone());
    let prompted = tasks.iter().filter_map(Task::prompt).flat_map(Prompt::agents).cloned();
    let agents = routed.chain(prompted).map(|agent| (agent, agent_policy()));
    Arc::new(Plan {
        name: "test".into(),
        description: None,
        missing: None,
        check_goal: false,
        schedule: None,
        inputs: IndexMap::new(),
        env: IndexMap::new(),
        max_parallel: 8,
        budget: Budget::default(),
        replan: None,
        agents: agents.collect(),
        tasks: tasks.into_iter().map(Arc::new).collect(),
        outputs: None,
    })
}

fn info() -> Arc<AgentInfo> {
    let tool = ToolInfo {
        name: "work".into(),
        title: None,
        description: None,
        input_schema: serde_json::Map::new(),
        output_schema: None,
        effect: None,
    };
    Arc::new(AgentInfo { protocol: "2025-11-25".into(), server: None, tools: vec![tool], ..AgentInfo::default() })
}

fn text(text: &str) -> Arc<ToolOutput> {
    Arc::new(ToolOutput { content: vec![ContentBlock::Text(text.into())], ..ToolOutput::default() })
}

fn new_run(plan: &Arc<Plan>, planning: Option<&GoalPlanning>) -> NewRun {
    let (plan, inputs) = (Arc::clone(plan), Arc::new(json!({})));
    NewRun { plan, inputs, seed: 7, planning: planning.cloned(), source: None, id: None }
}

/// Resumes the run with these records in another process that has no checkpoints.
fn resume(records: &[Record], now: Timestamp, last_event_at: Timestamp) -> (Run, StepOutput) {
    let run = Run::fold(records).expect("a history");
    let checkpoints = HashMap::new();
    Run::resume(Resumption { run, last_event_at, checkpoints, accepts_changes: false, inputs: Vec::new() }, now)
}

/// A run with all of its records and the commands that were not executed yet.
struct Driver {
    run: Run,
    records: Vec<Record>,
    commands: Vec<Command>,
    now: Timestamp,
}

/// Returns the run's model calls, tool calls, tokens, and US dollars. Reservations are not included.
fn spent_totals(run: &Run) -> (u64, u64, u64, MicroDollars) {
    let spent = run.ledger.spending().run;
    (spent.llm_calls, spent.tool_calls, spent.tokens(), spent.cost_usd)
}

impl Driver {
    fn start(plan: &Arc<Plan>) -> Self {
        Self::start_planned(plan, None)
    }

    /// Starts a run whose plan was made by `planning`.
    fn start_planned(plan: &Arc<Plan>, planning: Option<&GoalPlanning>) -> Self {
        let now = Timestamp(1_000);
        let (run, step) = Run::start(new_run(plan, planning), now).expect("a graph");
        let mut driver = Self { run, records: Vec::new(), commands: Vec::new(), now };
        driver.apply_step(step);
        driver
    }

    /// Starts a run and connects all agents.
    fn connected(plan: &Arc<Plan>) -> Self {
        let mut driver = Self::start(plan);
        driver.connect_all();
        driver
    }

    fn connect_all(&mut self) {
        for agent in self.drain_commands(|order| match order {
            Command::ConnectAgent { agent } => Some(agent.clone()),
            _ => None,
        }) {
            self.send_input(Input::AgentConnected { agent, info: info() });
        }
    }

    fn apply_step(&mut self, step: StepOutput) {
        self.records.extend(step.records);
        self.commands.extend(step.commands);
    }

    fn send_input(&mut self, input: Input) {
        let step = self.run.handle([input], self.now);
        self.apply_step(step);
    }

    fn drain_commands<T>(&mut self, pick: impl Fn(&Command) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        self.commands.retain(|order| match pick(order) {
            Some(question) => {
                picked.push(question);
                false
            }
            None => true,
        });
        picked
    }

    /// Removes and returns the calls among the pending commands.
    fn drain_calls(&mut self) -> Vec<(AttemptId, AgentId)> {
        self.drain_commands(|order| match order {
            Command::StartAttempt(call) => Some((call.attempt.clone(), call.agent.clone())),
            _ => None,
        })
    }

    fn drain_call_names(&mut self) -> Vec<String> {
        self.drain_calls().into_iter().map(|(attempt, agent)| format!("{attempt}@{agent}")).collect()
    }

    fn end(&mut self, task: &str, number: u32, result: Result<Arc<ToolOutput>, Failure>) {
        self.send_input(Input::AttemptEnded { attempt: AttemptId { task: task.into(), number }, result });
    }

    fn fail(&mut self, task: &str, number: u32, kind: FailureKind) {
        self.end(task, number, Err(Failure::new(kind, "broke")));
    }

    fn sleep(&mut self) {
        self.now = self.run.next_wakeup().expect("a pause");
        self.send_input(Input::TimeReached);
    }

    fn outcome(&self, task: &str) -> Option<Outcome> {
        self.records.iter().find_map(|record| match &record.event {
            Event::TaskEnded { task: ended, outcome } if ended.as_str() == task => Some(outcome.clone()),
            Event::AttemptSucceeded { attempt, output } if attempt.task.as_str() == task => {
                Some(Outcome::Succeeded(Arc::clone(output)))
            }
            _ => None,
        })
    }

    fn ended(&self) -> Option<(RunStatus, Option<EndCause>)> {
        self.records.iter().find_map(|record| match &record.event {
            Event::RunEnded { status, cause, .. } => Some((*status, cause.clone())),
            _ => None,
        })
    }
}

fn foreach_task(items: Value, max_parallel: Option<usize>) -> Task {
    Task {
        foreach: Some(Box::new(Foreach {
            items: Template(items),
            is_matrix: false,
            binding: "item".into(),
            max_parallel,
        })),
        work: call(vec![route("a", 0)], json!({"value": "${{ item }}"})),
        ..task("each", &[])
    }
}

fn prompt(id: &str, tools: &[&str], output_schema: Option<Value>) -> Task {
    let tools = tools.iter().map(|&agent| PromptTool { agent: agent.into(), tool: None }).collect();
    let prompt = Template(json!("Why ${{ inputs.what }}?"));
    let asked = Prompt {
        model: None,
        system: None,
        source: PromptSource::Prompt(prompt),
        output_schema,
        tools,
        max_turns: 3,
        max_tokens: 100,
    };
    Task { work: Work::Prompt(Box::new(asked)), ..task(id, &[]) }
}

/// Returns a task with the prompt `sum` of an agent.
fn server_prompt(id: &str, agent: &str, tools: &[&str]) -> Task {
    let mut task = prompt(id, tools, None);
    if let Work::Prompt(prompt) = &mut task.work {
        let arguments = Template(json!({"of": "${{ inputs }}", "length": 2, "tone": null}));
        prompt.source = PromptSource::UsePrompt(ServerPrompt { agent: agent.into(), name: "sum".into(), arguments });
    }
    task
}

/// Returns the result of `prompts/get` with one message.
fn prompt_messages(text: &str) -> Arc<ToolOutput> {
    let message = json!({"role": "user", "content": [{"type": "text", "text": text}]});
    Arc::new(ToolOutput { structured: Some(json!({"messages": [message]})), ..ToolOutput::default() })
}

fn reply_with(parts: Vec<ChatPart>) -> Result<ChatReply, ChatError> {
    Ok(ChatReply {
        parts,
        model: "m".into(),
        stop_reason: "endTurn".into(),
        usage: None,
        cost_usd: None,
        warning: None,
    })
}

fn reply_text(text: &str) -> Result<ChatReply, ChatError> {
    reply_with(vec![ChatPart::Text { text: text.into() }])
}

fn tool_use_reply(calls: &[(&str, &str)]) -> Result<ChatReply, ChatError> {
    let call = |(id, name): &(&str, &str)| {
        let input = json!({"text": "${{ inputs.secret }}"});
        let Value::Object(input) = input else { unreachable!("an object") };
        ChatPart::ToolUse { id: (*id).into(), name: (*name).into(), input }
    };
    reply_with(calls.iter().map(call).collect())
}

impl Driver {
    /// Removes and returns the model requests among the pending commands.
    fn drain_model_requests(&mut self) -> Vec<(String, ChatRequest)> {
        self.drain_commands(|order| match order {
            Command::RequestModel { attempt, chat } => Some((attempt.to_string(), (**chat).clone())),
            _ => None,
        })
    }

    fn reply(&mut self, task: &str, number: u32, result: Result<ChatReply, ChatError>) {
        self.send_input(Input::ModelReplied { attempt: AttemptId { task: task.into(), number }, result });
    }
}

fn text_prompt(task: Task) -> Task {
    let mut task = task;
    if let Work::Prompt(prompt) = &mut task.work {
        prompt.source = PromptSource::Prompt(Template(json!("Why?")));
    }
    task
}

fn synthesis(output_schema: Option<Value>, sources: &[&str]) -> Task {
    let Work::Prompt(asked) = text_prompt(prompt("p", &[], output_schema)).work else { unreachable!("a prompt") };
    let on_failure = OnFailure::Continue;
    Task { work: Work::Synthesis(asked), on_failure, ..task("answer", sources) }
}

fn reply_using(tokens: u64) -> Result<ChatReply, ChatError> {
    let usage = crate::model::Usage { input_tokens: tokens, output_tokens: 0 };
    reply_text("done").map(|reply| ChatReply { usage: Some(usage), cost_usd: Some(0.01), ..reply })
}

/// Returns a call that a plan lacks.
fn discarded_call() -> DiscardedCall {
    let (agent, tool, arguments) = ("a".into(), "read".into(), JsonObject::new());
    DiscardedCall { agent, tool, arguments, reason: DiscardReason::Unused }
}

/// Returns a planning with this many exchanges. Each has this usage and costs one cent.
fn planning(exchanges: usize, usage: Option<Usage>) -> GoalPlanning {
    let exchange = PlannerExchange {
        model: "m".into(),
        stop_reason: "endTurn".into(),
        usage,
        estimated_tokens: 90,
        cost_usd: Some(0.01),
    };
    GoalPlanning { goal: "Go".into(), exchanges: vec![exchange; exchanges], discarded_calls: Vec::new() }
}
