//! Subscribes to changes of the tools on modern connections, where agents only notify subscribers. Marks the tool list
//! as changed, but does not read it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rmcp::model::{ServerNotification, SubscriptionFilter};
use rmcp::{Peer, RoleClient, ServiceError};

use crate::mcp::requests::connection_state::ConnectionState;

/// The first and the longest delay before an ended subscription is renewed.
const INITIAL_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Marks the agent's tools as changed after each notification until the connection ends. A rejected subscription is not
/// retried.
pub(crate) async fn watch_tools(peer: Peer<RoleClient>, state: Arc<ConnectionState>) {
    state.lost.clone().run_until_cancelled(listen(peer, state)).await;
}

async fn listen(peer: Peer<RoleClient>, state: Arc<ConnectionState>) {
    let mut delay = INITIAL_DELAY;
    loop {
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        match peer.listen(filter).await {
            Ok(mut subscription) => {
                while let Ok(Some(notification)) = subscription.next().await {
                    delay = INITIAL_DELAY;
                    if let ServerNotification::ToolListChangedNotification(_) = notification {
                        state.tools_changed.store(true, Ordering::Relaxed);
                    }
                }
            }
            Err(error @ (ServiceError::McpError(_) | ServiceError::UnexpectedResponse)) => {
                tracing::debug!(agent = %state.agent, %error, "the agent does not notify of changes of its tools");
                return;
            }
            Err(_) => {}
        }
        if peer.is_transport_closed() {
            return;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(MAX_DELAY);
        // Changes without a subscription are not announced.
        state.tools_changed.store(true, Ordering::Relaxed);
    }
}
