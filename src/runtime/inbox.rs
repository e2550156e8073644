//! Hands to a run what other processes want of it.
//! Never says that it was done: the journal does, with the event that follows.

use std::{sync::Arc, time::Duration};

use crate::{
    journal::{Inbox, Request},
    model::Input,
};

use super::Hub;

/// How often to look. Nothing tells one process of another's writes; a person does not notice a fifth of a second, and
/// a look that finds nothing takes microseconds.
const POLL: Duration = Duration::from_millis(200);

/// Gives `hub` every request that `inbox` has not given yet, the first after a moment. Runs until dropped. The engine
/// takes no notice of one that comes too late or again.
pub async fn deliver(mut inbox: Inbox, hub: Arc<Hub>) {
    loop {
        tokio::time::sleep(POLL).await;
        // Reading can wait for another process that is repairing the journal.
        let look = tokio::task::spawn_blocking(move || {
            let found = inbox.take_new();
            (inbox, found)
        });
        let Ok((back, found)) = look.await else { return };
        inbox = back;
        match found {
            Ok(requests) => {
                for request in requests {
                    hub.send(observed(request)).await;
                }
            }
            Err(error) => tracing::warn!(%error, "requests of other processes cannot be read"),
        }
    }
}

/// A request as the engine takes it.
pub fn observed(request: Request) -> Input {
    match request {
        Request::Answer { question, answer, by } => Input::QuestionAnswered { question, answer, by },
        Request::Cancel => Input::CancelRequested,
    }
}
