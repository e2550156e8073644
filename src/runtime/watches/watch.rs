//! Watches what one task waits for, and reports what it observes.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::file::watch_file;
use crate::mcp::{Agents, ResourceWatch};
use crate::model::{Input, Watch, Watched};
use crate::runtime::RuntimeHost;
use crate::runtime::content::{self, ContentStore};

/// Watches until what the task waits for has happened, and returns its end; `None` after a cancellation. Reports the
/// first observation to `host`.
pub(in crate::runtime) async fn watch(
    watch: Watch,
    agents: Arc<dyn Agents>,
    host: Arc<RuntimeHost>,
    (directory, contents): (&Path, Option<Arc<ContentStore>>),
    cancel: CancellationToken,
) -> Option<Input> {
    let Watch { task, watched, baseline } = watch;
    let (observed, observation) = oneshot::channel();
    let waiting = async {
        match watched {
            Watched::File { path, changed } => watch_file(directory.join(path), changed, baseline, observed).await,
            Watched::Resource { agent, uri } => {
                let (task, cancel) = (task.clone(), cancel.clone());
                agents.watch_resource(ResourceWatch { task, agent, uri, baseline, observed, cancel }).await
            }
        }
    };
    let reporting = async {
        if let Ok(fingerprint) = observation.await {
            host.send(Input::WatchBaselineObserved { task: task.clone(), fingerprint }).await;
        }
    };
    // The first observation precedes the end of the watch.
    let ended = tokio::select! {
        (result, ()) = async { tokio::join!(waiting, reporting) } => result,
        () = cancel.cancelled() => return None,
    };
    let result = match (ended, contents) {
        (Ok(output), Some(store)) => Ok(content::save_contents(&store, &task, output).await.0),
        (result, _) => result,
    };
    Some(Input::WatchEnded { task, result })
}
