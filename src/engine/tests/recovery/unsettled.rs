//! Tests of reruns with calls that may have taken effect.

use super::rerun::{items, rerun_from, rerun_with_plan, reused_tasks};
use crate::engine::tests::*;
use crate::model::AmbiguityResolution;

/// Returns the run of an `at_most_once` task whose call has failed with `kind`.
fn failed(kind: FailureKind) -> Driver {
    let mut driver = Driver::connected(&plan(vec![at_most_once(json!({"v": 1}))]));
    driver.drain_call_names();
    match kind {
        // A later process cancels the run before the question is answered.
        FailureKind::Interrupted => {
            driver = driver.restart();
            driver.send_input(Input::CancelRequested { by: "p".into() });
        }
        FailureKind::Cancelled => {
            driver.send_input(Input::CancelRequested { by: "p".into() });
            driver.fail("t", 1, kind);
        }
        _ => driver.fail("t", 1, kind),
    }
    assert!(driver.ended().is_some_and(|(status, _)| !status.is_unfinished()), "{kind:?}");
    driver
}

fn at_most_once(arguments: Value) -> Task {
    Task { effect: Some(Effect::AtMostOnce), ..with_arguments(arguments, task("t", &[])) }
}

/// Reruns the run with all agents connected.
fn retried(driver: &Driver, from: &str) -> Driver {
    let mut driver = rerun_from(driver, from);
    driver.connect_all();
    driver
}

/// Returns the only question.
fn question(driver: &mut Driver) -> Arc<crate::model::Question> {
    let mut asked = driver.questions();
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

#[test]
fn ambiguous_call_is_repeated_only_after_an_answer() {
    for kind in [
        FailureKind::Interrupted,
        FailureKind::Cancelled,
        FailureKind::ConnectionLost,
        FailureKind::IdleTimeout,
        FailureKind::DeadlineExceeded,
        FailureKind::InvalidResult,
        FailureKind::ResultTooLarge,
    ] {
        let earlier = failed(kind);
        let mut driver = retried(&earlier, "t");
        assert_eq!(driver.drain_call_names(), [""; 0], "{kind:?}");
        let asked = question(&mut driver);
        assert_eq!(asked.asker, Asker::Host { attempt: AttemptId { task: "t".into(), number: 1 } });
        assert!(asked.message.starts_with("in run `earlier`, "), "{}", asked.message);
        assert!(asked.message.ends_with("repeating it may run `t` twice"), "{}", asked.message);
        driver.resolve_ambiguity(&asked.id, AmbiguityResolution::Repeat);
        assert_eq!((driver.drain_call_names(), driver.questions().len()), (vec!["t#1@a".to_owned()], 0), "{kind:?}");
        assert!(Run::fold(&driver.records).expect("a history") == driver.run);

        let mut driver = retried(&earlier, "t");
        let asked = question(&mut driver);
        driver.resolve_ambiguity(&asked.id, AmbiguityResolution::Done);
        assert_eq!(
            (driver.drain_call_names().len(), driver.ended()),
            (0, Some((RunStatus::Succeeded, None))),
            "{kind:?}"
        );

        let mut driver = retried(&earlier, "t");
        let asked = question(&mut driver);
        driver.resolve_ambiguity(&asked.id, AmbiguityResolution::Failed);
        assert_eq!((driver.drain_call_names().len(), driver.ended()), (0, Some((RunStatus::Failed, None))), "{kind:?}");
        let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
        assert!(failure.help.is_some_and(|help| help.contains("effect: idempotent")), "{kind:?}");
        // The outcome of the call is as unknown as before.
        question(&mut retried(&driver, "t"));
    }
}

#[test]
fn call_without_effect_or_safe_call_is_repeated() {
    for kind in [FailureKind::ToolError, FailureKind::UnknownTool, FailureKind::Refused] {
        assert_eq!(retried(&failed(kind), "t").drain_call_names(), ["t#1@a"], "{kind:?}");
    }
    let earlier = failed(FailureKind::ConnectionLost);
    for now in
        [Task { effect: Some(Effect::Idempotent), ..at_most_once(json!({"v": 1})) }, at_most_once(json!({"v": 2}))]
    {
        let mut driver = rerun_with_plan(&earlier, &plan(vec![now]), "t");
        driver.connect_all();
        assert_eq!((driver.drain_call_names(), driver.questions().len()), (vec!["t#1@a".to_owned()], 0));
    }
    // A person chose to repeat the call, and the repetition was refused.
    let mut driver = retried(&earlier, "t");
    let asked = question(&mut driver);
    driver.resolve_ambiguity(&asked.id, AmbiguityResolution::Repeat);
    driver.fail("t", 1, FailureKind::Refused);
    assert_eq!(retried(&driver, "t").drain_call_names(), ["t#1@a"]);
}

#[test]
fn a_question_without_an_answer_is_asked_by_every_later_process_and_retry() {
    let mut driver = retried(&failed(FailureKind::IdleTimeout), "t");
    let asked = question(&mut driver);
    let mut driver = driver.restart();
    assert_eq!(question(&mut driver), asked);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), [""; 0]);
    driver.send_input(Input::CancelRequested { by: "p".into() });
    // A rerun that ends before it starts anything keeps the question.
    let mut driver = rerun_from(&driver, "t");
    driver.send_input(Input::CancelRequested { by: "p".into() });
    let mut driver = retried(&driver, "t");
    let repeated = question(&mut driver);
    assert_eq!((&repeated.message, driver.drain_call_names().len()), (&asked.message, 0));
    driver.resolve_ambiguity(&repeated.id, AmbiguityResolution::Repeat);
    let mut driver = driver.restart();
    driver.connect_all();
    assert!(driver.drain_call_names().is_empty() && driver.questions().len() == 1, "now it is this run's own call");
}

#[test]
fn of_equal_items_as_many_are_asked_about_as_are_unknown() {
    let mut driver = Driver::connected(&plan(vec![items(json!(["a", "b", "b", "c"]))]));
    // The agent executes two calls at once.
    driver.end("each[0]", 1, Ok(text("A")));
    driver.end("each[1]", 1, Ok(text("B")));
    driver = driver.restart();
    driver.send_input(Input::CancelRequested { by: "p".into() });
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
    let mut driver = retried(&driver, "each");
    assert_eq!(reused_tasks(&driver), ["each[0]", "each[1]"]);
    assert_eq!(driver.drain_call_names(), [""; 0], "both were under way");
    let asked = driver.questions();
    assert_eq!(asked.len(), 2);
    driver.resolve_ambiguity(&asked[0].id, AmbiguityResolution::Done);
    driver.resolve_ambiguity(&asked[1].id, AmbiguityResolution::Repeat);
    assert_eq!(driver.drain_call_names(), ["each[3]#1@a"]);
    driver.end("each[3]", 1, Ok(text("C")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);

    // One of two equal calls has an unknown outcome, and the other was never made.
    let mut driver = Driver::connected(&plan(vec![Task {
        budget: Budget { tool_calls: Some(1), ..Budget::default() },
        ..items(json!(["b", "b"]))
    }]));
    driver.fail("each[0]", 1, FailureKind::ConnectionLost);
    let both = plan(vec![items(json!(["b", "b"]))]);
    let mut driver = rerun_with_plan(&driver, &both, "each");
    driver.connect_all();
    assert_eq!((driver.drain_call_names(), driver.questions().len()), (vec!["each[1]#1@a".to_owned()], 1));
}

#[test]
fn ambiguous_call_of_a_prompt_asks_before_it_is_repeated() {
    let asking = plan(vec![text_prompt(Task { effect: Some(Effect::AtMostOnce), ..prompt("p", &["a"], None) })]);
    let mut driver = Driver::connected(&asking);
    driver.reply("p", 1, tool_use_reply(&[("c", "a.work")]));
    driver.fail("p/1", 1, FailureKind::ConnectionLost);
    driver.reply("p", 2, Err(ChatError::Endpoint { message: "broke".into(), status: None }));
    let mut driver = retried(&driver, "p");
    driver.reply("p", 1, tool_use_reply(&[("c", "a.work")]));
    assert_eq!(driver.drain_call_names(), [""; 0]);
    let asked = question(&mut driver);
    driver.resolve_ambiguity(&asked.id, AmbiguityResolution::Done);
    assert_eq!(driver.drain_model_requests().last().map(|(attempt, _)| attempt.clone()), Some("p#2".to_owned()));
}
