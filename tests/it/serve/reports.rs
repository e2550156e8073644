//! Runs as files.

use serde_json::{Value, json};

use crate::support::workspace::Workspace;

const HOSTILE: &str = "</script><script>alert(1)</script>";

#[test]
fn report_has_the_run_and_loads_nothing() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let task = json!({
        "id": "a", "title": HOSTILE, "agent": "research", "tool": "research",
        "with": {"topic": HOSTILE, "depth": 1, "delay_ms": 1},
    });
    place.write("plan.yaml", json!({"name": "report", "tasks": [task]}).to_string());
    let ran = place.kapell(&["run", "plan.yaml", "--journal", "journal.db", "--json"]);
    let run = ran.result()["run"].as_str().expect("an ID").to_owned();
    let written = place.kapell(&["report", "last", "-o", "report.html", "--journal", "journal.db"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let html = std::fs::read_to_string(place.path("report.html")).expect("a report");
    assert!(html.contains("content=\"default-src 'none'; script-src 'sha256-"), "the policy");
    assert_eq!((html.matches("<script").count(), html.matches("</script").count()), (2, 2));
    assert!(!html.contains("src=\"/assets") && !html.contains("href=\"/assets"));
    let table = html.split("<noscript>").nth(1).and_then(|rest| rest.split("</noscript>").next()).expect("a table");
    assert!(
        table.contains("<td>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; (a)</td><td>succeeded</td>"),
        "{table}"
    );
    let data = html.split("id=\"kapell-report\">").nth(1).and_then(|rest| rest.split("</script>").next());
    let data: Value = serde_json::from_str(data.expect("data")).expect("JSON");
    let responses = &data["responses"];
    let page = &responses[format!("/api/runs/{run}")];
    assert_eq!((&page["run"]["status"], &page["run"]["can"]["retry"]), (&json!("succeeded"), &json!(false)));
    assert_eq!(responses[format!("/api/runs/{run}/tasks/a")]["arguments"]["topic"], HOSTILE);
    let events = responses[format!("/api/runs/{run}/events")]["events"].as_array().expect("events").len();
    assert_eq!(events, place.events(&["--journal", "journal.db"]).len());
}
