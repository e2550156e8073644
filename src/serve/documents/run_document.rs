//! A run as a whole, and what has changed in it since an event.

use serde_json::{Value, json};

use super::header::header_json;
use super::question::question_json;
use crate::model::{AgentId, JsonObject, Timestamp};
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

/// Returns what has changed in a run since the event `since`, and the header as it is now.
///
/// Of the header, the patch has what differs from `shown`, with `null` for what is absent now; all of it if nothing was shown.
pub(crate) fn patch_json(open: &OpenPage, since: u64, shown: Option<&Value>, now: Timestamp) -> (Value, Value) {
    let (page, status) = (open.page(), open.status());
    let (changes, header) = (page.changes_since(since), header_json(open, now));
    let mut patch = json!({
        "seq": changes.seq,
        "run": shown.map_or_else(|| header.clone(), |shown| changed_members(shown, &header)),
        "tasks": changes.rows,
        "questions": changes.questions.into_iter().map(|asked| question_json(asked, status)).collect::<Vec<_>>(),
        "agents": changes.agents.into_iter().map(|(id, agent)| agent_json(id, agent)).collect::<Vec<_>>(),
    });
    if changes.has_new_graph {
        patch["graph"] = json!(page.graph());
    }
    (patch, header)
}

/// Returns the members of `now` that differ from those `before`, with `null` for those that `now` does not have.
fn changed_members(before: &Value, now: &Value) -> Value {
    let (Some(before), Some(now)) = (before.as_object(), now.as_object()) else { return now.clone() };
    let changed = now.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let mut members: JsonObject = changed.map(|(name, value)| (name.clone(), value.clone())).collect();
    let absent = before.keys().filter(|name| !now.contains_key(*name));
    members.extend(absent.map(|name| (name.clone(), Value::Null)));
    Value::Object(members)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_members_of_the_header_are_sent() {
        let before = json!({"status": "running", "now": 1, "inputs": {"a": 1}, "remaining_ms": 5});
        let now = json!({"status": "running", "now": 2, "inputs": {"a": 1}, "goal": "g"});
        assert_eq!(changed_members(&before, &now), json!({"now": 2, "goal": "g", "remaining_ms": null}));
    }
}
