//! `kapell retry`: which calls it makes again, and with which plan.

use crate::{
    interrupting::{calls, place},
    support::{Ended, Place},
};

const PLAN: &str = "
name: steps
defaults: { effect: at_most_once }
tasks:
  - { id: list, agent: steps, tool: list }
  - id: each
    foreach: ${{ tasks.list.output['items'] }}
    as: label
    agent: steps
    tool: step
    with: { label: '${{ label }}' }
  - { id: after, needs: [each], agent: steps, tool: step, with: { label: after } }
";

/// Runs the plan over four items, of which `c` fails, and forgets the calls.
fn failed() -> Place {
    let place = place();
    place.write("plan.yaml", PLAN).write("items", "a b c d").write("fail-c", "");
    let ended = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let mut made = calls(&place);
    made.sort();
    assert_eq!(made, ["a", "b", "c", "d"]);
    forget(&place);
    place
}

fn forget(place: &Place) {
    std::fs::remove_file(place.path("calls")).expect("there were calls");
    std::fs::remove_file(place.path("fail-c")).expect("it failed");
}

fn retry(place: &Place, options: &[&str]) -> Ended {
    place.kapell(&[&["retry", "last", "--no-input", "--output", "json"], options].concat())
}

/// An error as it was before its lines were broken.
fn in_a_line(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn a_retry_calls_only_the_items_without_a_success() {
    for from in ["list", "each", "after"] {
        let place = failed();
        let ended = retry(&place, &["--from", from]);
        assert_eq!((ended.code, ended.task("after").0.as_str()), (Some(0), "succeeded"), "--from {from}: {ended:?}");
        assert_eq!(calls(&place), ["c", "after"], "--from {from}");
    }
}

#[test]
fn an_item_is_not_a_place_to_retry_from() {
    let place = failed();
    let ended = retry(&place, &["--from", "each[2]"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(in_a_line(&ended.err).contains("`--from each` calls the items that did not succeed"), "{}", ended.err);
}

#[test]
fn a_changed_plan_is_named_and_can_be_retried_with() {
    let place = failed();
    let corrected = PLAN.replace("label: after", "label: corrected");
    place.write("plan.yaml", &corrected);
    let refused = retry(&place, &["--from", "each"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let message = in_a_line(&refused.err);
    assert!(message.contains("task `after` has another call or prompt"), "{message}");
    assert!(message.contains("--plan") && message.contains("--accept-changes"), "{message}");
    assert!(!place.path("calls").exists(), "nothing was called");

    let ended = retry(&place, &["--from", "each", "--plan", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(calls(&place), ["c", "corrected"]);
    // The new run came from the corrected file, so nothing has changed for it.
    std::fs::remove_file(place.path("calls")).expect("there were calls");
    assert_eq!(retry(&place, &["--from", "after"]).code, Some(0));
    assert_eq!(calls(&place), ["corrected"]);
}

#[test]
fn a_changed_plan_can_be_left_alone() {
    let place = failed();
    place.write("plan.yaml", PLAN.replace("label: after", "label: corrected"));
    assert_eq!(retry(&place, &["--from", "each", "--accept-changes"]).code, Some(0));
    assert_eq!(calls(&place), ["c", "after"]);
}

#[test]
fn an_agent_that_is_gone_is_named_before_anything_is_called() {
    let place = failed();
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("an agents file");
    place.write("agents.toml", agents.replace("agents.steps", "agents.other"));
    let refused = retry(&place, &["--from", "each"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(in_a_line(&refused.err).contains("agent `steps`"), "{}", refused.err);
}
