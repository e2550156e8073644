//! Listens for changes of the tools on modern connections, where an agent announces them only to those who asked.
//! Never lists the tools itself: it marks the list as changed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rmcp::{
    Peer, RoleClient, ServiceError,
    model::{ServerNotification, SubscriptionFilter},
};

use super::connection_state::ConnectionState;

/// The first and the longest pause before a subscription that has ended is made again.
const INITIAL_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Marks the agent's tools as changed whenever the agent says so, until the connection ends. An agent that refuses the
/// subscription is not asked again.
pub(super) async fn watch_tools(peer: Peer<RoleClient>, link: Arc<ConnectionState>) {
    let lost = link.lost.clone();
    tokio::select! {
        () = lost.cancelled() => {}
        () = listen(peer, link) => {}
    }
}

async fn listen(peer: Peer<RoleClient>, link: Arc<ConnectionState>) {
    let mut pause = INITIAL_DELAY;
    loop {
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        match peer.listen(filter).await {
            Ok(mut subscription) => {
                while let Ok(Some(news)) = subscription.next().await {
                    pause = INITIAL_DELAY;
                    if let ServerNotification::ToolListChangedNotification(_) = news {
                        link.tools_changed.store(true, Ordering::Relaxed);
                    }
                }
            }
            Err(error @ (ServiceError::McpError(_) | ServiceError::UnexpectedResponse)) => {
                tracing::debug!(agent = %link.agent, %error, "the agent does not say when its tools change");
                return;
            }
            Err(_) => {}
        }
        if peer.is_transport_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_DELAY);
        // A change meanwhile was announced to no subscriber.
        link.tools_changed.store(true, Ordering::Relaxed);
    }
}
