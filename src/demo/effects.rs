//! Records the effects of the demo agents, for comparison with the journal of the host.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::call::{DemoCall, ToolStop};

/// The log of an agent's effects, if a file is configured.
#[derive(Debug, Clone)]
pub(super) struct EffectLog {
    agent: &'static str,
    file: Option<PathBuf>,
}

/// One line of the log.
#[derive(Serialize)]
struct EffectRecord<'a> {
    agent: &'a str,
    tool: &'a str,
    arguments: &'a rmcp::model::JsonObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a Value>,
}

impl EffectLog {
    pub(super) fn new(agent: &'static str, file: Option<PathBuf>) -> Self {
        Self { agent, file }
    }

    /// Appends the call as one line. Several agents can share the file, since each line is written with a single
    /// append.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) async fn record(&self, call: &DemoCall) -> Result<(), ToolStop> {
        let Some(file) = &self.file else { return Ok(()) };
        let effect = EffectRecord {
            agent: self.agent,
            tool: call.tool(),
            arguments: call.raw_arguments(),
            idempotency_key: call.idempotency_key(),
        };
        let append = async {
            let mut line = serde_json::to_vec(&effect)?;
            line.push(b'\n');
            let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(file).await?;
            file.write_all(&line).await?;
            file.flush().await
        };
        append
            .await
            .map_err(|error| ToolStop::Failed(format!("cannot record the effect in `{}`: {error}", file.display())))
    }
}
