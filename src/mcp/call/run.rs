//! Runs one call from its request, or from a checkpoint of an earlier process, to its output.
//! Never sends a request twice, unless the agent reports that it has not started the call.

use std::sync::Arc;

use serde_json::Value;

use super::active_call::ActiveCall;
use super::guard::{CallGuard, canceled_failure};
use super::reconnecting::connect_with_retry;
use crate::mcp::agents::CallContext;
use crate::mcp::checkpoint::{CallCheckpoint, StreamCheckpoint, interrupted_failure};
use crate::mcp::message::call_request::CallKind;
use crate::mcp::message::call_response::{self, CallResponse};
use crate::mcp::message::failure;
use crate::mcp::session::agent_connections::AgentConnections;
use crate::mcp::session::catalog::Catalog;
use crate::model::{AgentId, Failure, FailureKind, Protocol, SchemaChecks, ToolCall, ToolOutput};

/// Makes a call of `agent`, or resumes one.
///
/// # Errors
/// Returns a failure whose kind states what is known about the request; [`FailureKind::Interrupted`] for a call that the
/// agent no longer has.
pub(crate) async fn run(
    agent: &AgentConnections,
    request: ToolCall,
    context: CallContext,
) -> Result<Arc<ToolOutput>, Failure> {
    let CallContext { meta, cancel, checkpoint } = context;
    let checkpoint = checkpoint.map(|checkpoint| CallCheckpoint::from_value(checkpoint, &request)).transpose()?;
    let (connection, permit) = match &checkpoint {
        Some(CallCheckpoint::RemoteTask(_) | CallCheckpoint::Resource(_)) => {
            Box::pin(connect_with_retry(agent, &request, &cancel, || agent.acquire())).await?
        }
        _ => tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(canceled_failure(&request.tool)),
            ready = agent.acquire() => ready?,
        },
    };
    let guard = CallGuard::new(&request, connection.state.host.clone(), cancel);
    let mut call = ActiveCall { agent, connection, permit, request, meta, guard, resume_from: None };
    let output = call.run_to_output(checkpoint).await;
    call.guard.report_final_progress();
    output.map(Arc::new).map_err(|failure| call.refused_era(failure))
}

impl ActiveCall<'_> {
    /// Returns the output of the tool, or the resource that its result links to.
    async fn run_to_output(&mut self, checkpoint: Option<CallCheckpoint>) -> Result<ToolOutput, Failure> {
        let awaits = self.request.awaits.clone();
        let checkpoint = match (checkpoint, &awaits) {
            (Some(CallCheckpoint::Resource(resource)), Some(awaits)) => {
                return Box::pin(self.wait_for_resource(awaits, resource)).await;
            }
            (checkpoint, _) => checkpoint,
        };
        let response = self.request_result(checkpoint).await?;
        let mut output = call_response::into_output(&self.request, response)?;
        if self.is_tool_call() {
            Box::pin(self.check_result(&mut output)).await?;
        }
        match awaits {
            Some(awaits) => Box::pin(self.wait_for_linked_resource(&awaits, &output)).await,
            None => Ok(output),
        }
    }

    /// Returns the final result of the call, including input rounds and remote tasks.
    async fn request_result(&mut self, checkpoint: Option<CallCheckpoint>) -> Result<CallResponse, Failure> {
        let response = match checkpoint {
            None if !self.is_tool_call() => self.request_with_input(None).await?,
            None => {
                self.check_request().await?;
                match self.connection.catalog().needs_task(&self.request.tool) && !self.connection.modern {
                    true => Box::pin(self.exchange(&CallKind::ToolAsTask)).await?,
                    false => self.request_with_input(None).await?,
                }
            }
            Some(CallCheckpoint::Round(round)) => Box::pin(self.request_with_input(Some(round))).await?,
            Some(CallCheckpoint::RemoteTask(task)) => return Box::pin(self.reattach_task(task)).await,
            Some(CallCheckpoint::Stream(stream)) => Box::pin(self.resume_stream(stream)).await?,
            // The input was already sent, or the plan no longer waits for the resource.
            Some(CallCheckpoint::InputGiven | CallCheckpoint::Resource(_)) => {
                return Err(interrupted_failure(&self.request));
            }
        };
        match response {
            CallResponse::Task(task) => Box::pin(self.watch_new_task(task)).await,
            response => Ok(response),
        }
    }

    /// Resumes the response stream of an earlier process, in the session that made the request.
    async fn resume_stream(&mut self, stream: StreamCheckpoint) -> Result<CallResponse, Failure> {
        if self.connection.state.session.id() != Some(&*stream.session) {
            return Err(interrupted_failure(&self.request));
        }
        let task = stream.task.clone();
        self.resume_from = Some(stream);
        match task {
            Some(task) => Box::pin(self.reattach_task(task)).await,
            None => Box::pin(self.request_with_input(None)).await,
        }
    }

    /// Recognizes the failure of a tool whose library refuses elicitation or sampling on modern connections. With
    /// `protocol = "auto"`, further attempts connect in the legacy era.
    fn refused_era(&self, failure: Failure) -> Failure {
        let is_error = matches!(failure.kind, FailureKind::ToolError | FailureKind::ServerError | FailureKind::Refused);
        if !self.connection.modern || !is_error || !failure::refuses_modern_requests(&failure.message) {
            return failure;
        }
        let agent = &self.request.agent;
        if self.connection.spec.protocol != Protocol::Auto {
            let help = format!("remove `protocol = \"modern\"` from `[agents.{agent}]`");
            return failure.with_additional_help(help);
        }
        self.agent.switch_to_legacy(&self.connection);
        let help =
            format!("agent `{agent}` is connected in the legacy era from now on, so another attempt can succeed");
        Failure { kind: FailureKind::EraRefused, ..failure }.with_additional_help(help)
    }

    /// Checks the tool and the arguments before anything is sent. A stale catalog never causes a rejection.
    async fn check_request(&mut self) -> Result<(), Failure> {
        let (connection, tool) = (self.connection.clone(), self.request.tool.clone());
        let mut arguments = Value::Object(std::mem::take(&mut self.request.arguments));
        let mut known = connection.catalog();
        if connection.catalog_with(&tool).is_none() {
            known = Box::pin(self.refresh_catalog(&known)).await?;
        }
        let mut checked = Box::pin(self.check_arguments(&known, &mut arguments)).await;
        let by_list =
            |failure: &Failure| matches!(failure.kind, FailureKind::UnknownTool | FailureKind::InvalidArguments);
        if checked.as_ref().is_err_and(by_list) && known.is_stale() {
            let latest = Box::pin(self.refresh_catalog(&known)).await?;
            checked = Box::pin(self.check_arguments(&latest, &mut arguments)).await;
        }
        match checked {
            Err(failure)
                if failure.kind == FailureKind::InvalidArguments
                    && connection.spec.check_arguments == SchemaChecks::Warn =>
            {
                connection.state.warn(failure.message);
            }
            checked => checked?,
        }
        if let Value::Object(arguments) = arguments {
            self.request.arguments = arguments;
        }
        Ok(())
    }

    /// Checks the tool and its arguments against `catalog`, unless the agents file turns off the check of arguments.
    async fn check_arguments(&mut self, catalog: &Catalog, arguments: &mut Value) -> Result<(), Failure> {
        let (connection, name) = (self.connection.clone(), self.request.tool.clone());
        let tool = catalog.info.tool(&name).ok_or_else(|| catalog.unknown_tool(&connection.spec, &name))?;
        if connection.spec.check_arguments == SchemaChecks::Off {
            return Ok(());
        }
        let checking = catalog.check_arguments(&connection.spec.id, tool, arguments);
        if let Some(warning) = self.wait_unconnected(checking).await?? {
            connection.state.warn(warning);
        }
        Ok(())
    }

    /// Checks the result as `check_results` of the agents file requires.
    async fn check_result(&mut self, output: &mut ToolOutput) -> Result<(), Failure> {
        let checks = self.connection.spec.check_results;
        if checks == SchemaChecks::Off {
            return Ok(());
        }
        match self.check_result_by_schema(output).await {
            Err(failure) if failure.kind == FailureKind::InvalidResult => match checks {
                SchemaChecks::Warn => output.warning = Some(failure.message.into()),
                _ => return Err(with_result_text(failure, output, &self.request.agent)),
            },
            checked => checked?,
        }
        Ok(())
    }

    /// Checks the result against the output schema of the tool. Refreshes a stale catalog before it rejects a result.
    async fn check_result_by_schema(&mut self, output: &mut ToolOutput) -> Result<(), Failure> {
        let known = self.connection.catalog();
        let Err(failure) = self.check_result_against(&known, output).await else { return Ok(()) };
        if failure.kind != FailureKind::InvalidResult || !known.is_stale() || !self.connection.is_usable() {
            return Err(failure);
        }
        // The result is already there, even if the tools cannot be listed again.
        let Ok(latest) = Box::pin(self.refresh_catalog(&known)).await else { return Err(failure) };
        self.check_result_against(&latest, output).await
    }

    async fn check_result_against(&mut self, catalog: &Catalog, output: &mut ToolOutput) -> Result<(), Failure> {
        // A tool that is no longer listed has no output schema.
        let Some(tool) = catalog.info.tool(&self.request.tool) else { return Ok(()) };
        let connection = self.connection.clone();
        let checking = catalog.check_result(&connection.spec.id, tool, output.structured.as_mut());
        if let Some(warning) = self.wait_unconnected(checking).await?? {
            connection.state.warn(warning);
        }
        Ok(())
    }

    /// Returns the catalog, listed again unless it has changed since `known`.
    async fn refresh_catalog(&mut self, known: &Arc<Catalog>) -> Result<Arc<Catalog>, Failure> {
        let connection = self.connection.clone();
        self.wait_unconnected(connection.refresh_catalog(known)).await?
    }
}

/// Adds the text of an invalid result to its failure: it may be all that a person needs.
fn with_result_text(failure: Failure, output: &ToolOutput, agent: &AgentId) -> Failure {
    let help = format!(
        "the server must fix the tool's `outputSchema` or its result; `check_results = \"warn\"` in \
         `[agents.{agent}]` accepts such results unchanged"
    );
    let text = failure::agent_message(&output.text());
    let message =
        if text.is_empty() { failure.message } else { format!("{}; text of the result: {text}", failure.message) };
    Failure { message, ..failure }.with_additional_help(help)
}
