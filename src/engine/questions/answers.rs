//! Asks a person, and executes the consequences of an answer.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::state::run_state::State;
use crate::engine::transition::Transition;
use crate::model::{
    AgentId, Answer, Asker, Command, Event, Failure, FailureKind, Form, InputSchema, ItemPlace, JsonObject, NodeIndex,
    Outcome, ProposedCall, Question, QuestionDeadline, QuestionId, RequestId, ToolOutput,
};

impl Transition<'_> {
    pub(crate) fn ask_person(&mut self, asker: Asker, message: String, form: Form, request: Option<RequestId>) {
        let id = QuestionId::from(format!("q{}", self.run.questions.entries().len() + 1));
        let tool = self.run.asking_tool(&asker);
        let call = self.run.proposed_call(&asker);
        let deadline = self.run.question_deadline(&asker, self.now);
        let deadline = deadline.map(|(at, default)| QuestionDeadline { at, default });
        let item = self.run.item_of(&asker);
        let question = Arc::new(Question { id, asker, item, tool, call, message, form, deadline });
        self.emit(Event::QuestionAsked { question: Arc::clone(&question), request });
        self.push_command(Command::AskPerson { question });
    }

    pub(crate) fn on_question_answered(&mut self, question: QuestionId, answer: Answer, by: String) {
        let Some(entry) = self.run.questions.get(&question).filter(|entry| !entry.is_answered()) else { return };
        let (asker, request) = (entry.question.asker.clone(), entry.request.clone());
        let answer = without_stray_content(&entry.question, answer);
        self.emit(Event::QuestionAnswered { question, answer: answer.clone(), by: by.clone() });
        self.execute_answer((asker, request), answer, &by);
    }

    /// Accepts the open question about a page that its agent reports as completed.
    pub(crate) fn on_page_completed(&mut self, agent: &AgentId, id: &str) {
        let is_asked = |question: &Question| {
            question.asker.agent() == Some(agent)
                && matches!(&question.form, Form::Url { id: Some(known), .. } if known == id)
        };
        let open = self.run.questions.entries().filter(|entry| !entry.is_answered());
        let Some(question) = open.map(|entry| &entry.question).find(|question| is_asked(question)) else { return };
        let by = format!("agent `{agent}`, which reports the page as completed");
        self.on_question_answered(question.id.clone(), Answer::Accept { content: None }, by);
    }

    /// Approves a call and all other calls of its tool, including the ones without a question so far. Where no tool is
    /// called, this applies to the items of its `foreach` task.
    pub(crate) fn approve_rest(&mut self, question: QuestionId, by: String) {
        let Some(entry) = self.run.questions.get(&question).filter(|entry| !entry.is_answered()) else { return };
        let asked = Arc::clone(&entry.question);
        let accept = Answer::Accept { content: None };
        self.on_question_answered(question, accept.clone(), by.clone());
        let Some((event, name)) = self.run.approval_of_rest(&asked, &by) else { return };
        let is_covered = |other: &Question| match &asked.call {
            Some(call) => {
                let of_tool = |other: &ProposedCall| (&other.agent, &other.tool) == (&call.agent, &call.tool);
                matches!(other.asker, Asker::Plan { .. }) && other.call.as_ref().is_some_and(of_tool)
            }
            None => self.run.parent_of(&other.asker) == self.run.parent_of(&asked.asker),
        };
        let others: Vec<QuestionId> = (self.run.questions.entries())
            .filter(|entry| !entry.is_answered() && is_covered(&entry.question))
            .map(|entry| entry.question.id.clone())
            .collect();
        for other in others {
            self.on_question_answered(other, accept.clone(), format!("{by}, for all of `{name}`"));
        }
        self.emit(event);
    }

    /// Executes the consequences of an answer.
    pub(crate) fn execute_answer(&mut self, question: (Asker, Option<RequestId>), answer: Answer, by: &str) {
        match question {
            (Asker::Agent(_), Some(request)) => self.push_command(Command::AnswerElicitation { request, answer }),
            (Asker::Plan { task }, _) if self.run.is_ask(&task) => {
                let Some(node) = self.run.awaiting_node(&task) else { return };
                match answer {
                    Answer::Accept { content } => {
                        let structured = Some(content.unwrap_or(Value::Bool(true)));
                        let output = Arc::new(ToolOutput { structured, ..ToolOutput::default() });
                        self.end_task(node, Outcome::Succeeded(output));
                    }
                    Answer::Decline | Answer::Cancel => {
                        let message = format!("the question was not answered with yes (answered by {by})");
                        self.fail_task(node, Failure::new(FailureKind::Denied, message));
                    }
                }
            }
            (Asker::Plan { task }, _) if !matches!(answer, Answer::Accept { .. }) => {
                // The end of the run may have ended the task already.
                if let Some(node) = self.run.awaiting_node(&task) {
                    self.fail_task(node, Failure::new(FailureKind::Denied, format!("not approved (answered by {by})")));
                }
            }
            (Asker::Host { attempt }, _) => {
                if let Some(node) = self.run.awaiting_node(&attempt.task) {
                    self.on_ambiguity_resolved(node, &answer);
                }
            }
            (Asker::Replan { number }, _) => self.on_replan_answered(number, &answer, by),
            _ => {}
        }
    }
}

/// Removes what an approval cannot contain: anything but the arguments of a call.
fn without_stray_content(question: &Question, answer: Answer) -> Answer {
    let is_call = matches!(question.asker, Asker::Plan { .. }) && question.call.is_some();
    match (&question.form, answer) {
        (Form::Approval, Answer::Accept { content }) => {
            Answer::Accept { content: content.filter(|content| is_call && content.is_object()) }
        }
        (_, answer) => answer,
    }
}

impl State {
    /// Returns the event that approves all further calls like the one in question, and the name of what it covers.
    fn approval_of_rest(&self, asked: &Question, by: &str) -> Option<(Event, String)> {
        if !matches!(asked.asker, Asker::Plan { .. }) {
            return None;
        }
        let by = by.to_owned();
        if let Some(ProposedCall { agent, tool, .. }) = &asked.call {
            let name = format!("{agent}.{tool}");
            return Some((Event::ToolApproved { agent: agent.clone(), tool: Arc::clone(tool), by }, name));
        }
        let task = self.graph[self.parent_of(&asked.asker)?].id.clone();
        let name = task.to_string();
        Some((Event::RestApproved { task, by }, name))
    }

    /// Returns the schema of the arguments of a call that awaits approval, if the agent described the tool.
    pub fn input_schema(&self, call: &ProposedCall) -> Option<&JsonObject> {
        let info = self.agents.get(&call.agent)?.last_info.as_ref()?;
        Some(&info.tool(&call.tool)?.input_schema)
    }

    /// Returns the call that an approval in the plan is about. Arguments that cannot be rendered fail the call later.
    fn proposed_call(&self, asker: &Asker) -> Option<ProposedCall> {
        let Asker::Plan { task } = asker else { return None };
        let node = self.graph.node_index(task.as_str())?;
        let route = self.graph[node].task.routes().first()?.clone();
        let arguments = ProposedCall::truncate_arguments(Value::Object(self.arguments(node).unwrap_or_default()));
        let effect = self.repetition_effect(node, 0);
        Some(ProposedCall {
            agent: route.agent,
            tool: route.tool,
            arguments,
            effect,
            input_schema: InputSchema::default(),
        })
    }

    /// Returns the `foreach` task whose item an approval in the plan is about.
    fn parent_of(&self, asker: &Asker) -> Option<NodeIndex> {
        let Asker::Plan { task } = asker else { return None };
        Some(self.graph[self.graph.node_index(task.as_str())?].item()?.parent)
    }

    /// Returns the item of a `foreach` task that an approval in the plan is about.
    fn item_of(&self, asker: &Asker) -> Option<ItemPlace> {
        let Asker::Plan { task } = asker else { return None };
        let node = self.graph.node_index(task.as_str())?;
        let items = self.tasks[self.graph[node].item()?.parent.index()].items.clone();
        Some(ItemPlace { number: node.index().checked_sub(items.start)? + 1, of: items.len() })
    }

    /// Returns whether a person approved all calls of the tool that a node calls first, or all items of its task.
    pub(crate) fn is_approved_in_advance(&self, node: NodeIndex) -> bool {
        let is_rest = self.graph[node].item().is_some_and(|item| self.tasks[item.parent.index()].rest_approved);
        let first = self.graph[node].task.routes().first();
        is_rest
            || first.is_some_and(|route| self.approved_tools.contains(&(route.agent.clone(), Arc::clone(&route.tool))))
    }

    /// Returns the tool whose call asks. For an approval, returns the tool of the first route.
    fn asking_tool(&self, asker: &Asker) -> Option<Arc<str>> {
        let (task, has_started) = match asker {
            Asker::Plan { task } => (task, false),
            Asker::Replan { .. } => return None,
            Asker::Agent(origin) => (&origin.attempt.as_ref()?.task, true),
            Asker::Host { attempt } => (&attempt.task, true),
        };
        let node = self.graph.node_index(task.as_str())?;
        let last = self.tasks[node.index()].last_route.filter(|_| has_started);
        let route = self.graph[node].task.routes().get(last.unwrap_or(0))?;
        Some(Arc::clone(&route.tool))
    }
}
