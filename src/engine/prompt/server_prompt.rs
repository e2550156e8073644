//! Requests the prompt of an agent, and converts its messages to the first messages of the conversation.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::engine::scope::expression_failure;
use crate::engine::transition::Transition;
use crate::expression::{self, ExpressionError, json_type_name};
use crate::model::{
    ChatMessage, Event, Failure, FailureKind, JsonObject, NodeIndex, Operation, Outcome, PromptCall, ServerPrompt,
    ToolOutput, value_as_text,
};

impl Transition<'_> {
    /// Returns the messages of the prompt once the agent has returned them. Before that, adds the call that requests
    /// them. Ends the task if the call fails.
    pub(super) fn server_messages(&mut self, node: NodeIndex, prompt: &ServerPrompt) -> Option<Vec<Arc<ChatMessage>>> {
        let requested = self.run.tasks[node.index()].conversation.as_ref().and_then(|known| known.calls.first());
        let Some(&(_, call)) = requested else {
            self.request_server_prompt(node, prompt);
            return None;
        };
        let entry = &self.run.tasks[call.index()];
        match (entry.output(), entry.failure().cloned()) {
            (Some(output), _) => match messages(output) {
                Ok(messages) => return Some(messages),
                Err(problem) => {
                    let ServerPrompt { agent, name, .. } = prompt;
                    let message = format!("the prompt `{name}` of agent `{agent}` cannot be used: {problem}");
                    self.fail_task(node, Failure::new(FailureKind::InvalidResult, message));
                }
            },
            (None, Some(failure)) => self.fail_task(node, failure),
            (None, None) => self.end_task(node, Outcome::Cancelled),
        }
        None
    }

    /// Adds the call that requests the prompt.
    fn request_server_prompt(&mut self, node: NodeIndex, prompt: &ServerPrompt) {
        let rendered = expression::render(&prompt.arguments, &self.run.scope(node));
        let arguments = match text_arguments(rendered) {
            Ok(arguments) => arguments,
            Err(failure) => return self.fail_task(node, failure),
        };
        let mut parameters = JsonObject::from_iter([("name".to_owned(), json!(prompt.name))]);
        if !arguments.is_empty() {
            parameters.insert("arguments".to_owned(), arguments.into());
        }
        let call = PromptCall {
            id: String::new(),
            agent: prompt.agent.clone(),
            operation: Operation::GetPrompt,
            tool: Operation::GetPrompt.method().into(),
            arguments: parameters,
        };
        self.emit(Event::ToolCallsAdded { parent: self.run.graph[node].id.clone(), calls: vec![call] });
    }
}

/// Returns the arguments of a prompt. They are texts, so other values become JSON, and null values are omitted.
fn text_arguments(rendered: Result<Value, ExpressionError>) -> Result<JsonObject, Failure> {
    match rendered {
        Ok(Value::Object(arguments)) => {
            let arguments = arguments.into_iter().filter(|(_, value)| !value.is_null());
            Ok(arguments.map(|(name, value)| (name, Value::String(value_as_text(&value)))).collect())
        }
        Ok(Value::Null) => Ok(JsonObject::new()),
        Ok(other) => {
            let message = format!("`with` of `use_prompt` expects a map, but is {}", json_type_name(&other));
            Err(Failure::new(FailureKind::Expression, message))
        }
        Err(error) => Err(expression_failure("use_prompt", &error)),
    }
}

/// Converts the result of `prompts/get`.
fn messages(output: &ToolOutput) -> Result<Vec<Arc<ChatMessage>>, String> {
    let messages = output.structured.as_ref().and_then(|prompt| prompt.get("messages")?.as_array());
    let messages = messages.ok_or("it has no messages")?.iter().map(ChatMessage::from_prompt_message);
    messages.map(|message| message.map(Arc::new)).collect()
}
