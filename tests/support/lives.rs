//! Several lives of a host: one ends as if it were killed, the next takes up what it left.

use std::{sync::Arc, time::Duration};

use kapell::{
    mcp::Pool,
    model::{AgentSpec, Failure, JsonObject, Notes, Protocol, StartAttempt, Transport},
};
use tokio_util::sync::CancellationToken;

use super::{Recorder, helpful, pool, spec, until};

/// The agent `odd`, in the legacy era at that address.
pub(crate) fn legacy(url: &str) -> AgentSpec {
    let transport = Transport::Http { url: url.to_owned(), headers: Vec::new(), bearer_token: None, server: None };
    AgentSpec { protocol: Protocol::Legacy, ..spec("odd", transport) }
}

/// A host that never answers.
pub(crate) fn busy() -> Arc<Recorder> {
    let host = helpful();
    host.think_for(Duration::from_secs(3_600));
    host
}

/// Carries out a call; what it says as text.
pub(crate) async fn call(pool: &Pool, call: StartAttempt) -> Result<String, Failure> {
    let output = pool.call(call, JsonObject::new(), CancellationToken::new()).await?;
    Ok(output.text().into_owned())
}

/// Continues a call that an earlier host left; what it says as text. A failure is what the engine makes of it.
pub(crate) async fn take_up(pool: &Pool, call: StartAttempt, notes: &Notes) -> Result<String, Failure> {
    let note = notes.calls[&call.attempt].clone();
    let output = pool.take_up(call, note, JsonObject::new(), CancellationToken::new()).await;
    Ok(output.map_err(kapell::engine::retry::of_taken_up)?.text().into_owned())
}

/// Makes a call in a host that ends, as if it were killed, as soon as `is_time`; gives the notes that it leaves. Its
/// tasks are never polled again, so that it says no goodbye.
pub(crate) async fn killed(
    url: &str,
    started: StartAttempt,
    host: &Arc<Recorder>,
    is_time: impl Fn(&Recorder) -> bool + Send + 'static,
) -> Notes {
    let (url, host) = (url.to_owned(), host.clone());
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pool = pool(vec![legacy(&url)], &host);
        runtime.block_on(async {
            tokio::select! {
                result = call(&pool, started) => panic!("the call ended: {result:?}"),
                () = until(|| is_time(&host)) => {}
            }
        });
        drop(runtime);
        host.left()
    })
    .await
    .unwrap()
}

/// The next life of the host.
pub(crate) fn risen(url: &str, host: &Arc<Recorder>, notes: &Notes) -> Pool {
    pool(vec![legacy(url)], host).taking_over(notes.sessions.clone())
}

/// How far the calls of a host's life came.
pub(crate) fn progress(host: &Recorder) -> Vec<f64> {
    host.progress().iter().map(|progress| progress.progress).collect()
}
