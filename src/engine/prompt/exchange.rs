//! Drives the exchanges of a prompt: the messages to the model, its tool calls, and the acceptance of its answer.

use std::sync::Arc;

use serde_json::Value;

use super::reply::{answer_by_schema, called_tools};
use super::request::NextRequest;
use crate::engine::budget::limits::CostKind;
use crate::engine::retry;
use crate::engine::scope::{check_has_no_large_text, expression_failure};
use crate::engine::state::agent::ConnectionStatus;
use crate::engine::state::task::TaskEntry;
use crate::engine::synthesis::{answer, unfinished};
use crate::engine::transition::Transition;
use crate::expression;
use crate::model::{
    ChatMessage, ChatPart, ChatRequest, ChatRole, Command, ContentBlock, Event, Failure, FailureKind, HumanDuration,
    NodeIndex, Operation, Outcome, Prompt, PromptCall, PromptSource, ReplyStatus, Template, ToolOutput,
    tool_call_markup, value_as_text,
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
        let scope = self.run.scope(node);
        let render = |key: &str, template: &Template| {
            let value = expression::render(template, &scope).map_err(|error| expression_failure(key, &error))?;
            check_has_no_large_text(key, &value).map(|()| value)
        };
        if let Some(Err(failure)) = prompt.system.as_ref().map(|system| render("system", system)) {
            return self.fail_task(node, failure);
        }
        let messages = match &prompt.source {
            PromptSource::Prompt(template) => {
                let question = match render("prompt", template) {
                    Ok(request) if self.run.is_synthesis(node) => {
                        let mut request = value_as_text(&request);
                        if let Some(missing) = self.run.missing_part() {
                            request.push_str(&format!(
                                "\n\nThis part was not done, and the answer must say so: {missing}"
                            ));
                        }
                        answer::synthesis_prompt(&request, &self.run.synthesis_sources(node))
                    }
                    Ok(question) => value_as_text(&question),
                    Err(failure) => return self.fail_task(node, failure),
                };
                vec![Arc::new(ChatMessage::text(ChatRole::User, question))]
            }
            PromptSource::UsePrompt(prompt) => match self.server_messages(node, prompt) {
                Some(messages) => messages,
                None => return,
            },
        };
        self.send_request(node, PromptRequestKind::Next, messages);
    }

    /// Continues after a reply: makes the requested calls, returns their results, or accepts the reply as the answer.
    pub(crate) fn continue_prompt(&mut self, node: NodeIndex, prompt: &Prompt) {
        let Some(conversation) = &self.run.tasks[node.index()].conversation else { return };
        if conversation.failures > 0 {
            return self.send_request(node, PromptRequestKind::Retry, Vec::new());
        }
        let Some(reply) = conversation.messages.last() else { return };
        let requests_calls = reply.parts.iter().any(ChatPart::is_tool_use);
        // A call that cannot be made does not invalidate the text next to it.
        if !requests_calls || prompt.tools.is_empty() && !reply.text_content().trim().is_empty() {
            return self.accept_answer(node, prompt, reply.text_content());
        }
        let calls = called_tools(reply);
        if prompt.tools.is_empty() {
            let problem = format!("the model called {calls} instead of answering, but this prompt has no tools");
            let request = format!("You called {calls}, but no tools are available here. Answer with text.");
            return self.repair_or_fail(node, request, Failure::new(FailureKind::ModelFailed, problem));
        }
        if conversation.exchange >= prompt.max_turns {
            let message = format!(
                "the model called {calls} in the last of its {} replies (`max_turns`) instead of answering",
                prompt.max_turns
            );
            let failure = Failure::new(FailureKind::ModelFailed, message).with_help("raise `max_turns` of the task");
            return self.fail_task(node, failure);
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
                Some(PromptCall {
                    id,
                    agent: agent.clone(),
                    operation: Operation::CallTool,
                    tool: Arc::clone(tool),
                    arguments,
                })
            })
            .collect();
        if calls.is_empty() {
            // No call is readable and names an available tool; the results report this to the model.
            return self.return_results(node);
        }
        self.emit(Event::ToolCallsAdded { parent: self.run.graph[node].id.clone(), calls });
        let calls = self.run.tasks[node.index()].conversation.iter().flat_map(|conversation| &conversation.calls);
        self.reuse_results(calls.map(|(_, call)| *call).collect());
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
        self.request_model(node, PromptRequestKind::Next, message);
    }

    /// Accepts the model's text as the answer, or requests one correction.
    fn accept_answer(&mut self, node: NodeIndex, prompt: &Prompt, text: String) {
        if let Some(failure) = self.run.incomplete_answer_failure(node, prompt, &text) {
            return self.fail_task(node, failure);
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
            return self.fail_task(node, failure);
        }
        // If the JSON was in a code fence or in prose, only the JSON is the answer.
        let extracted = structured.as_ref().filter(|_| serde_json::from_str::<Value>(text.trim()).is_err());
        let mut content = vec![ContentBlock::Text(extracted.map_or_else(|| text.clone(), Value::to_string))];
        if let Some(reason) = unchecked {
            content.push(ContentBlock::Text(format!("\n\n(Not validated against `output_schema`: {reason}.)")));
        }
        let mut unverified = None;
        if self.run.is_synthesis(node) {
            let sources = self.run.synthesis_sources(node);
            let mut problems = answer::check_answer(&text, &sources);
            if let Some(citation) = answer::only_citation(&problems, &sources).filter(|_| structured.is_none()) {
                content = vec![ContentBlock::Text(format!("{} {citation}", text.trim_end()))];
                problems.clear();
            }
            if !problems.is_empty() {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let listed = problems.join("; ");
                if self.can_repair(node) {
                    let message = ChatMessage::text(ChatRole::User, answer::repair_request(&listed));
                    return self.request_model(node, PromptRequestKind::Repair, message);
                }
                content.push(ContentBlock::Text(format!("\n\n(Not verified: {listed}.)")));
                unverified = Some(problems.into_boxed_slice());
            }
            let unfinished = self.run.unfinished_tasks(node);
            if let Some(notice) = unfinished::unfinished_notice(&unfinished, self.run.missing_part()) {
                content.push(ContentBlock::Text(format!("\n{notice}")));
            }
        }
        let output = Arc::new(ToolOutput { content, structured, unverified, ..ToolOutput::default() });
        self.end_with_answer(node, output);
    }

    /// Returns whether the model can be asked for one correction. There are no further exchanges while the run stops.
    fn can_repair(&self, node: NodeIndex) -> bool {
        let conversation = self.run.tasks[node.index()].conversation.as_ref();
        conversation.is_some_and(|conversation| !conversation.is_repair_requested) && !self.run.stops(node)
    }

    /// Requests a correction that names the problem. Fails the task if one was already requested.
    fn repair_or_fail(&mut self, node: NodeIndex, request: String, failure: Failure) {
        match self.can_repair(node) {
            true => self.request_model(node, PromptRequestKind::Repair, ChatMessage::text(ChatRole::User, request)),
            false => self.fail_task(node, failure),
        }
    }

    fn request_model(&mut self, node: NodeIndex, kind: PromptRequestKind, message: ChatMessage) {
        self.send_request(node, kind, vec![Arc::new(message)]);
    }

    /// Sends the conversation and the new `messages` to the model.
    fn send_request(&mut self, node: NodeIndex, kind: PromptRequestKind, messages: Vec<Arc<ChatMessage>>) {
        if !self.check_budget(node, CostKind::ModelCall) {
            return;
        }
        let conversation = self.run.tasks[node.index()].conversation.as_deref();
        let (retry, repair) = (kind == PromptRequestKind::Retry, kind == PromptRequestKind::Repair);
        let number = conversation.map_or(0, |conversation| conversation.exchange) + u32::from(!retry);
        let ends_at = match retry {
            true => conversation.and_then(|conversation| conversation.deadline),
            false => self.run.graph[node].task.deadline.map(|deadline| self.now.after(deadline.0)),
        };
        let chat = self.run.next_request(node, NextRequest { number, messages: &messages, repair });
        let estimated_tokens = chat.estimate_tokens();
        if !self.check_token_budget(node, estimated_tokens) {
            return;
        }
        let attempt = self.run.next_attempt(node);
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
        if self.run.stops(node) {
            return self.end_task(node, Outcome::Cancelled);
        }
        let (failures, deadline) = (conversation.failures, conversation.deadline);
        let Some(HumanDuration(requested)) = conversation.retry_after.filter(|_| failures < task.retry.max_attempts)
        else {
            return self.fail_task(node, failure);
        };
        if let Some(refusal) = self.run.retry_refusal(node, &failure) {
            return self.fail_task(node, refusal.explain(failure));
        }
        let delay = self.run.next_delay(node, failures, requested);
        let ready_at = self.now.after(delay);
        if deadline.is_some_and(|deadline| ready_at >= deadline) {
            let help = format!("the next attempt would be in {}, after the task's `deadline`", HumanDuration(delay));
            return self.fail_task(node, failure.with_additional_help(help));
        }
        if deadline.is_none() && retry::is_too_long(requested, None) {
            let help =
                format!("a task without a `deadline` waits at most {}", HumanDuration(retry::MAX_RETRY_AFTER_DELAY));
            return self.fail_task(node, failure.with_additional_help(help));
        }
        self.emit(Event::RetryScheduled { task: id, ready_at, agent: None, reason: failure.message });
    }

    /// Ends a prompt while the run stops. The task succeeds if the last reply is a valid answer.
    pub(crate) fn finish_prompt(&mut self, node: NodeIndex) {
        let work = Arc::clone(&self.run.graph[node].task);
        let Some(conversation) = &self.run.tasks[node.index()].conversation else { return };
        let (Some(prompt), Some(reply)) = (work.prompt(), conversation.messages.last()) else { return };
        let is_complete = conversation.reply_status == ReplyStatus::Complete;
        let is_answer = is_complete && !reply.parts.iter().any(ChatPart::is_tool_use);
        let text = reply.text_content();
        let schema = self.run.answer_schema(node, prompt);
        let is_valid = schema.is_none_or(|schema| answer_by_schema(&text, &schema).is_ok());
        match is_answer && is_valid {
            true => self.accept_answer(node, prompt, text),
            false => self.end_task(node, Outcome::Cancelled),
        }
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

impl TaskEntry {
    /// Returns the result of a tool call as text for the model, and whether it is an error.
    fn result_for_model(&self) -> (String, bool) {
        match (self.output(), self.failure()) {
            (Some(output), _) => (text_for_model(output), false),
            (None, Some(failure)) => (failure.message.clone(), true),
            (None, None) => ("the call was not made".to_owned(), true),
        }
    }
}

/// Returns an output as text, with the texts of embedded resources and a line about each other content.
fn text_for_model(output: &ToolOutput) -> String {
    let mut text = value_as_text(&output.value());
    let more =
        output.content.iter().filter_map(|block| block.resource_text().map(str::to_owned).or_else(|| block.summary()));
    for more in more {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&more);
    }
    text
}
