//! Builds the model requests of a prompt: messages, allowed tools, and the format of the answer.

use std::sync::Arc;

use crate::engine::state::agent::ConnectionStatus;
use crate::engine::state::run::Run;
use crate::engine::synthesis::answer;
use crate::expression;
use crate::model::{
    AgentId, ChatMessage, ChatPart, ChatRequest, ChatTool, NodeIndex, Prompt, ReplySchema, ToolChoice, ToolInfo,
    value_as_text,
};

/// The parameters of the next exchange of a prompt.
pub(super) struct NextRequest<'m> {
    pub(super) number: u32,
    /// The messages to add to the conversation.
    pub(super) messages: &'m [Arc<ChatMessage>],
    pub(super) repair: bool,
}

impl Run {
    /// Builds the request of the current exchange: all messages, and the tools that the prompt allows.
    pub(crate) fn current_request(&self, node: NodeIndex) -> ChatRequest {
        let number = self.tasks[node.index()].conversation.as_ref().map_or(0, |conversation| conversation.exchange);
        self.next_request(node, NextRequest { number, messages: &[], repair: false })
    }

    /// Builds the request of the next exchange. It is built once per exchange, since a conversation can be long.
    pub(super) fn next_request(&self, node: NodeIndex, next: NextRequest<'_>) -> ChatRequest {
        let Some(prompt) = self.graph[node].task.prompt() else { return ChatRequest::default() };
        let conversation = self.tasks[node.index()].conversation.as_deref();
        let tools: Vec<ChatTool> = self.allowed_tools(prompt).into_iter().map(|(_, _, tool)| tool).collect();
        let repaired = next.repair || conversation.is_some_and(|conversation| conversation.is_repair_requested);
        let last = next.number >= prompt.max_turns || repaired;
        let scope = self.scope(node);
        // The first exchange rendered it already, and the values that it refers to do not change.
        let rules = self.is_synthesis(node).then(|| answer::INSTRUCTIONS.to_owned());
        let system = prompt
            .system
            .as_ref()
            .and_then(|system| expression::render(system, &scope).ok())
            .map(|value| value_as_text(&value));
        // Endpoints that receive both tools and a schema ignore the tools. The schema is sent in exchanges without
        // tools only.
        let can_call_tools = !tools.is_empty() && !last;
        let instruction = prompt.output_schema.as_ref().filter(|_| can_call_tools).map(|schema| {
            format!("Your final answer must be only JSON that is valid against this JSON Schema: {schema}")
        });
        let output = prompt.output_schema.clone().filter(|_| !can_call_tools);
        let earlier = conversation.map_or(&[][..], |conversation| conversation.messages.as_slice());
        let mut messages: Vec<Arc<ChatMessage>> = earlier.iter().chain(next.messages).map(Arc::clone).collect();
        if prompt.tools.is_empty() {
            messages.iter_mut().for_each(replace_calls_with_text);
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
            output: output.map(|schema| ReplySchema { name: "answer".into(), schema, is_described: false }),
            timeout: self.graph[node].task.timeout,
            // Retries of the client would multiply with the retries of the task.
            single_try: self.graph[node].task.retry.max_attempts > 1,
            ..ChatRequest::default()
        }
    }

    /// Returns the tools that the prompt of a node can call, as the end of a sentence.
    pub(super) fn tools_in_words(&self, node: NodeIndex) -> String {
        let Some(prompt) = self.graph[node].task.prompt() else { return String::new() };
        let names: Vec<String> =
            self.allowed_tools(prompt).iter().map(|(.., tool)| format!("`{}`", tool.name)).collect();
        match names.is_empty() {
            true => String::new(),
            false => format!("; the available tools are {}", names.join(", ")),
        }
    }

    pub(super) fn is_synthesis(&self, node: NodeIndex) -> bool {
        self.graph[node].task.is_synthesis()
    }

    /// Returns the available tools that a prompt allows, each named `AGENT.TOOL`.
    pub(super) fn allowed_tools(&self, prompt: &Prompt) -> Vec<(AgentId, Arc<str>, ChatTool)> {
        let mut offered = Vec::new();
        for allowed in &prompt.tools {
            let ConnectionStatus::Connected(info) = &self.agents[&allowed.agent].connection else { continue };
            let is_allowed = |tool: &&ToolInfo| allowed.tool.as_ref().is_none_or(|name| **name == *tool.name);
            for tool in info.tools.iter().filter(is_allowed) {
                let name = format!("{}.{}", allowed.agent, tool.name);
                let description = tool.description.clone().or_else(|| tool.title.clone());
                let chat = ChatTool { name, description, input_schema: tool.input_schema.clone() };
                offered.push((allowed.agent.clone(), Arc::from(tool.name.as_str()), chat));
            }
        }
        offered
    }
}

/// Replaces the tool calls of a message by text, since endpoints reject calls without results.
fn replace_calls_with_text(message: &mut Arc<ChatMessage>) {
    if !message.parts.iter().any(ChatPart::is_tool_use) {
        return;
    }
    for part in &mut Arc::make_mut(message).parts {
        if let ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } = part {
            *part = ChatPart::Text { text: format!("(a call of the tool `{name}`)") };
        }
    }
}
