//! What people do in a page: answer, start, resume, repeat, cancel.

use serde_json::json;

use super::client::{Server, kill_process, row};
use crate::support::workspace::{Workspace, wait_for};

const BOOK: &str = "name: trip\ninputs:\n  city: { type: string, required: true }\n  nights: { type: integer, default: 2 }\n\
    tasks:\n\
    \x20 - { id: book, agent: travel, tool: book_trip, with: { city: '${{ inputs.city }}', delay_ms: 1 } }\n\
    \x20 - { id: keep, approve: Keep it?, needs: [book], agent: archive, tool: store_document, \
           with: { title: t, text: '${{ inputs.nights }} nights' } }\n";

#[test]
fn plan_is_started_from_its_form_and_questions_are_answered_in_the_page() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    place.write("plans/trip.yaml", BOOK);
    for (inputs, part) in [
        (json!({}), "city"),
        (json!({"city": "Lisbon", "nights": "many"}), "nights"),
        (json!({"city": "Lisbon", "country": "x"}), "country"),
    ] {
        let refused = server.post("/api/runs", &json!({"plan": "trip.yaml", "inputs": inputs}));
        assert!(refused.status == 422 && refused.body.contains(part), "{refused:?}");
    }
    let started = server.post("/api/runs", &json!({"plan": "trip.yaml", "inputs": {"city": "Lisbon", "nights": "3"}}));
    assert_eq!(started.status, 201, "{started:?}");
    let run = started.json()["run"].as_str().expect("an ID").to_owned();
    let question = server.wait_for_question(&run);
    let answers = format!("/api/runs/{run}/answers");
    for (body, status, code) in [
        (json!({"action": "accept", "fields": {"confirm": "perhaps"}}), 422, "serve::invalid_answer"),
        (json!({"action": "accept", "all": true}), 422, "serve::invalid_answer"),
        (json!({"action": "accept", "arguments": {"a": 1}}), 422, "serve::invalid_answer"),
        (json!({"action": "maybe"}), 400, "serve::invalid_body"),
        (json!([]), 400, "serve::invalid_body"),
    ] {
        let refused = server.post(&format!("{answers}/q1"), &body);
        assert_eq!((refused.status, refused.error_code().as_str()), (status, code), "{body}: {refused:?}");
    }
    let unknown = server.post(&format!("{answers}/q9"), &json!({"action": "decline"}));
    assert_eq!((unknown.status, unknown.error_code().as_str()), (404, "serve::unknown_question"));
    assert_eq!(server.confirm(&run, &question).json()["status"], "answered");
    let again = server.confirm(&run, &question);
    assert_eq!((again.status, again.error_code().as_str()), (409, "serve::already_answered"));

    let approval = server.wait_for_question(&run);
    assert_eq!((&approval["kind"], &approval["arguments"]["text"]), (&json!("approval"), &json!("3 nights")));
    let changed = json!({"action": "accept", "arguments": {"title": "t", "text": "changed in the page"}});
    let answered = server.post(&format!("{answers}/q2"), &changed);
    assert_eq!(answered.json()["status"], "answered", "{answered:?}");
    let page = server.wait_for_status(&run, &["succeeded"]);
    assert_eq!(page["run"]["inputs"], json!({"city": "Lisbon", "nights": 3}));
    let by = page["questions"][1]["answered_by"].as_str().expect("an author");
    assert!(by.starts_with("page (process "), "{by}");
    let task = server.get(&format!("/api/runs/{run}/tasks/keep"));
    assert_eq!(task["arguments"]["text"], "changed in the page");
}

#[test]
fn failed_tasks_are_repeated_after_a_preview() {
    let place = Workspace::new();
    place.write_agents(&["silent"]);
    place.write(
        "plan.yaml",
        "name: x\ntasks:\n\
         \x20 - { id: good, agent: research, tool: research, with: { topic: x, depth: 1, delay_ms: 1 } }\n\
         \x20 - { id: bad, needs: [good], agent: odd-silent, tool: work, timeout: 1s, retry: { max_attempts: 1 }, effect: idempotent }\n\
         \x20 - { id: after, needs: [bad], agent: research, tool: research, with: { topic: y, depth: 1, delay_ms: 1 } }\n",
    );
    let server = Server::start(&place);
    let run = server.run("plan.yaml");
    let page = server.wait_for_status(&run, &["failed"]);
    assert_eq!(row(&page, "after")["state"], "skipped");
    let preview = server.get(&format!("/api/runs/{run}/retry?failed=true"));
    assert_eq!((&preview["again"], &preview["kept"]), (&json!(["bad", "after"]), &json!(["good"])));
    let refused = server.get(&format!("/api/runs/{run}/retry?task=other"));
    assert!(refused["refused"].as_str().is_some_and(|reason| reason.contains("other")), "{refused}");
    let retried = server.post(&format!("/api/runs/{run}/retry"), &json!({"failed": true}));
    assert_eq!(retried.status, 201, "{retried:?}");
    let again = retried.json()["run"].as_str().expect("an ID").to_owned();
    let page = server.wait_for_status(&again, &["failed"]);
    assert_eq!((&row(&page, "good")["reused"], &page["run"]["rerun_of"]), (&json!(true), &json!(run)));
    let earlier = wait_for("the rerun", || {
        let page = server.get(&format!("/api/runs/{run}"));
        (page["run"]["reruns"] == json!([again])).then_some(page)
    });
    assert_eq!(earlier["run"]["can"]["retry"], true);
}

#[test]
fn run_is_repeated_with_other_inputs_after_a_preview() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    place.write(
        "plans/plan.yaml",
        "name: x\ninputs:\n  topic: { type: string, required: true }\n  depth: { type: integer, default: 1 }\n\
         tasks:\n\
         \x20 - { id: other, agent: research, tool: research, with: { topic: y, depth: 1, delay_ms: 1 } }\n\
         \x20 - { id: find, agent: research, tool: research, effect: idempotent, \
               with: { topic: '${{ inputs.topic }}', depth: 1, delay_ms: 1 } }\n",
    );
    let started = server.post("/api/runs", &json!({"plan": "plan.yaml", "inputs": {"topic": "Lisbon"}}));
    let run = started.json()["run"].as_str().expect("an ID").to_owned();
    server.wait_for_status(&run, &["succeeded"]);
    let retry = format!("/api/runs/{run}/retry");
    let fields = server.get(&retry)["fields"].clone();
    assert_eq!((&fields[0]["name"], &fields[1]["type"]), (&json!("topic"), &json!("integer")));
    let inputs = json!({"topic": "a = \"b\", c: [d]", "depth": "1"});
    let preview = server.post(&retry, &json!({"inputs": inputs, "dry_run": true}));
    assert_eq!(preview.json()["again"], json!(["find"]), "{preview:?}");
    let unchanged = server.post(&retry, &json!({"inputs": {"topic": "Lisbon"}, "dry_run": true}));
    assert!(unchanged.json()["refused"].is_string(), "{unchanged:?}");
    for (inputs, part) in [(json!({"depth": "many"}), "depth"), (json!({"country": "x"}), "country")] {
        let refused = server.post(&retry, &json!({"inputs": inputs}));
        assert!(refused.status == 422 && refused.body.contains(part), "{refused:?}");
    }
    let retried = server.post(&retry, &json!({"inputs": inputs}));
    let again = retried.json()["run"].as_str().expect("an ID").to_owned();
    let page = server.wait_for_status(&again, &["succeeded"]);
    assert_eq!(page["run"]["inputs"], json!({"topic": "a = \"b\", c: [d]", "depth": 1}));
    assert_eq!((&row(&page, "other")["reused"], &row(&page, "find")["reused"]), (&json!(true), &json!(null)));
}

#[test]
fn interrupted_run_is_resumed_and_one_without_a_process_is_cancelled() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", BOOK);
    let server = Server::start(&place);
    place.write("plans/trip.yaml", BOOK);
    let start = || {
        let started = server.post("/api/runs", &json!({"plan": "trip.yaml", "inputs": {"city": "Lisbon"}}));
        let run = started.json()["run"].as_str().expect("an ID").to_owned();
        server.wait_for_question(&run);
        run
    };
    let kill = |run: &str| {
        kill_process(server.get(&format!("/api/runs/{run}"))["run"]["process"].as_u64().expect("a driver"));
        server.wait_for_status(run, &["interrupted"])
    };
    let run = start();
    let page = kill(&run);
    assert_eq!(page["run"]["can"], json!({"cancel": true, "resume": true, "retry": false}));
    let resumed = server.post(&format!("/api/runs/{run}/resume"), &json!({}));
    assert_eq!(resumed.status, 200, "{resumed:?}");
    server.wait_for_status(&run, &["running"]);
    let cancelled = server.post(&format!("/api/runs/{run}/cancel"), &json!({}));
    assert!(cancelled.body.contains("cancelled"), "{cancelled:?}");
    server.wait_for_status(&run, &["cancelled"]);
    let late = server.post(&format!("/api/runs/{run}/cancel"), &json!({}));
    assert_eq!((late.status, late.error_code().as_str()), (409, "journal::ended"));

    let other = start();
    kill(&other);
    let cancelled = server.post(&format!("/api/runs/{other}/cancel"), &json!({}));
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
}

#[test]
fn signals_reach_waiting_tasks() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", "name: x\ntasks: [{ id: a, wait: { webhook: deployed } }]\n");
    let server = Server::start(&place);
    let run = server.run("plan.yaml");
    let sent = server.post(&format!("/api/runs/{run}/signals/deployed"), &json!({"data": {"build": 7}}));
    assert_eq!(sent.status, 200, "{sent:?}");
    server.wait_for_status(&run, &["succeeded"]);
    let task = server.get(&format!("/api/runs/{run}/tasks/a"));
    assert_eq!(task["output"]["json"], json!({"build": 7}));
}

#[test]
fn end_of_the_server_ends_no_run() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    place.write("plans/trip.yaml", BOOK);
    let started = server.post("/api/runs", &json!({"plan": "trip.yaml", "inputs": {"city": "Lisbon"}}));
    let run = started.json()["run"].as_str().expect("an ID").to_owned();
    server.wait_for_question(&run);
    server.kill();
    let server = Server::start(&place);
    let page = server.get(&format!("/api/runs/{run}"));
    assert_eq!(page["run"]["status"], "running");
    server.post(&format!("/api/runs/{run}/cancel"), &json!({}));
    server.wait_for_status(&run, &["cancelled"]);
}
