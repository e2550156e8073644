//! Agents that misbehave: each is tolerated or gets its specific error, and the other tasks continue.

use crate::support::workspace::{CommandOutput, Workspace};

/// Runs one task on the misbehaving agent, with additional `keys`, and another one on a working agent.
fn run_with_a_working_agent(mode: &str, keys: &str) -> CommandOutput {
    let place = Workspace::new();
    place.write_agents(&[mode]);
    let plan = format!(
        "name: x\ntasks:\n\
         \x20 - {{ id: odd, agent: odd-{mode}, tool: work, on_failure: continue, {keys} }}\n\
         \x20 - {{ id: good, agent: archive, tool: store_document, with: {{ title: t, text: x }} }}\n"
    );
    let ended = place.run_plan(&plan, &[]);
    assert_eq!(ended.task("good"), ("succeeded".into(), None), "{ended:?}");
    ended
}

fn assert_survives(mode: &str) {
    let ended = run_with_a_working_agent(mode, "");
    assert_eq!((ended.task("odd"), ended.code), (("succeeded".into(), None), Some(0)), "{ended:?}");
}

fn assert_fails(mode: &str, keys: &str, kind: &str, reason: &str) {
    let ended = run_with_a_working_agent(mode, keys);
    assert_eq!((ended.task("odd"), ended.code), (("failed".into(), Some(kind.into())), Some(3)), "{ended:?}");
    let error = ended.result()["tasks"]["odd"]["error"].to_string();
    assert!(error.contains(reason), "`{reason}` is missing in {error}");
}

#[test]
fn noise_on_stdout_is_ignored() {
    assert_survives("noise");
}

#[test]
fn response_with_an_unknown_id_is_ignored() {
    assert_survives("other-id");
}

#[test]
fn invalid_utf8_is_ignored() {
    assert_survives("bad-utf8");
}

#[test]
fn accepts_a_result_of_20_megabytes() {
    assert_survives("large");
}

#[test]
fn accepts_1_000_progress_notifications_a_second() {
    let ended = run_with_a_working_agent("flood", "");
    assert_eq!(ended.task("odd"), ("succeeded".into(), None), "{ended:?}");
    assert!(ended.stderr.lines().filter(|line| line.contains("step")).count() < 100, "{}", ended.stderr);
}

#[test]
fn oversized_result_is_an_error() {
    assert_fails("too-large", "", "result_too_large", "64 MiB");
}

#[test]
fn immediate_exit_is_reported_with_stderr() {
    assert_fails("exits", "", "agent_unavailable", "no license");
}

#[test]
fn handshake_timeout_is_an_error() {
    assert_fails("never", "", "agent_unavailable", "5s");
}

#[test]
fn exit_during_a_call_is_ambiguous_unless_repeatable() {
    let place = Workspace::new();
    place.write_agents(&["dies"]);
    let plan = |effect: &str| {
        format!(
            "name: x\ntasks:\n\
             \x20 - {{ id: odd, agent: odd-dies, tool: work, effect: {effect}, retry: {{ max_attempts: 3, backoff: {{ initial: 1ms }} }}, on_failure: continue }}\n"
        )
    };
    let once = place.run_plan(&plan("at_most_once"), &[]);
    assert_eq!(once.task("odd"), ("failed".into(), Some("connection_lost".into())), "{once:?}");
    assert_eq!(once.result()["tasks"]["odd"]["attempts"], 1);
    assert!(once.stdout.contains("giving up") && once.stdout.contains("effect: idempotent"), "{}", once.stdout);
    let often = place.run_plan(&plan("idempotent"), &[]);
    assert_eq!(often.result()["tasks"]["odd"]["attempts"], 3, "{often:?}");
}

#[test]
fn dead_agent_is_replaced_by_its_fallback() {
    let place = Workspace::new();
    place.write_agents(&["dies", "good"]);
    let ended = place.run_plan(
        "name: x\ntasks: [{ id: odd, agent: odd-dies, tool: work, effect: read_only, fallback: [{ agent: odd-good, tool: work }] }]\n",
        &[],
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["odd"]["agent"], "odd-good");
}

#[test]
fn idle_timeout_and_deadline_end_a_call() {
    assert_fails("silent", "timeout: 300ms", "idle_timeout", "300ms");
    assert_fails("slow", "timeout: 500ms, deadline: 400ms", "deadline_exceeded", "400ms");
}

#[test]
fn invalid_structured_content_is_an_error() {
    let place = Workspace::new();
    place.write_agents(&["breaks-schema"]);
    let ended = place.run_plan("name: x\ntasks: [{ id: odd, agent: odd-breaks-schema, tool: count }]\n", &[]);
    assert_eq!(ended.task("odd"), ("failed".into(), Some("invalid_result".into())), "{ended:?}");
}

#[test]
fn missing_program_is_named_in_the_error() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plain.txt", "not a program");
    let text = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let file = place.path("plain.txt").display().to_string();
    place.write(
        "agents.toml",
        format!("{text}[agents.plain]\ncommand = {file:?}\n[agents.gone]\ncommand = \"no-such-program\"\n"),
    );
    let ended = place.run_plan(
        "name: x\ntasks:\n  - { id: a, agent: plain, tool: t, on_failure: continue }\n  - { id: b, agent: gone, tool: t, on_failure: continue }\n\
         \x20 - { id: c, agent: archive, tool: store_document, with: { title: t, text: x } }\n",
        &[],
    );
    let unavailable = || ("failed".to_owned(), Some("agent_unavailable".to_owned()));
    assert_eq!((ended.task("a"), ended.task("b")), (unavailable(), unavailable()), "{ended:?}");
    assert_eq!((ended.task("c").0.as_str(), ended.code), ("succeeded", Some(3)));
    assert!(ended.stdout.contains("plain.txt") && ended.stdout.contains("no-such-program"), "{}", ended.stdout);
}

#[test]
fn tool_error_is_retried_by_policy() {
    let ended = run_with_a_working_agent("fails", "retry: { max_attempts: 3, backoff: { initial: 1ms } }");
    assert_eq!(ended.task("odd"), ("failed".into(), Some("tool_error".into())), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["odd"]["attempts"], 3);
}
