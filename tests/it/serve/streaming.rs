//! Streams of changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::{Server, kill_process, row};
use crate::support::workspace::Workspace;

const BOOK: &str = "name: trip\ntasks:\n\
    \x20 - { id: find, agent: research, tool: research, with: { topic: Lisbon, depth: 1, delay_ms: 1 } }\n\
    \x20 - { id: book, needs: [find], agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 1 } }\n";

const KEEP: &str = "name: notes\ntasks:\n\
    \x20 - { id: find, agent: research, tool: research, with: { topic: Lisbon, depth: 1, delay_ms: 1 } }\n\
    \x20 - { id: keep, approve: Keep it?, needs: [find], agent: archive, tool: store_document, with: { title: t, text: x } }\n";

/// What a page knows of the tasks of a run.
#[derive(Debug, PartialEq)]
struct KnownRows {
    seq: u64,
    rows: BTreeMap<String, Value>,
}

impl KnownRows {
    fn of(page: &Value) -> Self {
        let mut known = Self { seq: 0, rows: BTreeMap::new() };
        known.patch(page);
        known
    }

    fn patch(&mut self, patch: &Value) {
        self.seq = patch["seq"].as_u64().expect("a number");
        for row in patch["tasks"].as_array().expect("rows") {
            self.rows.insert(row["id"].to_string(), row.clone());
        }
    }
}

#[test]
fn stream_continues_after_server_and_driver_are_killed() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", KEEP);
    let server = Server::start(&place);
    let (port, run) = (server.port, server.run("plan.yaml"));
    let page = server.get(&format!("/api/runs/{run}"));
    let mut known = KnownRows::of(&page);
    let path = format!("/api/stream?run={run}&after={}", known.seq);
    let asked = |patch: &Value| patch["questions"].as_array().expect("questions").iter().any(|q| q["status"] == "open");
    let mut stream = server.stream(&path, None);
    let mut is_asked = asked(&page);
    while !is_asked {
        let event = stream.next().expect("a patch");
        assert_eq!((event.name.as_str(), event.id), ("patch", event.data["seq"].as_u64()));
        known.patch(&event.data);
        is_asked = asked(&event.data);
    }
    let process = server.get(&format!("/api/runs/{run}"))["run"]["process"].as_u64().expect("a driver");
    server.kill();
    // The run goes on without the server, and then without its driver too.
    kill_process(process);
    let server = Server::start_at(&place, port);
    let first = server.stream(&path, Some(known.seq)).next().expect("a patch");
    assert_eq!(first.data["run"]["status"], "interrupted");
    assert!(first.data["seq"].as_u64() >= Some(known.seq));
    known.patch(&first.data);
    assert_eq!(server.post(&format!("/api/runs/{run}/resume"), &json!({})).status, 200);
    let question = server.wait_for_question(&run);
    let answers = format!("/api/runs/{run}/answers/{}", question["id"].as_str().expect("an ID"));
    let answered = server.post(&answers, &json!({"action": "accept"}));
    assert_eq!(answered.json()["status"], "answered", "{answered:?}");
    for event in server.stream(&path, Some(known.seq)) {
        known.patch(&event.data);
        if event.data["run"]["status"] == "succeeded" {
            break;
        }
    }
    assert_eq!(known, KnownRows::of(&server.get(&format!("/api/runs/{run}"))));
}

#[test]
fn page_shows_what_a_command_answers() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", BOOK);
    let server = Server::start(&place);
    let run = server.run("plan.yaml");
    let question = server.wait_for_question(&run);
    assert_eq!(
        (&question["kind"], &question["agent"], &question["task"]),
        (&json!("form"), &json!("travel"), &json!("book"))
    );
    let mut stream = server.stream(&format!("/api/stream?run={run}"), None);
    let first = stream.next().expect("a patch");
    assert_eq!(first.data["run"]["plan"], "trip");
    let answered = place.kapell(&["answer", &run, "q1", "--field", "confirm=yes", "--journal", "journal.db"]);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let shown = stream.find_map(|event| {
        // Later patches have only what has changed.
        assert!(event.data["run"].get("plan").is_none() && event.data["run"].get("inputs").is_none(), "{event:?}");
        let questions = event.data["questions"].as_array().expect("questions").clone();
        questions.into_iter().find(|question| question["status"] == "answered")
    });
    let by = shown.expect("the answer")["answered_by"].as_str().expect("an author").to_owned();
    assert!(by.starts_with("command (process "), "{by}");
}

#[test]
fn list_streams_changed_runs() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", BOOK);
    let server = Server::start(&place);
    let mut stream = server.stream("/api/stream", None);
    let run = server.run("plan.yaml");
    let shown = stream.find(|event| event.data["runs"][0]["counts"]["asking"] == 1).expect("the question");
    assert_eq!((shown.name.as_str(), &shown.data["runs"][0]["run"]), ("runs", &json!(run)));
    let page = server.get(&format!("/api/runs/{run}"));
    assert_eq!((&row(&page, "book")["state"], &row(&page, "book")["question"]), (&json!("asking"), &json!("q1")));
    server.post(&format!("/api/runs/{run}/cancel"), &json!({}));
    stream.find(|event| event.data["runs"][0]["status"] == "cancelled").expect("the end");
}
