//! Restores and saves the contents of one call, outside of the runtime thread.

use std::io;
use std::sync::Arc;

use super::store::ContentStore;
use crate::model::{Failure, FailureKind, TaskId, ToolCall, ToolOutput};

/// Replaces the references in the arguments of a call by the contents of their files.
///
/// # Errors
/// Returns [`FailureKind::InvalidArguments`] if a file cannot be read.
pub(crate) async fn restore_arguments(store: &Arc<ContentStore>, call: &mut ToolCall) -> Result<(), Failure> {
    if !ContentStore::has_references(&call.arguments) {
        return Ok(());
    }
    let (store, mut arguments) = (Arc::clone(store), std::mem::take(&mut call.arguments));
    let restoring = tokio::task::spawn_blocking(move || store.restore_members(&mut arguments).map(|()| arguments));
    call.arguments = restoring.await.unwrap_or_else(|error| Err(error.into())).map_err(missing_file_failure)?;
    Ok(())
}

/// Returns the failure of a call whose arguments refer to a file that cannot be read.
pub(crate) fn missing_file_failure(error: io::Error) -> Failure {
    let message = format!("the arguments need a file of an earlier result: {error}");
    let help = "`kapell retry` repeats the task that returned it";
    Failure::new(FailureKind::InvalidArguments, message).with_help(help)
}

/// Saves the contents of a result. Also returns the error of contents that could not be saved, which stay in the result.
pub(crate) async fn save_contents(
    store: &Arc<ContentStore>,
    task: &TaskId,
    output: Arc<ToolOutput>,
) -> (Arc<ToolOutput>, Option<io::Error>) {
    if !ContentStore::has_contents(&output) {
        return (output, None);
    }
    let (store, task, mut saved) = (Arc::clone(store), task.clone(), Arc::clone(&output));
    let saving = tokio::task::spawn_blocking(move || {
        store.mask(&mut saved);
        let result = store.save(&task, Arc::make_mut(&mut saved));
        (saved, result.err())
    });
    saving.await.unwrap_or_else(|error| (output, Some(error.into())))
}
