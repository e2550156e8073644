//! What a page reads: the list, a run, a task, plans, events, metrics.

use serde_json::json;

use super::client::{Server, row};
use crate::support::workspace::Workspace;

const READ: &str = "name: reading\ntasks:\n\
    \x20 - { id: find, title: Find it, agent: research, tool: research, with: { topic: Lisbon, depth: 1, delay_ms: 1 } }\n\
    \x20 - { id: read, needs: [find], foreach: [one, two, three], as: page, agent: research, tool: research, \
           with: { topic: '${{ page }}', depth: 1, delay_ms: 1 } }\n";

#[test]
fn run_is_listed_and_shown() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", READ);
    let server = Server::start(&place);
    assert_eq!(server.get("/api/runs"), json!({"runs": [], "more": false}));
    let run = server.run("plan.yaml");
    let page = server.wait_for_status(&run, &["succeeded"]);
    let listed = server.get("/api/runs?status=succeeded,failed&text=READ&limit=1");
    assert_eq!((&listed["runs"][0]["run"], &listed["more"]), (&json!(run), &json!(false)));
    assert_eq!(server.get("/api/runs?status=failed")["runs"], json!([]));
    assert_eq!(server.get(&format!("/api/runs?before={run}"))["runs"], json!([]));
    let started = page["run"]["started"].as_u64().expect("a time");
    let during = |since: u64, until: u64| server.get(&format!("/api/runs?since={since}&until={until}"))["runs"].clone();
    assert_eq!(during(started, started)[0]["run"], json!(run));
    assert_eq!((during(started + 1, u64::MAX), during(0, started - 1)), (json!([]), json!([])));
    let ids: Vec<_> = page["tasks"].as_array().expect("rows").iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["find", "read", "read[0]", "read[1]", "read[2]"]);
    assert_eq!(row(&page, "read")["children"]["succeeded"], 3);
    assert_eq!(row(&page, "find")["name"], "Find it");
    assert_eq!(page["run"]["counts"]["succeeded"], 4);
    assert_eq!(page["graph"]["nodes"].as_array().expect("nodes").len(), 2);
    assert_eq!(page["graph"]["edges"][0]["from"], "find");
    assert_eq!(page["run"]["can"], json!({"cancel": false, "resume": false, "retry": true}));

    let task = server.get(&format!("/api/runs/{run}/tasks/read%5B1%5D"));
    assert_eq!((&task["row"]["state"], &task["arguments"]["topic"]), (&json!("succeeded"), &json!("two")));
    assert_eq!(task["calls"].as_array().expect("calls").len(), 1);
    assert!(task["output"]["json"].is_object() || task["output"]["text"].is_string(), "{task}");
    assert_eq!(task["trace"][0]["what"], "tools/call research");
    let found = server.get(&format!("/api/runs/{run}/tasks?output=TWO"));
    assert_eq!(found, json!({"tasks": ["read[1]"]}));
    let unnamed = server.get_response(&format!("/api/runs/{run}/tasks"));
    assert_eq!((unnamed.status, unnamed.error_code().as_str()), (400, "serve::invalid_query"));
    let unknown = server.get_response(&format!("/api/runs/{run}/tasks/other"));
    assert_eq!((unknown.status, unknown.error_code().as_str()), (404, "serve::unknown_task"));
    let unknown = server.get_response("/api/runs/0000");
    assert_eq!((unknown.status, unknown.error_code().as_str()), (404, "serve::unknown_run"));
}

#[test]
fn events_have_no_gap() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", READ);
    let server = Server::start(&place);
    let run = server.run("plan.yaml");
    server.wait_for_status(&run, &["succeeded"]);
    let (mut seqs, mut after) = (Vec::new(), String::new());
    loop {
        let events = server.get(&format!("/api/runs/{run}/events?limit=4{after}"));
        let events = events["events"].as_array().expect("events");
        let Some(last) = events.last() else { break };
        after = format!("&after={}", last["seq"]);
        seqs.extend(events.iter().map(|event| event["seq"].as_u64().expect("a number")));
        assert!(events.iter().all(|event| event["event"]["type"] == event["type"]));
    }
    let logged = place.events(&["--journal", "journal.db"]);
    assert_eq!(seqs, (0..logged.len() as u64).collect::<Vec<_>>());
    // An earlier page is read again, and in other words than the ones after it.
    let first = server.get(&format!("/api/runs/{run}/events?limit=1"));
    assert_eq!((&first["events"][0]["seq"], &first["last"]), (&json!(0), &json!(0)));
    let ends = server.get(&format!("/api/runs/{run}/events?text=RUN_ended"));
    assert_eq!((ends["events"].as_array().map(Vec::len), &ends["last"]), (Some(1), &json!(logged.len() - 1)));
}

#[test]
fn plans_have_forms_and_graphs() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    assert_eq!(server.get("/api/plans"), json!({"plans": []}));
    place.write(
        "plans/trip.yaml",
        "name: trip\ndescription: Books a trip\ninputs:\n\
         \x20 city: { type: string, required: true, description: Where to }\n\
         \x20 nights: { type: integer, default: 2, minimum: 1 }\n\
         tasks:\n  - { id: a, agent: research, tool: research, with: { topic: '${{ inputs.city }}', delay_ms: 1 } }\n",
    );
    place
        .write("plans/broken.yaml", "name: x\ntasks: [{ id: a, agent: nowhere, tool: t }]\n")
        .write("plans/notes.txt", "");
    let listed = server.get("/api/plans");
    let plans = listed["plans"].as_array().expect("plans");
    assert_eq!((plans.len(), &plans[1]["name"]), (2, &json!("trip")));
    assert!(plans[0]["error"].as_str().is_some_and(|error| error.contains("nowhere")), "{listed}");
    let plan = server.get("/api/plans/trip.yaml");
    assert_eq!(
        plan["fields"],
        json!([
            {"name": "city", "type": "string", "required": true, "description": "Where to"},
            {"name": "nights", "type": "integer", "required": false, "default": 2, "min": 1},
        ])
    );
    assert_eq!((&plan["tasks"][0]["kind"], &plan["graph"]["nodes"][0]["id"]), (&json!("call"), &json!("a")));
    assert_eq!(server.get("/api/info")["can_start"], true);
}

#[test]
fn metrics_count_runs_and_tasks() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", READ);
    let server = Server::start(&place);
    let run = server.run("plan.yaml");
    server.wait_for_status(&run, &["succeeded"]);
    let metrics = server.get_response("/metrics");
    assert_eq!(metrics.status, 200);
    for line in ["kapell_runs{status=\"succeeded\"} 1", "kapell_tasks{state=\"succeeded\"} 4", "kapell_tool_calls 4"] {
        assert!(metrics.body.lines().any(|found| found == line), "{line} in {}", metrics.body);
    }
}

#[test]
fn runs_are_compared() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", READ);
    let server = Server::start(&place);
    let first = server.run("plan.yaml");
    server.wait_for_status(&first, &["succeeded"]);
    place.write("plan.yaml", READ.replace("Lisbon", "Porto"));
    let second = server.run("plan.yaml");
    server.wait_for_status(&second, &["succeeded"]);
    let diff = server.get(&format!("/api/runs/{first}/diff/{second}"));
    assert_eq!((&diff["a"]["run"], &diff["b"]["run"]), (&json!(first), &json!(second)));
    let task =
        |id: &str| diff["tasks"].as_array().expect("tasks").iter().find(|task| task["id"] == id).expect(id).clone();
    assert_eq!((&task("find")["same"], &task("read[0]")["same"]), (&json!(false), &json!(true)));
    assert!(task("find")["a"]["text"].as_str().is_some_and(|text| text.contains("Lisbon")), "{diff}");
}

#[test]
fn address_of_own_token_opens_the_page_and_server_ends_cleanly() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    let page = server.raw("GET", "/", &[("Host", &server.host())], b"");
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    assert_eq!(server.raw("GET", "/assets/app.js", &[("Host", &server.host())], b"").status, 200);
    assert_eq!(server.get("/api/openapi.json")["openapi"], "3.1.0");
    assert_eq!(server.interrupt(), Some(0));
}
