//! A run as a whole, and what has changed in it since an event.

use serde_json::{Value, json};

use super::header::header_json;
use super::question::question_json;
use crate::model::{AgentId, Timestamp};
use crate::serve::live::OpenPage;
use crate::view::page::TaskRow;
use crate::view::run_view::AgentConnection;
use crate::view::text::{printable, truncated};

/// Returns the whole page of a run.
pub(crate) fn snapshot_json(open: &OpenPage, now: Timestamp) -> Value {
    let (page, status) = (open.page(), open.status());
    let questions = page.view().questions().map(|asked| question_json(asked, status));
    let agents = page.view().agents().iter().map(|(id, agent)| agent_json(id, agent));
    json!({
        "seq": page.seq().unwrap_or_default(),
        "run": header_json(open, now),
        "tasks": page.rows().collect::<Vec<&TaskRow>>(),
        "graph": page.graph(),
        "questions": questions.collect::<Vec<_>>(),
        "agents": agents.collect::<Vec<_>>(),
    })
}

/// Returns what has changed in a run since the event `since`.
pub(crate) fn patch_json(open: &OpenPage, since: u64, now: Timestamp) -> Value {
    let (page, status) = (open.page(), open.status());
    let changes = page.changes_since(since);
    let mut patch = json!({
        "seq": changes.seq,
        "run": header_json(open, now),
        "tasks": changes.rows,
        "questions": changes.questions.into_iter().map(|asked| question_json(asked, status)).collect::<Vec<_>>(),
        "agents": changes.agents.into_iter().map(|(id, agent)| agent_json(id, agent)).collect::<Vec<_>>(),
    });
    if let Some(order) = changes.order {
        patch["order"] = json!(order);
    }
    if changes.has_new_graph {
        patch["graph"] = json!(page.graph());
    }
    patch
}

fn agent_json(id: &AgentId, agent: &AgentConnection) -> Value {
    match agent {
        AgentConnection::Connecting => json!({"id": id, "status": "connecting"}),
        AgentConnection::Connected(info) => {
            let mut object =
                json!({"id": id, "status": "connected", "protocol": info.protocol, "tools": info.tools.len()});
            if let Some(server) = &info.server {
                object["server"] = printable(server).into();
            }
            object
        }
        AgentConnection::Unavailable(failure) => {
            json!({"id": id, "status": "unavailable", "error": truncated(&failure.message)})
        }
    }
}
