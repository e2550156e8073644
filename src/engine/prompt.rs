//! Decides how a prompt is answered: what the model is asked, which tools it gets, when its answer will do.
//! Never asks it; a turn is an order like any other.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    expression,
    json_schema::{self, Formats, Limits, Schema, Unchecked},
    model::{
        AttemptId, Block, ChatMessage, ChatPart, ChatRequest, ChatRole, ChatTool, Command, Ending, Event, Failure,
        FailureKind, NodeIndex, Outcome, OutputForm, Prompt, PromptCall, Span, ToolChoice, ToolOutput, Work,
        json_candidates, tool_call_markup,
    },
};

use crate::synthesizer::{answer, not_done};

use super::{
    advance::expression_failure,
    budget::Expense,
    decide::Decision,
    retry,
    run::{Connection, Conversation, Run, TaskState},
};

/// Violations of `output_schema` that the model is shown.
const MAX_PROBLEMS: usize = 5;
/// Bytes of the description of a violation.
const MAX_PROBLEM: usize = 1_000;

impl Decision<'_> {
    /// Asks for the first time, once every agent whose tools the prompt allows has answered or failed.
    pub(super) fn start_prompt(&mut self, node: NodeIndex, prompt: &Prompt) {
        for tool in &prompt.tools {
            self.connect(&tool.agent);
            self.connect_once_more(node, &tool.agent);
            if self.run.agents[&tool.agent].connection == Connection::Connecting {
                self.run.queues.outages.wait(node, &tool.agent);
                self.run.queues.waiting.push(vec![tool.agent.clone()], node);
                return;
            }
        }
        let task = self.run.graph[node].id.clone();
        let scope = self.run.scope(node);
        let question = match expression::render(&prompt.prompt, &scope) {
            Ok(request) if self.run.is_synthesis(node) => answer::question(&as_text(request), &self.run.sources(node)),
            Ok(question) => as_text(question),
            Err(error) => return self.fail(task, expression_failure("prompt", &error)),
        };
        if let Some(Err(error)) = prompt.system.as_ref().map(|system| expression::render(system, &scope)) {
            return self.fail(task, expression_failure("system", &error));
        }
        self.ask_model(node, vec![ChatMessage::text(ChatRole::User, question)], Repair::No);
    }

    /// Goes on after a reply: makes the calls that it asks for, returns what they gave, or takes it as the answer.
    pub(super) fn continue_prompt(&mut self, node: NodeIndex, prompt: &Prompt) {
        let Some(conversation) = &self.run.tasks[node.index()].conversation else { return };
        if conversation.failures > 0 {
            return self.send(node, Turn::Retry, Vec::new());
        }
        let Some(reply) = conversation.messages.last() else { return };
        let asks = reply.parts.iter().any(ChatPart::asks_for_tool);
        if !asks {
            return self.take_answer(node, prompt, reply.all_text());
        }
        // A call that cannot be made does not spoil the answer beside it.
        if prompt.tools.is_empty() && !reply.all_text().trim().is_empty() {
            return self.take_answer(node, prompt, reply.all_text());
        }
        let calls = called_tools(reply);
        if prompt.tools.is_empty() {
            let problem = format!("the model called {calls} instead of answering, and no tool can be called here");
            let request = format!("You called {calls}, but no tool can be called here. Answer with text.");
            return self.repair_or_fail(node, request, Failure::new(FailureKind::ModelFailed, problem));
        }
        if conversation.turn >= prompt.max_turns {
            let failure = self.turns_used_up(prompt, &calls);
            return self.fail(self.run.graph[node].id.clone(), failure);
        }
        if !conversation.calls.is_empty() {
            return self.return_results(node);
        }
        let allowed = self.run.allowed_tools(prompt);
        let calls: Vec<PromptCall> = reply
            .parts
            .iter()
            .filter_map(|part| {
                let ChatPart::ToolUse { id, name, input } = part else { return None };
                let (agent, tool, _) = allowed.iter().find(|(_, _, offered)| offered.name == *name)?;
                let (id, arguments) = (id.clone(), input.clone());
                Some(PromptCall { id, agent: agent.clone(), tool: Arc::clone(tool), arguments })
            })
            .collect();
        if calls.is_empty() {
            // Every call was for a tool that is not there, or cannot be read; the model is told so.
            return self.return_results(node);
        }
        self.emit(Event::ToolCallsAdded { parent: self.run.graph[node].id.clone(), calls });
        self.reuse_calls(node);
    }

    /// Gives the model what its calls gave, once all of them have ended.
    fn return_results(&mut self, node: NodeIndex) {
        let Some(conversation) = &self.run.tasks[node.index()].conversation else { return };
        let Some(reply) = conversation.messages.last() else { return };
        let results = reply.parts.iter().filter_map(|part| match part {
            ChatPart::ToolUse { id, name, .. } => {
                let call = conversation.calls.iter().find(|(called, _)| called == id);
                let (text, is_error) = match call {
                    Some((_, call)) => self.run.tasks[call.index()].told(),
                    None => (format!("there is no tool `{name}` here{}", self.run.tools_in_words(node)), true),
                };
                Some(ChatPart::ToolResult { id: id.clone(), text, is_error })
            }
            ChatPart::UnreadableToolUse { id, name, .. } if name.is_empty() => {
                let text = format!("the call names no tool{}", self.run.tools_in_words(node));
                Some(ChatPart::ToolResult { id: id.clone(), text, is_error: true })
            }
            ChatPart::UnreadableToolUse { id, name, problem } => {
                let text = format!("`{name}` was not called: its arguments {problem}; give one JSON object");
                Some(ChatPart::ToolResult { id: id.clone(), text, is_error: true })
            }
            _ => None,
        });
        let message = ChatMessage { role: ChatRole::User, parts: results.collect() };
        self.ask_model(node, vec![message], Repair::No);
    }

    /// Takes the model's text as the answer, or asks once for a better one.
    fn take_answer(&mut self, node: NodeIndex, prompt: &Prompt, text: String) {
        if let Some(failure) = self.run.incomplete(node, prompt, &text) {
            return self.fail(self.run.graph[node].id.clone(), failure);
        }
        let mut unchecked = None;
        let structured = match &prompt.output_schema {
            None => None,
            Some(schema) => match answer_by_schema(&text, schema) {
                Ok((value, reason)) => {
                    unchecked = reason;
                    Some(value)
                }
                Err(problem) => {
                    let message = format!("the model's answer breaks `output_schema`: {problem}");
                    let request =
                        format!("That answer cannot be used: {problem}. Answer again with JSON alone, by the schema.");
                    return self.repair_or_fail(node, request, Failure::new(FailureKind::ModelFailed, message));
                }
            },
        };
        if structured.is_none()
            && let Some(markup) = tool_call_markup(&text).filter(|_| !prompt.tools.is_empty())
        {
            let message = format!("the model wrote a tool call as text (`{markup}`), which calls nothing");
            let help = "start the endpoint with its tool-call parser (llama.cpp: `--jinja`; vLLM: \
                        `--enable-auto-tool-choice --tool-call-parser …`), or take another model";
            let request = format!("You wrote a tool call as text (`{markup}`), which calls nothing. Answer with text.");
            let failure = Failure::new(FailureKind::ModelFailed, message).with_help(help);
            return self.repair_or_fail(node, request, failure);
        }
        if structured.is_none() && text.trim().is_empty() {
            let failure = self.run.empty_answer(node);
            return self.fail(self.run.graph[node].id.clone(), failure);
        }
        let (task, last) = (self.run.graph[node].id.clone(), !self.may_repair(node));
        // Where the JSON stood in a fence or in prose, it alone is the answer.
        let shown = structured.as_ref().filter(|_| serde_json::from_str::<Value>(text.trim()).is_err());
        let mut content = vec![Block::Text(shown.map_or_else(|| text.clone(), Value::to_string))];
        if let Some(reason) = unchecked {
            content.push(Block::Text(format!("\n\n(Not checked by `output_schema`: {reason}.)")));
        }
        let problems =
            if self.run.is_synthesis(node) { answer::check(&text, &self.run.sources(node)) } else { Vec::new() };
        if !problems.is_empty() {
            let problems = problems.join("; ");
            if !last {
                let request = answer::complaint(&problems);
                return self.ask_model(node, vec![ChatMessage::text(ChatRole::User, request)], Repair::Yes);
            }
            let note = format!("\n\n(Not verified: {problems}.)");
            content.push(Block::Text(note));
        }
        if self.run.is_synthesis(node)
            && let Some(note) = not_done::note(&self.run.not_done(node))
        {
            content.push(Block::Text(format!("\n{note}")));
        }
        let output = Arc::new(ToolOutput { content, structured });
        self.emit(Event::TaskEnded { task, outcome: Outcome::Succeeded(output) });
    }

    /// Whether the model can be asked once more for a better answer. While the run stops, there is no other turn.
    fn may_repair(&self, node: NodeIndex) -> bool {
        let conversation = self.run.tasks[node.index()].conversation.as_ref();
        conversation.is_some_and(|conversation| !conversation.repaired) && self.run.stop.is_none()
    }

    /// Asks once for a better answer, with what was wrong with the last; fails the task if that was done already.
    fn repair_or_fail(&mut self, node: NodeIndex, request: String, failure: Failure) {
        match self.may_repair(node) {
            true => self.ask_model(node, vec![ChatMessage::text(ChatRole::User, request)], Repair::Yes),
            false => self.fail(self.run.graph[node].id.clone(), failure),
        }
    }

    /// Why a prompt has no answer whose model asked for tools until the end.
    fn turns_used_up(&self, prompt: &Prompt, calls: &str) -> Failure {
        let message = format!(
            "the model called {calls} in the last of its {} replies (`max_turns`), and gave no answer",
            prompt.max_turns
        );
        Failure::new(FailureKind::ModelFailed, message).with_help("a higher `max_turns` leaves room for an answer")
    }

    fn ask_model(&mut self, node: NodeIndex, messages: Vec<ChatMessage>, repair: Repair) {
        self.send(node, if repair == Repair::Yes { Turn::Repair } else { Turn::Next }, messages);
    }

    /// Sends all that was said, and `messages`, to the model.
    fn send(&mut self, node: NodeIndex, turn: Turn, messages: Vec<ChatMessage>) {
        let task = self.run.graph[node].id.clone();
        if !self.can_spend(node, Expense::ModelCall) {
            return;
        }
        let said = self.run.tasks[node.index()].conversation.as_deref();
        let number = said.map_or(0, |said| said.turn) + u32::from(turn != Turn::Retry);
        let ends_at = match turn {
            Turn::Retry => said.and_then(|said| said.deadline),
            Turn::Next | Turn::Repair => self.run.graph[node].task.deadline.map(|span| self.now.after(span.0)),
        };
        let (retry, repair) = (turn == Turn::Retry, turn == Turn::Repair);
        let chat = self.run.next_chat(node, NextTurn { number, messages: &messages, repair });
        let most_tokens = chat.most_tokens();
        if !self.has_token_room(node, most_tokens) {
            return;
        }
        let attempt = AttemptId { task, number: self.run.tasks[node.index()].attempts + 1 };
        self.emit(Event::ModelAsked {
            attempt: attempt.clone(),
            messages,
            repair,
            most_tokens,
            retry,
            deadline: ends_at.filter(|_| !retry),
        });
        let deadline = ends_at.map(|ends_at| Span(ends_at.since(self.now)));
        let chat = Box::new(ChatRequest { deadline, ..chat });
        self.order(Command::AskModel { attempt, chat });
    }

    /// Repeats a request that failed, as often as the task's `retry` says and within its `deadline`; else fails the task.
    /// Once the run stops, nothing is repeated.
    pub(super) fn model_failed(&mut self, node: NodeIndex) {
        let entry = &self.run.tasks[node.index()];
        let (Some(failure), Some(conversation)) = (entry.last_failure.as_deref().cloned(), &entry.conversation) else {
            return;
        };
        let (task, id) = (&self.run.graph[node].task, self.run.graph[node].id.clone());
        if self.run.stop.is_some() {
            return self.emit(Event::TaskEnded { task: id, outcome: Outcome::Cancelled });
        }
        let (failures, deadline) = (conversation.failures, conversation.deadline);
        let Some(Span(asked)) = conversation.retry_after.filter(|_| failures < task.retry.max_attempts) else {
            return self.fail(id, failure);
        };
        let pause = retry::pause(&task.retry.backoff, failures, self.run.seed, &id).max(asked);
        let ready_at = self.now.after(pause);
        if deadline.is_some_and(|deadline| ready_at >= deadline) {
            let help = format!("the next try would be in {}, after the task's `deadline`", Span(pause));
            return self.fail(id, failure.with_more_help(help));
        }
        if deadline.is_none() && asked > MAX_WAIT {
            let help = format!("a task without a `deadline` waits at most {}", Span(MAX_WAIT));
            return self.fail(id, failure.with_more_help(help));
        }
        self.emit(Event::RetryScheduled { task: id, ready_at, agent: None, reason: failure.message });
    }

    /// Ends a prompt while the run stops: with the answer, if the model has just given it.
    pub(super) fn finish_prompt(&mut self, node: NodeIndex) {
        let work = Arc::clone(&self.run.graph[node].task);
        let reply = self.run.tasks[node.index()].conversation.as_ref().and_then(|said| said.messages.last().cloned());
        let (Some(prompt), Some(reply)) = (work.prompt(), reply) else { return };
        let is_complete =
            self.run.tasks[node.index()].conversation.as_ref().is_some_and(|said| said.ending == Ending::Complete);
        let is_answer = is_complete && !reply.parts.iter().any(ChatPart::asks_for_tool);
        let text = reply.all_text();
        let fits = prompt.output_schema.as_ref().is_none_or(|schema| answer_by_schema(&text, schema).is_ok());
        if is_answer && fits {
            return self.take_answer(node, prompt, text);
        }
        self.emit(Event::TaskEnded { task: self.run.graph[node].id.clone(), outcome: Outcome::Cancelled });
    }
}

/// A turn of a prompt that is about to begin.
struct NextTurn<'m> {
    number: u32,
    /// What is said beyond what was said before.
    messages: &'m [ChatMessage],
    repair: bool,
}

/// Limits how long a task without a deadline waits where the endpoint asks to wait.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// Why a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Next,
    /// The last answer cannot be used.
    Repair,
    /// The last request failed.
    Retry,
}

/// Whether a turn asks the model to mend its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    No,
    Yes,
}

impl Run {
    /// The request of the current turn: all that was said, with the tools that the prompt allows.
    pub(super) fn chat(&self, node: NodeIndex) -> ChatRequest {
        let turn = self.tasks[node.index()].conversation.as_ref().map_or(0, |conversation| conversation.turn);
        self.next_chat(node, NextTurn { number: turn, messages: &[], repair: false })
    }

    /// The request of a turn that has not begun. It is built once a turn, since a conversation can be long.
    fn next_chat(&self, node: NodeIndex, turn: NextTurn<'_>) -> ChatRequest {
        let Some(prompt) = self.graph[node].task.prompt() else { return ChatRequest::default() };
        let conversation = self.tasks[node.index()].conversation.as_deref();
        let tools: Vec<ChatTool> = self.allowed_tools(prompt).into_iter().map(|(_, _, tool)| tool).collect();
        let repaired = turn.repair || conversation.is_some_and(|conversation| conversation.repaired);
        let last = turn.number >= prompt.max_turns || repaired;
        let scope = self.scope(node);
        // It was rendered before the first turn; what it refers to does not change.
        let rules = self.is_synthesis(node).then(|| answer::INSTRUCTIONS.to_owned());
        let system = prompt.system.as_ref().and_then(|system| expression::render(system, &scope).ok()).map(as_text);
        // Endpoints that get both tools and a form heed only the form, so it comes with the turn that has no tools.
        let free = !tools.is_empty() && !last;
        let instruction = prompt
            .output_schema
            .as_ref()
            .filter(|_| free)
            .map(|schema| format!("Your final answer must be JSON alone, valid by this JSON Schema: {schema}"));
        let output = prompt.output_schema.clone().filter(|_| !free);
        let said = conversation.map_or(&[][..], |conversation| &conversation.messages);
        let mut messages = [said, turn.messages].concat();
        if prompt.tools.is_empty() {
            messages.iter_mut().for_each(describe_calls);
        }
        ChatRequest {
            model: prompt.model.clone(),
            system: match (rules.or(system), instruction) {
                (Some(system), Some(instruction)) => Some(format!("{system}\n\n{instruction}")),
                (system, instruction) => system.or(instruction),
            },
            messages,
            max_tokens: prompt.max_tokens,
            tool_choice: if tools.is_empty() || !last { ToolChoice::Auto } else { ToolChoice::None },
            tools,
            output: output.map(|schema| OutputForm { name: "answer".into(), schema }),
            timeout: self.graph[node].task.timeout,
            // Two policies on top of each other would try more often than either says.
            single_try: self.graph[node].task.retry.max_attempts > 1,
            ..ChatRequest::default()
        }
    }

    /// Why a reply is not the whole answer; none where it is.
    fn incomplete(&self, node: NodeIndex, prompt: &Prompt, text: &str) -> Option<Failure> {
        let conversation = self.tasks[node.index()].conversation.as_ref()?;
        let key =
            if self.is_synthesis(node) { "`max_tokens` of `result.synthesize`" } else { "`max_tokens` of the task" };
        let limit = prompt.max_tokens;
        let failure = |message: String| Failure::new(FailureKind::ModelFailed, message);
        Some(match &conversation.ending {
            Ending::Complete => return None,
            Ending::Truncated => {
                let message = match (text.trim().is_empty(), has_reasoning(conversation)) {
                    (true, true) => format!("the model's reasoning used up all {limit} tokens before an answer began"),
                    (true, false) => format!("the model's reply was cut off at {limit} tokens before an answer began"),
                    (false, _) => format!("the model's answer was cut off at {limit} tokens (`max_tokens`)"),
                };
                failure(message).with_help(format!(
                    "raise {key}; `max_output_tokens` in the model's section and the model's context limit it too"
                ))
            }
            Ending::Filtered => failure("a content filter of the endpoint stopped the model's answer".to_owned())
                .with_help("change the prompt or what it quotes, or ask another model"),
            Ending::Refused => {
                let said = quoted(text).map(|said| format!(": {said}")).unwrap_or_default();
                failure(format!("the model refused to answer{said}"))
                    .with_help("change the prompt, or ask another model")
            }
            Ending::Unknown(word) => failure(format!(
                "the model's reply ended for a reason that is not known (`{word}`), so it may not be complete"
            ))
            .with_help("ask another model or endpoint"),
        })
    }

    /// Why a reply without text and without calls is not an answer.
    fn empty_answer(&self, node: NodeIndex) -> Failure {
        let message = match self.tasks[node.index()].conversation.as_deref().is_some_and(has_reasoning) {
            true => "the model gave its reasoning and no answer",
            false => "the model gave an empty answer",
        };
        Failure::new(FailureKind::ModelFailed, message).with_help("another prompt or another model may do better")
    }

    /// The tools that the prompt of a node can call, as the end of a sentence.
    fn tools_in_words(&self, node: NodeIndex) -> String {
        let Some(prompt) = self.graph[node].task.prompt() else { return String::new() };
        let names: Vec<String> =
            self.allowed_tools(prompt).iter().map(|(.., tool)| format!("`{}`", tool.name)).collect();
        match names.is_empty() {
            true => String::new(),
            false => format!("; the tools are {}", names.join(", ")),
        }
    }

    fn is_synthesis(&self, node: NodeIndex) -> bool {
        matches!(self.graph[node].task.work, Work::Synthesis(_))
    }

    /// The tools that a prompt allows and that are there, each under `AGENT.TOOL`.
    fn allowed_tools(&self, prompt: &Prompt) -> Vec<(crate::model::AgentId, Arc<str>, ChatTool)> {
        let mut offered = Vec::new();
        for allowed in &prompt.tools {
            let Connection::Connected(info) = &self.agents[&allowed.agent].connection else { continue };
            let wanted = info.tools.iter().filter(|tool| allowed.tool.as_ref().is_none_or(|name| **name == *tool.name));
            for tool in wanted {
                let name = format!("{}.{}", allowed.agent, tool.name);
                let description = tool.description.clone().or_else(|| tool.title.clone());
                let chat = ChatTool { name, description, input_schema: tool.input_schema.clone() };
                offered.push((allowed.agent.clone(), Arc::from(tool.name.as_str()), chat));
            }
        }
        offered
    }
}

impl super::run::TaskEntry {
    /// What a model is told of a call that it asked for, and whether that is an error.
    fn told(&self) -> (String, bool) {
        match &self.state {
            TaskState::Ended(Outcome::Succeeded(output)) => match output.value().as_ref() {
                Value::String(text) => (text.clone(), false),
                other => (other.to_string(), false),
            },
            TaskState::Ended(Outcome::Failed(failure)) => (failure.message.clone(), true),
            _ => ("the call was not made".to_owned(), true),
        }
    }
}

/// Whether the last reply holds reasoning.
fn has_reasoning(conversation: &Conversation) -> bool {
    let last = conversation.messages.last();
    last.is_some_and(|reply| reply.parts.iter().any(|part| matches!(part, ChatPart::Reasoning { .. })))
}

/// The tools that a reply calls, by name.
fn called_tools(reply: &ChatMessage) -> String {
    let names = reply.parts.iter().filter_map(|part| match part {
        ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } => Some(name.as_str()),
        _ => None,
    });
    let mut shown: Vec<String> = Vec::new();
    for name in names {
        let name = if name.is_empty() { "a tool without a name".to_owned() } else { format!("the tool `{name}`") };
        if !shown.contains(&name) {
            shown.push(name);
        }
    }
    shown.join(" and ")
}

/// Replaces the calls of a message by words: endpoints refuse calls that have no results.
fn describe_calls(message: &mut ChatMessage) {
    for part in &mut message.parts {
        if let ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } = part {
            *part = ChatPart::Text { text: format!("(a call of the tool `{name}`)") };
        }
    }
}

/// Limits the characters of a refusal that an error shows.
const MAX_QUOTED: usize = 300;

/// What a model said, for an error.
fn quoted(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.char_indices().nth(MAX_QUOTED).map(|(end, _)| end);
    let shown = end.map_or_else(|| text.to_owned(), |end| format!("{}…", &text[..end]));
    (!shown.is_empty()).then_some(shown)
}

/// Text as it is, anything else as JSON.
fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Reads an answer that must be JSON by `schema`, in a code fence or within prose if need be, and returns why it was
/// not checked, if it was not.
fn answer_by_schema(text: &str, schema: &Value) -> Result<(Value, Option<Unchecked>), String> {
    let mut candidates = json_candidates(text);
    if candidates.is_empty() {
        let problem = serde_json::from_str::<Value>(text.trim()).err().map(|error| format!(" ({error})"));
        return Err(format!("it is not JSON{}", problem.unwrap_or_default()));
    }
    let compiled = match Schema::compile(schema.clone(), Formats::AsDraft, &Limits::INLINE) {
        Ok(compiled) => compiled,
        Err(Unchecked::InvalidSchema(reason)) => return Err(format!("the schema is wrong ({reason})")),
        Err(unchecked) => return Ok((candidates.swap_remove(0), Some(unchecked))),
    };
    let outcomes: Vec<_> = candidates.iter().map(|value| problems(&compiled, value)).collect();
    if let Some(valid) = outcomes.iter().position(|outcome| outcome.as_ref().is_ok_and(String::is_empty)) {
        return Ok((candidates.swap_remove(valid), None));
    }
    match outcomes.into_iter().next() {
        Some(Err(unchecked)) => Ok((candidates.swap_remove(0), Some(unchecked))),
        Some(Ok(problems)) => Err(problems),
        None => Err("it is not JSON".to_owned()),
    }
}

/// Says where and how an answer breaks its schema; empty when it does not.
fn problems(schema: &Schema, value: &Value) -> Result<String, Unchecked> {
    let violations = schema.violations(value, &Limits::INLINE)?;
    let problems = violations.iter().take(MAX_PROBLEMS).map(|error| {
        let message = json_schema::message(error, MAX_PROBLEM);
        match error.instance_path().as_str() {
            "" => message,
            path => format!("at `{path}`: {message}"),
        }
    });
    Ok(problems.collect::<Vec<_>>().join("; "))
}
