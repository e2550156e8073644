//! Asks servers to complete an argument of a prompt, or a variable of a resource template, while a line is typed.

use std::sync::mpsc as blocking;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cli::common::args::AgentsArg;
use crate::cli::common::files;
use crate::model::CompletionRequest;
use crate::runtime;

/// The time that a person waits for a server after the Tab key.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks servers on the thread of the runtime, for the thread of the line editor.
pub(super) struct ServerCompletion {
    requests: mpsc::Sender<ServerRequest>,
}

struct ServerRequest {
    agent: String,
    request: CompletionRequest,
    values: blocking::Sender<Vec<String>>,
}

impl ServerCompletion {
    /// Starts the task that asks the servers of these agents.
    pub(super) fn start(agents: &AgentsArg) -> Self {
        // The line editor waits for each answer before it asks again.
        let (requests, mut requested) = mpsc::channel(1);
        let agents = agents.clone();
        tokio::spawn(async move {
            while let Some(ServerRequest { agent, request, values }) = requested.recv().await {
                let completed = tokio::time::timeout(TIMEOUT, ask(&agents, &agent, &request)).await;
                // The line editor may have given up.
                drop(values.send(completed.ok().flatten().unwrap_or_default()));
            }
        });
        Self { requests }
    }

    /// Returns the values that the server of `agent` suggests; none if it cannot be asked. Blocks.
    pub(super) fn values(&self, agent: &str, request: CompletionRequest) -> Vec<String> {
        let (values, completed) = blocking::channel();
        let request = ServerRequest { agent: agent.to_owned(), request, values };
        if self.requests.blocking_send(request).is_err() {
            return Vec::new();
        }
        completed.recv_timeout(TIMEOUT).unwrap_or_default()
    }
}

async fn ask(agents: &AgentsArg, agent: &str, request: &CompletionRequest) -> Option<Vec<String>> {
    let (agent, file) = files::load_agent(agents, agent).ok()?;
    let options = runtime::connect_options(&file, None).ok()?;
    let completion = runtime::complete(agent, request, options, &file.secrets).await.ok()?;
    Some(completion.values)
}
