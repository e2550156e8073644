//! Drives the exchanges of a prompt: the messages to the model, its tool calls, and the acceptance of its answer.

use std::sync::Arc;

use serde_json::Value;

use super::reply::{answer_by_schema, called_tools};
use super::request::{NextRequest, value_as_text};
use crate::engine::budget::limits::CostKind;
use crate::engine::retry;
use crate::engine::scope::expression_failure;
use crate::engine::state::agent::ConnectionStatus;
use crate::engine::state::task::{TaskEntry, TaskState};
use crate::engine::synthesis::{answer, unfinished};
use crate::engine::transition::Transition;
use crate::expression;
use crate::model::{
    AttemptId, ChatMessage, ChatPart, ChatRequest, ChatRole, Command, ContentBlock, Event, Failure, FailureKind,
    HumanDuration, NodeIndex, Outcome, Prompt, PromptCall, ReplyStatus, ToolOutput, tool_call_markup,
};

impl Transition<'_> {
    /// Sends the first request, once every agent whose tools the prompt allows is connected or unavailable.
    pub(crate) fn start_prompt(&mut self, node: NodeIndex, prompt: &Prompt) {
        for tool in &prompt.tools {
            self.connect(&tool.agent);
            self.reconnect_for_prompt(node, &tool.agent);
            if self.run.agents[&tool.agent].connection == ConnectionStatus::Connecting {
                self.run.queues.outages.add_waiting(node, &tool.agent);
                self.run.queues.waiting.push(vec![tool.agent.clone()], node);
                return;
            }
        }
        let task = self.run.graph[node].id.clone();
        let scope = self.run.scope(node);
        let question = match expression::render(&prompt.prompt, &scope) {
            Ok(request) if self.run.is_synthesis(node) => {
                answer::synthesis_prompt(&value_as_text(request), &self.run.synthesis_sources(node))
            }
            Ok(question) => value_as_text(question),
            Err(error) => return self.fail_task(task, expression_failure("prompt", &error)),
        };
        if let Some(Err(error)) = prompt.system.as_ref().map(|system| expression::render(system, &scope)) {
            return self.fail_task(task, expression_failure("system", &error));
        }
        self.request_model(node, ChatMessage::text(ChatRole::User, question), IsRepair::No);
    }

    /// Continues after a reply: makes the requested calls, returns their results, or accepts the reply as the answer.
    pub(crate) fn continue_prompt(&mut self, node: NodeIndex, prompt: &Prompt) {
        let Some(conversation) = &self.run.tasks[node.index()].conversation else { return };
        if conversation.failures > 0 {
            return self.send_request(node, PromptRequestKind::Retry, Vec::new());
        }
        let Some(reply) = conversation.messages.last() else { return };
        let asks = reply.parts.iter().any(ChatPart::is_tool_use);
        if !asks {
            return self.accept_answer(node, prompt, reply.text_content());
        }
        // A call that cannot be made does not invalidate the text next to it.
        if prompt.tools.is_empty() && !reply.text_content().trim().is_empty() {
            return self.accept_answer(node, prompt, reply.text_content());
        }
        let calls = called_tools(reply);
        if prompt.tools.is_empty() {
            let problem = format!("the model called {calls} instead of answering, but this prompt has no tools");
            let request = format!("You called {calls}, but no tools are available here. Answer with text.");
            return self.repair_or_fail(node, request, Failure::new(FailureKind::ModelFailed, problem));
        }
        if conversation.exchange >= prompt.max_turns {
            let failure = self.reply_limit_failure(prompt, &calls);
            return self.fail_task(self.run.graph[node].id.clone(), failure);
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
            // No call is readable and names an available tool; the results report this to the model.
            return self.return_results(node);
        }
        self.emit(Event::ToolCallsAdded { parent: self.run.graph[node].id.clone(), calls });
        self.reuse_call_results(node);
    }

    /// Returns the results of the tool calls to the model, once all of them have ended.
    fn return_results(&mut self, node: NodeIndex) {
        let Some(conversation) = &self.run.tasks[node.index()].conversation else { return };
        let Some(reply) = conversation.messages.last() else { return };
        let results = reply.parts.iter().filter_map(|part| match part {
            ChatPart::ToolUse { id, name, .. } => {
                let call = conversation.calls.iter().find(|(called, _)| called == id);
                let (text, is_error) = match call {
                    Some((_, call)) => self.run.tasks[call.index()].result_for_model(),
                    None => (format!("unknown tool `{name}`{}", self.run.tools_in_words(node)), true),
                };
                Some(ChatPart::ToolResult { id: id.clone(), text, is_error })
            }
            ChatPart::UnreadableToolUse { id, name, .. } if name.is_empty() => {
                let text = format!("the call does not name a tool{}", self.run.tools_in_words(node));
                Some(ChatPart::ToolResult { id: id.clone(), text, is_error: true })
            }
            ChatPart::UnreadableToolUse { id, name, problem } => {
                let text = format!("`{name}` was not called: its arguments {problem}; give one JSON object");
                Some(ChatPart::ToolResult { id: id.clone(), text, is_error: true })
            }
            _ => None,
        });
        let message = ChatMessage { role: ChatRole::User, parts: results.collect() };
        self.request_model(node, message, IsRepair::No);
    }

    /// Accepts the model's text as the answer, or requests one correction.
    fn accept_answer(&mut self, node: NodeIndex, prompt: &Prompt, text: String) {
        if let Some(failure) = self.run.incomplete_answer_failure(node, prompt, &text) {
            return self.fail_task(self.run.graph[node].id.clone(), failure);
        }
        let mut unchecked = None;
        let structured = match self.run.answer_schema(node, prompt) {
            None => None,
            Some(schema) => match answer_by_schema(&text, &schema) {
                Ok((value, reason)) => {
                    unchecked = reason;
                    Some(value)
                }
                Err(problem) => {
                    let message = format!("the model's answer does not match `output_schema`: {problem}");
                    let request = format!(
                        "Invalid answer: {problem}. Answer again with only JSON that is valid against the schema."
                    );
                    return self.repair_or_fail(node, request, Failure::new(FailureKind::ModelFailed, message));
                }
            },
        };
        if structured.is_none()
            && let Some(markup) = tool_call_markup(&text).filter(|_| !prompt.tools.is_empty())
        {
            let message = format!("the model wrote a tool call as plain text (`{markup}`), so no tool was called");
            let help = "start the endpoint with its tool-call parser (llama.cpp: `--jinja`; vLLM: \
                        `--enable-auto-tool-choice --tool-call-parser …`), or use another model";
            let request =
                format!("You wrote a tool call as plain text (`{markup}`), so no tool was called. Answer with text.");
            let failure = Failure::new(FailureKind::ModelFailed, message).with_help(help);
            return self.repair_or_fail(node, request, failure);
        }
        if structured.is_none() && text.trim().is_empty() {
            let failure = self.run.empty_answer_failure(node);
            return self.fail_task(self.run.graph[node].id.clone(), failure);
        }
        let (task, last) = (self.run.graph[node].id.clone(), !self.can_repair(node));
        // If the JSON was in a code fence or in prose, only the JSON is the answer.
        let shown = structured.as_ref().filter(|_| serde_json::from_str::<Value>(text.trim()).is_err());
        let mut content = vec![ContentBlock::Text(shown.map_or_else(|| text.clone(), Value::to_string))];
        if let Some(reason) = unchecked {
            content.push(ContentBlock::Text(format!("\n\n(Not validated against `output_schema`: {reason}.)")));
        }
        let problems = if self.run.is_synthesis(node) {
            answer::check_answer(&text, &self.run.synthesis_sources(node))
        } else {
            Vec::new()
        };
        if !problems.is_empty() {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let problems = problems.join("; ");
            if !last {
                let request = answer::repair_request(&problems);
                return self.request_model(node, ChatMessage::text(ChatRole::User, request), IsRepair::Yes);
            }
            let note = format!("\n\n(Not verified: {problems}.)");
            content.push(ContentBlock::Text(note));
        }
        if self.run.is_synthesis(node)
            && let Some(note) = unfinished::unfinished_notice(&self.run.unfinished_tasks(node))
        {
            content.push(ContentBlock::Text(format!("\n{note}")));
        }
        let output = Arc::new(ToolOutput { content, structured, warning: None });
        self.emit(Event::TaskEnded { task, outcome: Outcome::Succeeded(output) });
    }

    /// Returns whether the model can be asked for one correction. There are no further exchanges while the run stops.
    fn can_repair(&self, node: NodeIndex) -> bool {
        let conversation = self.run.tasks[node.index()].conversation.as_ref();
        conversation.is_some_and(|conversation| !conversation.is_repair_requested) && self.run.stop_reason.is_none()
    }

    /// Requests a correction that names the problem. Fails the task if one was already requested.
    fn repair_or_fail(&mut self, node: NodeIndex, request: String, failure: Failure) {
        match self.can_repair(node) {
            true => self.request_model(node, ChatMessage::text(ChatRole::User, request), IsRepair::Yes),
            false => self.fail_task(self.run.graph[node].id.clone(), failure),
        }
    }

    /// Returns the failure of a prompt whose model requested tools in its last exchange.
    fn reply_limit_failure(&self, prompt: &Prompt, calls: &str) -> Failure {
        let message = format!(
            "the model called {calls} in the last of its {} replies (`max_turns`) instead of answering",
            prompt.max_turns
        );
        Failure::new(FailureKind::ModelFailed, message).with_help("raise `max_turns` of the task")
    }

    fn request_model(&mut self, node: NodeIndex, message: ChatMessage, repair: IsRepair) {
        let messages = vec![Arc::new(message)];
        self.send_request(
            node,
            if repair == IsRepair::Yes { PromptRequestKind::Repair } else { PromptRequestKind::Next },
            messages,
        );
    }

    /// Sends the conversation and the new `messages` to the model.
    fn send_request(&mut self, node: NodeIndex, kind: PromptRequestKind, messages: Vec<Arc<ChatMessage>>) {
        let task = self.run.graph[node].id.clone();
        if !self.check_budget(node, CostKind::ModelCall) {
            return;
        }
        let said = self.run.tasks[node.index()].conversation.as_deref();
        let number = said.map_or(0, |said| said.exchange) + u32::from(kind != PromptRequestKind::Retry);
        let ends_at = match kind {
            PromptRequestKind::Retry => said.and_then(|said| said.deadline),
            PromptRequestKind::Next | PromptRequestKind::Repair => {
                self.run.graph[node].task.deadline.map(|span| self.now.after(span.0))
            }
        };
        let (retry, repair) = (kind == PromptRequestKind::Retry, kind == PromptRequestKind::Repair);
        let chat = self.run.next_request(node, NextRequest { number, messages: &messages, repair });
        let estimated_tokens = chat.estimate_tokens();
        if !self.check_token_budget(node, estimated_tokens) {
            return;
        }
        let attempt = AttemptId { task, number: self.run.tasks[node.index()].attempts + 1 };
        self.emit(Event::ModelRequested {
            attempt: attempt.clone(),
            messages,
            repair,
            estimated_tokens,
            retry,
            deadline: ends_at.filter(|_| !retry),
        });
        let deadline = ends_at.map(|ends_at| HumanDuration(ends_at.since(self.now)));
        let chat = Box::new(ChatRequest { deadline, ..chat });
        self.push_command(Command::RequestModel { attempt, chat });
    }

    /// Retries a failed model request within the task's `retry` and `deadline`, or fails the task. Nothing is retried
    /// while the run stops.
    pub(crate) fn on_model_failed(&mut self, node: NodeIndex) {
        let entry = &self.run.tasks[node.index()];
        let (Some(failure), Some(conversation)) = (entry.last_failure.as_deref().cloned(), &entry.conversation) else {
            return;
        };
        let (task, id) = (&self.run.graph[node].task, self.run.graph[node].id.clone());
        if self.run.stop_reason.is_some() {
            return self.emit(Event::TaskEnded { task: id, outcome: Outcome::Cancelled });
        }
        let (failures, deadline) = (conversation.failures, conversation.deadline);
        let Some(HumanDuration(asked)) = conversation.retry_after.filter(|_| failures < task.retry.max_attempts) else {
            return self.fail_task(id, failure);
        };
        let pause = retry::retry_delay(&task.retry.backoff, failures, self.run.seed, &id).max(asked);
        let ready_at = self.now.after(pause);
        if deadline.is_some_and(|deadline| ready_at >= deadline) {
            let help = format!("the next attempt would be in {}, after the task's `deadline`", HumanDuration(pause));
            return self.fail_task(id, failure.with_additional_help(help));
        }
        if deadline.is_none() && retry::is_too_long(asked, None) {
            let help =
                format!("a task without a `deadline` waits at most {}", HumanDuration(retry::MAX_RETRY_AFTER_DELAY));
            return self.fail_task(id, failure.with_additional_help(help));
        }
        self.emit(Event::RetryScheduled { task: id, ready_at, agent: None, reason: failure.message });
    }

    /// Ends a prompt while the run stops. The task succeeds if the last reply is a valid answer.
    pub(crate) fn finish_prompt(&mut self, node: NodeIndex) {
        let work = Arc::clone(&self.run.graph[node].task);
        let reply = self.run.tasks[node.index()].conversation.as_ref().and_then(|said| said.messages.last().cloned());
        let (Some(prompt), Some(reply)) = (work.prompt(), reply) else { return };
        let is_complete = self.run.tasks[node.index()]
            .conversation
            .as_ref()
            .is_some_and(|said| said.reply_status == ReplyStatus::Complete);
        let is_answer = is_complete && !reply.parts.iter().any(ChatPart::is_tool_use);
        let text = reply.text_content();
        let schema = self.run.answer_schema(node, prompt);
        let fits = schema.is_none_or(|schema| answer_by_schema(&text, &schema).is_ok());
        if is_answer && fits {
            return self.accept_answer(node, prompt, text);
        }
        self.emit(Event::TaskEnded { task: self.run.graph[node].id.clone(), outcome: Outcome::Cancelled });
    }
}

/// The kind of a request to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PromptRequestKind {
    Next,
    /// A request to correct an unusable answer.
    Repair,
    /// A repetition of a failed request.
    Retry,
}

/// A flag that marks a request to correct the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsRepair {
    No,
    Yes,
}

impl TaskEntry {
    /// Returns the result of a tool call as text for the model, and whether it is an error.
    fn result_for_model(&self) -> (String, bool) {
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
