//! Forwards requests of other processes to a run. The journal confirms each with an event.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::{ControlQueue, ControlRequest, JournalError, QueuedRequest};
use crate::model::Input;

use super::RuntimeHost;

/// The interval for polling the queue, since processes cannot notify each other. A person does not notice a tenth of a
/// second, and a poll without result takes microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Forwards every new request of `queue` to `host`, after one interval at the earliest. Runs until dropped. The engine
/// ignores late and repeated requests.
pub(super) async fn forward_requests(mut queue: Box<dyn ControlQueue>, host: Arc<RuntimeHost>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        // Reading may wait for another process that is repairing the journal.
        let polled = tokio::task::spawn_blocking(move || {
            // A panic must not prevent later answers from reaching the run.
            let read = || read_inputs(&mut *queue, Some(std::process::id()));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            (queue, result)
        });
        let Ok((returned_queue, result)) = polled.await else { return };
        queue = returned_queue;
        let Ok(result) = result else {
            tracing::error!("reading the requests of other processes failed (this is a bug in kapell)");
            continue;
        };
        match result {
            Ok(inputs) => {
                for input in inputs {
                    host.send(input).await;
                }
            }
            Err(error) => tracing::warn!(%error, "requests of other processes cannot be read"),
        }
    }
}

/// Returns the new requests as inputs, and removes those of agents, which must not act for a person. `driver` is the
/// process that drove the run when they were made, if any.
///
/// # Errors
/// Returns an error if the control queue cannot be read or written.
pub(super) fn read_inputs(queue: &mut dyn ControlQueue, driver: Option<u32>) -> Result<Vec<Input>, JournalError> {
    let mut inputs = Vec::new();
    for QueuedRequest { id, request, sender } in queue.read_new()? {
        let (by, objection) = match &sender {
            Some(sender) => (sender.to_string(), sender.current_objection(driver)),
            None => ("an unknown process".to_owned(), Some("it does not name the process that sent it".to_owned())),
        };
        inputs.push(match (request, objection) {
            (ControlRequest::Answer { question, all: true, .. }, None) => Input::RestApproved { question, by },
            (ControlRequest::Answer { question, answer, .. }, None) => Input::QuestionAnswered { question, answer, by },
            (ControlRequest::Signal { name, data }, None) => Input::SignalReceived { name, data, by },
            (ControlRequest::Cancel, None) => Input::CancelRequested { by },
            (request, Some(reason)) => {
                queue.remove(id)?;
                let question = match request {
                    ControlRequest::Answer { question, .. } => Some(question),
                    ControlRequest::Signal { .. } | ControlRequest::Cancel => None,
                };
                Input::RequestRefused { question, by, reason }
            }
        });
    }
    Ok(inputs)
}
