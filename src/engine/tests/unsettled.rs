//! Retries of calls of which it is unknown whether they took effect.

use super::{
    rerun::{again, again_with, items, reused},
    *,
};
use crate::model::Settlement;

/// A run of a task that may be called once, whose call has failed in this way.
fn failed(kind: FailureKind) -> Driver {
    let mut driver = Driver::connected(&plan(vec![once(json!({"v": 1}))]));
    driver.names();
    match kind {
        // A later process ends the run rather than to ask.
        FailureKind::Interrupted => {
            driver = driver.killed();
            driver.feed(Input::CancelRequested { by: "p".into() });
        }
        FailureKind::Cancelled => {
            driver.feed(Input::CancelRequested { by: "p".into() });
            driver.fail("t", 1, kind);
        }
        _ => driver.fail("t", 1, kind),
    }
    assert!(driver.ended().is_some_and(|(status, _)| !status.is_open()), "{kind:?}");
    driver
}

fn once(arguments: Value) -> Task {
    Task { effect: Some(Effect::AtMostOnce), ..with(arguments, task("t", &[])) }
}

/// Begins the run again with every agent connected.
fn retried(driver: &Driver, from: &str) -> Driver {
    let mut driver = again(driver, from);
    driver.connect_all();
    driver
}

/// The only question.
fn question(driver: &mut Driver) -> Arc<crate::model::Question> {
    let mut asked = driver.questions();
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

#[test]
fn a_call_that_may_have_taken_effect_is_not_repeated_before_a_person_says_so() {
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
        assert_eq!(driver.names(), [""; 0], "{kind:?}");
        let asked = question(&mut driver);
        assert_eq!(asked.asker, Asker::Host { attempt: AttemptId { task: "t".into(), number: 1 } });
        assert!(asked.message.starts_with("in run `earlier`, "), "{}", asked.message);
        assert!(asked.message.ends_with("calling it again may do `t` twice"), "{}", asked.message);
        driver.settle(&asked.id, Settlement::Repeat);
        assert_eq!((driver.names(), driver.questions().len()), (vec!["t#1@a".to_owned()], 0), "{kind:?}");
        assert!(Run::fold(&driver.records).expect("a history") == driver.run);

        let mut driver = retried(&earlier, "t");
        let asked = question(&mut driver);
        driver.settle(&asked.id, Settlement::Done);
        assert_eq!((driver.names().len(), driver.ended()), (0, Some((RunStatus::Succeeded, None))), "{kind:?}");

        let mut driver = retried(&earlier, "t");
        let asked = question(&mut driver);
        driver.settle(&asked.id, Settlement::Failed);
        assert_eq!((driver.names().len(), driver.ended()), (0, Some((RunStatus::Failed, None))), "{kind:?}");
        let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
        assert!(failure.help.is_some_and(|help| help.contains("effect: idempotent")), "{kind:?}");
        // It is as unknown as before.
        question(&mut retried(&driver, "t"));
    }
}

#[test]
fn a_call_that_took_no_effect_or_may_be_repeated_is_repeated() {
    for kind in [FailureKind::ToolError, FailureKind::UnknownTool, FailureKind::Refused] {
        assert_eq!(retried(&failed(kind), "t").names(), ["t#1@a"], "{kind:?}");
    }
    let earlier = failed(FailureKind::ConnectionLost);
    for now in [Task { effect: Some(Effect::Idempotent), ..once(json!({"v": 1})) }, once(json!({"v": 2}))] {
        let mut driver = again_with(&earlier, &plan(vec![now]), "t");
        driver.connect_all();
        assert_eq!((driver.names(), driver.questions().len()), (vec!["t#1@a".to_owned()], 0));
    }
    // A person let the call be repeated, and the repetition was refused.
    let mut driver = retried(&earlier, "t");
    let asked = question(&mut driver);
    driver.settle(&asked.id, Settlement::Repeat);
    driver.fail("t", 1, FailureKind::Refused);
    assert_eq!(retried(&driver, "t").names(), ["t#1@a"]);
}

#[test]
fn a_question_without_an_answer_is_asked_by_every_later_process_and_retry() {
    let mut driver = retried(&failed(FailureKind::IdleTimeout), "t");
    let asked = question(&mut driver);
    let mut driver = driver.killed();
    assert_eq!(question(&mut driver), asked);
    driver.connect_all();
    assert_eq!(driver.names(), [""; 0]);
    driver.feed(Input::CancelRequested { by: "p".into() });
    // A retry that is ended before it begins anything passes the question on.
    let mut driver = again(&driver, "t");
    driver.feed(Input::CancelRequested { by: "p".into() });
    let mut driver = retried(&driver, "t");
    let again = question(&mut driver);
    assert_eq!((&again.message, driver.names().len()), (&asked.message, 0));
    driver.settle(&again.id, Settlement::Repeat);
    let mut driver = driver.killed();
    driver.connect_all();
    assert!(driver.names().is_empty() && driver.questions().len() == 1, "now it is this run's own call");
}

#[test]
fn of_equal_items_as_many_are_asked_about_as_are_unknown() {
    let mut driver = Driver::connected(&plan(vec![items(json!(["a", "b", "b", "c"]))]));
    // Two at a time.
    driver.end("each[0]", 1, Ok(text("A")));
    driver.end("each[1]", 1, Ok(text("B")));
    driver = driver.killed();
    driver.feed(Input::CancelRequested { by: "p".into() });
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
    let mut driver = retried(&driver, "each");
    assert_eq!(reused(&driver), ["each[0]", "each[1]"]);
    assert_eq!(driver.names(), [""; 0], "both were under way");
    let asked = driver.questions();
    assert_eq!(asked.len(), 2);
    driver.settle(&asked[0].id, Settlement::Done);
    driver.settle(&asked[1].id, Settlement::Repeat);
    assert_eq!(driver.names(), ["each[3]#1@a"]);
    driver.end("each[3]", 1, Ok(text("C")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);

    // One of two equal calls is unknown, and the other was never made.
    let mut driver = Driver::connected(&plan(vec![Task {
        budget: Budget { tool_calls: Some(1), ..Budget::default() },
        ..items(json!(["b", "b"]))
    }]));
    driver.fail("each[0]", 1, FailureKind::ConnectionLost);
    let both = plan(vec![items(json!(["b", "b"]))]);
    let mut driver = again_with(&driver, &both, "each");
    driver.connect_all();
    assert_eq!((driver.names(), driver.questions().len()), (vec!["each[1]#1@a".to_owned()], 1));
}

#[test]
fn a_call_of_a_prompt_that_may_have_taken_effect_is_asked_about_when_the_model_wants_it_again() {
    let asking = plan(vec![plain(Task { effect: Some(Effect::AtMostOnce), ..prompt("p", &["a"], None) })]);
    let mut driver = Driver::connected(&asking);
    driver.reply("p", 1, asks_for(&[("c", "a.work")]));
    driver.fail("p/1", 1, FailureKind::ConnectionLost);
    driver.reply("p", 2, Err(ChatError::Endpoint { message: "broke".into(), status: None }));
    let mut driver = retried(&driver, "p");
    driver.reply("p", 1, asks_for(&[("c", "a.work")]));
    assert_eq!(driver.names(), [""; 0]);
    let asked = question(&mut driver);
    driver.settle(&asked.id, Settlement::Done);
    assert_eq!(driver.turns().last().map(|(turn, _)| turn.clone()), Some("p#2".to_owned()));
}
