//! Features of the protocol that few servers use, as the commands show them.

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace, wait_for_status};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn workspace(keys: &str) -> Workspace {
    let place = Workspace::new();
    place.scripted_agent("features", "features.py", keys);
    place
}

#[test]
fn instructions_are_shown() {
    let place = workspace("");
    let tested = place.kapell(&["agents", "test"]);
    let line = "    instructions: Call `shoot` before `describe`. Never call `wipe`.\n";
    assert!(tested.stdout.contains(line), "{tested:?}");
    for command in ["test", "tools"] {
        let listed = place.kapell(&["agents", command, "--output", "json"]).result();
        let expected = "Call `shoot` before `describe`.\nNever call `wipe`.";
        assert_eq!(listed[0]["instructions"], json!(expected), "{listed}");
    }
}

#[test]
fn validation_and_calls_have_the_same_rules_for_arguments() {
    let plan =
        |arguments: &str| format!("name: x\ntasks: [{{ id: a, agent: features, tool: shoot, with: {arguments} }}]\n");
    let validate = |place: &Workspace, arguments: &str| {
        place.write("plan.yaml", plan(arguments));
        place.kapell(&["validate", "plan.yaml"])
    };
    let strict = workspace("");
    for (arguments, sent) in [
        ("{}", json!({"scale": "css", "type": "png"})),
        ("{ filename: null, scale: device }", json!({"scale": "device", "type": "png"})),
    ] {
        assert_eq!(validate(&strict, arguments).code, Some(0), "{arguments}");
        let ended = strict.run_plan(&plan(arguments), &[]);
        assert_eq!(
            ended.result()["tasks"]["a"]["output"],
            json!(sent.to_string().replace(":", ": ").replace(",", ", "))
        );
    }
    let wrong = "{ fullPage: 7, zoom: 1 }";
    let refused = validate(&strict, wrong);
    assert_eq!(refused.error_codes(), ["plan::bad_argument", "plan::unknown_argument"], "{refused:?}");
    assert_eq!(strict.run_plan(&plan(wrong), &[]).error_codes(), Vec::<&str>::new());

    for (checks, warnings) in [("warn", 2), ("off", 0)] {
        let place = workspace(&format!("check_arguments = {checks:?}"));
        let validated = validate(&place, wrong);
        assert_eq!(validated.code, Some(0), "{validated:?}");
        assert_eq!(validated.stderr.matches(": warning[").count(), warnings, "{validated:?}");
        assert_eq!(place.run_plan(&plan(wrong), &[]).code, Some(0));
    }
}

#[test]
fn calls_belong_to_the_trace_of_the_caller_or_of_the_run() {
    let place = workspace("");
    place.write(
        "plan.yaml",
        "name: x\ntasks: [{ id: a, agent: features, tool: meta }, { id: b, agent: features, tool: meta }]\n",
    );
    let arguments = ["run", "plan.yaml", "--output", "json", "--no-input"];
    let run = |traceparent: Option<&str>| {
        let mut command = place.command(arguments);
        command.env_remove("TRACEPARENT").env("TRACESTATE", "vendor=1");
        command.envs(traceparent.map(|value| ("TRACEPARENT", value)));
        CommandOutput::of(&mut command).result()
    };
    let meta = |result: &Value, task: &str| -> Value {
        let text = result["tasks"][task]["output"].as_str().expect("text").to_owned();
        serde_json::from_str::<Value>(&text).expect("JSON")["meta"].clone()
    };
    let continued = run(Some(&format!("00-{TRACE_ID}-00f067aa0ba902b7-01")));
    let (a, b) = (meta(&continued, "a"), meta(&continued, "b"));
    for meta in [&a, &b] {
        let traceparent = meta["traceparent"].as_str().expect("text");
        assert!(traceparent.starts_with(&format!("00-{TRACE_ID}-")), "{traceparent}");
        assert_eq!(meta["tracestate"], json!("vendor=1"));
    }
    assert_ne!(a["traceparent"], b["traceparent"]);

    let own = run(None);
    let trace_id = own["run"].as_str().expect("an ID").replace('-', "");
    let meta = meta(&own, "a");
    assert!(meta["traceparent"].as_str().is_some_and(|it| it.starts_with(&format!("00-{trace_id}-"))), "{meta}");
    assert_eq!(meta["tracestate"], Value::Null);
}

#[test]
fn completed_page_is_accepted_without_a_person() {
    let place = workspace("");
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: features, tool: sign_in }]\n");
    let started = place.kapell(&["run", "plan.yaml", "--detach", "--journal", "j.db"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    wait_for_status(&place, &["succeeded"]);
    let shown = place.kapell(&["runs", "show", "last", "a", "--journal", "j.db", "--output", "json"]).result();
    assert_eq!(shown["output"], json!("accept"));
    let answered = &place.logged_events("j.db", "question_answered")[0];
    assert_eq!(answered["by"], json!("agent `features`, which reports the page as completed"));
}
