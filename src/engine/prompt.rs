//! Decides how a prompt is answered: what the model is asked, which tools it gets, when its answer will do.
//! Never asks it; a turn is an order like any other.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    expression,
    model::{
        AttemptId, Block, ChatMessage, ChatPart, ChatRequest, ChatRole, ChatTool, Command, Event, Failure, FailureKind,
        NodeIndex, Outcome, OutputForm, Prompt, PromptCall, ToolChoice, ToolOutput, Work, json_candidates,
    },
};

use crate::synthesizer::answer;

use super::{
    advance::expression_failure,
    budget::Expense,
    decide::Decision,
    run::{Connection, Run, TaskState},
};

impl Decision<'_> {
    /// Asks for the first time, once every agent whose tools the prompt allows has answered or failed.
    pub(super) fn start_prompt(&mut self, node: NodeIndex, prompt: &Prompt) {
        for tool in &prompt.tools {
            self.connect(&tool.agent);
            if self.run.agents[&tool.agent].connection == Connection::Connecting {
                self.run.queues.by_agent.entry(tool.agent.clone()).or_default().push_back(node);
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
        let Some(reply) = conversation.messages.last() else { return };
        let asks = reply.parts.iter().any(ChatPart::asks_for_tool);
        if !asks || conversation.turn >= prompt.max_turns {
            return self.take_answer(node, prompt, reply.all_text());
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
                    None => (format!("there is no tool `{name}` here"), true),
                };
                Some(ChatPart::ToolResult { id: id.clone(), text, is_error })
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
        let task = self.run.graph[node].id.clone();
        let repaired = self.run.tasks[node.index()].conversation.as_ref().is_none_or(|said| said.repaired);
        // While the run stops, there is no other turn.
        let last = repaired || self.run.stop.is_some();
        let structured = match &prompt.output_schema {
            None => None,
            Some(schema) => match answer_by_schema(&text, schema) {
                Ok(value) => Some(value),
                Err(problem) => {
                    if last {
                        let message = format!("the model's answer breaks `output_schema`: {problem}");
                        return self.fail(task, Failure::new(FailureKind::ModelFailed, message));
                    }
                    let request =
                        format!("That answer cannot be used: {problem}. Answer again with JSON alone, by the schema.");
                    return self.ask_model(node, vec![ChatMessage::text(ChatRole::User, request)], Repair::Yes);
                }
            },
        };
        if structured.is_none() && text.trim().is_empty() {
            let help = "a higher `max_tokens` gives it room; another model may do better";
            let failure = Failure::new(FailureKind::ModelFailed, "the model gave an empty answer").with_help(help);
            return self.fail(task, failure);
        }
        // Where the JSON stood in a fence or in prose, it alone is the answer.
        let shown = structured.as_ref().filter(|_| serde_json::from_str::<Value>(text.trim()).is_err());
        let mut content = vec![Block::Text(shown.map_or_else(|| text.clone(), Value::to_string))];
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
        let output = Arc::new(ToolOutput { content, structured });
        self.emit(Event::TaskEnded { task, outcome: Outcome::Succeeded(output) });
    }

    fn ask_model(&mut self, node: NodeIndex, messages: Vec<ChatMessage>, repair: Repair) {
        let task = self.run.graph[node].id.clone();
        if !self.can_spend(node, Expense::ModelCall) {
            return;
        }
        let turn = self.run.tasks[node.index()].conversation.as_ref().map_or(0, |conversation| conversation.turn) + 1;
        let attempt = AttemptId { task, number: turn };
        self.emit(Event::ModelAsked { attempt: attempt.clone(), messages, repair: repair == Repair::Yes });
        let chat = Box::new(self.run.chat(node));
        self.order(Command::AskModel { attempt, chat });
    }

    /// Ends a prompt while the run stops: with the answer, if the model has just given it.
    pub(super) fn finish_prompt(&mut self, node: NodeIndex) {
        let work = Arc::clone(&self.run.graph[node].task);
        let reply = self.run.tasks[node.index()].conversation.as_ref().and_then(|said| said.messages.last().cloned());
        let (Some(prompt), Some(reply)) = (work.prompt(), reply) else { return };
        let is_answer = !reply.parts.iter().any(ChatPart::asks_for_tool);
        let text = reply.all_text();
        let fits = prompt.output_schema.as_ref().is_none_or(|schema| answer_by_schema(&text, schema).is_ok());
        if is_answer && fits {
            return self.take_answer(node, prompt, text);
        }
        self.emit(Event::TaskEnded { task: self.run.graph[node].id.clone(), outcome: Outcome::Cancelled });
    }
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
        let Some(prompt) = self.graph[node].task.prompt() else { return ChatRequest::default() };
        let conversation = self.tasks[node.index()].conversation.clone().unwrap_or_default();
        let tools: Vec<ChatTool> = self.allowed_tools(prompt).into_iter().map(|(_, _, tool)| tool).collect();
        let last = conversation.turn >= prompt.max_turns || conversation.repaired;
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
        ChatRequest {
            model: prompt.model.clone(),
            system: match (rules.or(system), instruction) {
                (Some(system), Some(instruction)) => Some(format!("{system}\n\n{instruction}")),
                (system, instruction) => system.or(instruction),
            },
            messages: conversation.messages,
            max_tokens: prompt.max_tokens,
            tool_choice: if tools.is_empty() || !last { ToolChoice::Auto } else { ToolChoice::None },
            tools,
            output: output.map(|schema| OutputForm { name: "answer".into(), schema }),
            ..ChatRequest::default()
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

/// Text as it is, anything else as JSON.
fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Reads an answer that must be JSON by `schema`, in a code fence or within prose if need be.
fn answer_by_schema(text: &str, schema: &Value) -> Result<Value, String> {
    let validator = jsonschema::validator_for(schema).map_err(|error| format!("the schema is wrong ({error})"))?;
    let mut candidates = json_candidates(text);
    if let Some(valid) = candidates.iter().position(|value| validator.is_valid(value)) {
        return Ok(candidates.swap_remove(valid));
    }
    let Some(value) = candidates.first() else {
        let problem = serde_json::from_str::<Value>(text.trim()).err().map(|error| format!(" ({error})"));
        return Err(format!("it is not JSON{}", problem.unwrap_or_default()));
    };
    let problems: Vec<String> = validator
        .iter_errors(value)
        .take(5)
        .map(|error| match error.instance_path().as_str() {
            "" => error.to_string(),
            path => format!("at `{path}`: {error}"),
        })
        .collect();
    Err(problems.join("; "))
}
