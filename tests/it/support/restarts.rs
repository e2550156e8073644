//! Restarts of a host: one ends as if it were killed, and the next one resumes its calls.

use std::sync::Arc;
use std::time::Duration;

use kapell::mcp::{Agents as _, CallContext, Pool};
use kapell::model::{AgentSpec, Checkpoints, Failure, OAuthSpec, Protocol, ToolCall, Transport};

use super::pools::{RecordingHost, answering_host, pool, spec, wait_until};

/// Returns the agent `odd`, in the legacy era at this address.
pub(crate) fn legacy_agent(url: &str) -> AgentSpec {
    let transport = Transport::Http {
        url: url.to_owned(),
        headers: Vec::new(),
        bearer_token: None,
        oauth: OAuthSpec::default(),
        server: None,
    };
    AgentSpec { protocol: Protocol::Legacy, ..spec("odd", transport) }
}

/// Returns a host that never answers.
pub(crate) fn unresponsive_host() -> Arc<RecordingHost> {
    let host = answering_host();
    host.set_delay(Duration::from_secs(3_600));
    host
}

/// Makes a call, and returns its text.
pub(crate) async fn call(pool: &Pool, call: ToolCall) -> Result<String, Failure> {
    let output = pool.call(call, CallContext::default()).await?;
    Ok(output.text().into_owned())
}

/// Reattaches to a call of an earlier host, and returns its text. A failure is as the engine receives it.
pub(crate) async fn reattach(pool: &Pool, call: ToolCall, checkpoints: &Checkpoints) -> Result<String, Failure> {
    let checkpoint = checkpoints.calls[&call.attempt].clone();
    let output = pool.call(call, CallContext { checkpoint: Some(checkpoint), ..CallContext::default() }).await;
    Ok(output.map_err(kapell::engine::retry::reattach_failure)?.text().into_owned())
}

/// Makes a call in a host that ends as if it were killed, as soon as `is_time` holds. Returns its checkpoints. The
/// tasks of the host are never polled again, so they cannot close anything cleanly.
pub(crate) async fn run_until_killed(
    url: &str,
    started: ToolCall,
    host: &Arc<RecordingHost>,
    is_ready: impl Fn(&RecordingHost) -> bool + Send + 'static,
) -> Checkpoints {
    let (url, host) = (url.to_owned(), host.clone());
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pool = pool(vec![legacy_agent(&url)], &host);
        runtime.block_on(async {
            tokio::select! {
                result = call(&pool, started) => panic!("the call ended: {result:?}"),
                () = wait_until(|| is_ready(&host)) => {}
            }
        });
        drop(runtime);
        host.saved_checkpoints()
    })
    .await
    .unwrap()
}

/// Returns the pool of the restarted host.
pub(crate) fn restarted_pool(url: &str, host: &Arc<RecordingHost>, checkpoints: &Checkpoints) -> Pool {
    pool(vec![legacy_agent(url)], host).with_sessions(checkpoints.sessions.clone())
}

/// Returns the progress values that a host received.
pub(crate) fn progress_values(host: &RecordingHost) -> Vec<f64> {
    host.progress().iter().map(|progress| progress.progress).collect()
}
