//! Agents that misbehave: each is survived or gets its named error, and the other tasks go on.

use crate::support::{Ended, Place};

/// Runs one task on the agent that misbehaves, with `keys` of its own, beside one on an agent that does not.
fn beside_a_good_one(mode: &str, keys: &str) -> Ended {
    let place = Place::new();
    place.agents(&[mode]);
    let plan = format!(
        "name: x\ntasks:\n\
         \x20 - {{ id: odd, agent: odd-{mode}, tool: work, on_failure: continue, {keys} }}\n\
         \x20 - {{ id: good, agent: archive, tool: store_document, with: {{ title: t, text: x }} }}\n"
    );
    let ended = place.run(&plan, &[]);
    assert_eq!(ended.task("good"), ("succeeded".into(), None), "{ended:?}");
    ended
}

fn survived(mode: &str) {
    let ended = beside_a_good_one(mode, "");
    assert_eq!((ended.task("odd"), ended.code), (("succeeded".into(), None), Some(0)), "{ended:?}");
}

fn failed(mode: &str, keys: &str, kind: &str, says: &str) {
    let ended = beside_a_good_one(mode, keys);
    assert_eq!((ended.task("odd"), ended.code), (("failed".into(), Some(kind.into())), Some(3)), "{ended:?}");
    let error = ended.result()["tasks"]["odd"]["error"].to_string();
    assert!(error.contains(says), "`{says}` is missing in {error}");
}

#[test]
fn noise_on_stdout_is_survived() {
    survived("noise");
}

#[test]
fn an_answer_for_another_id_is_survived() {
    survived("other-id");
}

#[test]
fn invalid_utf8_is_survived() {
    survived("bad-utf8");
}

#[test]
fn a_result_of_twenty_megabytes_is_survived() {
    survived("large");
}

#[test]
fn a_thousand_progress_messages_a_second_are_survived() {
    let ended = beside_a_good_one("flood", "");
    assert_eq!(ended.task("odd"), ("succeeded".into(), None), "{ended:?}");
    assert!(ended.err.lines().filter(|line| line.contains("step")).count() < 100, "{}", ended.err);
}

#[test]
fn a_result_beyond_all_measure_is_an_error() {
    failed("too-large", "", "result_too_large", "64 MiB");
}

#[test]
fn an_agent_that_exits_at_once_is_an_error_with_its_last_words() {
    failed("exits", "", "agent_unavailable", "no licence");
}

#[test]
fn an_agent_that_never_answers_the_handshake_is_an_error() {
    failed("never", "", "agent_unavailable", "5s");
}

#[test]
fn an_agent_that_dies_in_mid_call_is_an_ambiguous_end_unless_the_effect_allows_more() {
    let place = Place::new();
    place.agents(&["dies"]);
    let plan = |effect: &str| {
        format!(
            "name: x\ntasks:\n\
             \x20 - {{ id: odd, agent: odd-dies, tool: work, effect: {effect}, retry: {{ max_attempts: 3, backoff: {{ initial: 1ms }} }}, on_failure: continue }}\n"
        )
    };
    let once = place.run(&plan("at_most_once"), &[]);
    assert_eq!(once.task("odd"), ("failed".into(), Some("connection_lost".into())), "{once:?}");
    assert_eq!(once.result()["tasks"]["odd"]["attempts"], 1);
    assert!(once.out.contains("giving up") && once.out.contains("effect: idempotent"), "{}", once.out);
    let often = place.run(&plan("idempotent"), &[]);
    assert_eq!(often.result()["tasks"]["odd"]["attempts"], 3, "{often:?}");
}

#[test]
fn a_dead_agent_is_replaced_by_its_fallback() {
    let place = Place::new();
    place.agents(&["dies", "good"]);
    let ended = place.run(
        "name: x\ntasks: [{ id: odd, agent: odd-dies, tool: work, effect: read_only, fallback: [{ agent: odd-good, tool: work }] }]\n",
        &[],
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["odd"]["agent"], "odd-good");
}

#[test]
fn silence_in_a_call_ends_with_the_timeout_and_progress_does_not() {
    failed("silent", "timeout: 300ms", "idle_timeout", "300ms");
    let ended = beside_a_good_one("slow", "timeout: 500ms");
    assert_eq!(ended.task("odd"), ("succeeded".into(), None), "{ended:?}");
    failed("slow", "timeout: 500ms, deadline: 400ms", "deadline_exceeded", "400ms");
}

#[test]
fn structured_content_that_breaks_its_schema_is_an_error() {
    let place = Place::new();
    place.agents(&["breaks-schema"]);
    let ended = place.run("name: x\ntasks: [{ id: odd, agent: odd-breaks-schema, tool: count }]\n", &[]);
    assert_eq!(ended.task("odd"), ("failed".into(), Some("invalid_result".into())), "{ended:?}");
}

#[test]
fn a_program_that_cannot_be_started_is_an_error_that_names_it() {
    let place = Place::new();
    place.agents(&[]).write("plain.txt", "not a program");
    let text = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let file = place.path("plain.txt").display().to_string();
    place.write(
        "agents.toml",
        format!("{text}[agents.plain]\ncommand = {file:?}\n[agents.gone]\ncommand = \"no-such-program\"\n"),
    );
    let ended = place.run(
        "name: x\ntasks:\n  - { id: a, agent: plain, tool: t, on_failure: continue }\n  - { id: b, agent: gone, tool: t, on_failure: continue }\n\
         \x20 - { id: c, agent: archive, tool: store_document, with: { title: t, text: x } }\n",
        &[],
    );
    let unavailable = || ("failed".to_owned(), Some("agent_unavailable".to_owned()));
    assert_eq!((ended.task("a"), ended.task("b")), (unavailable(), unavailable()), "{ended:?}");
    assert_eq!((ended.task("c").0.as_str(), ended.code), ("succeeded", Some(3)));
    assert!(ended.out.contains("plain.txt") && ended.out.contains("no-such-program"), "{}", ended.out);
}

#[test]
fn an_error_result_is_retried_as_the_plan_says() {
    let ended = beside_a_good_one("fails", "retry: { max_attempts: 3, backoff: { initial: 1ms } }");
    assert_eq!(ended.task("odd"), ("failed".into(), Some("tool_error".into())), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["odd"]["attempts"], 3);
}
