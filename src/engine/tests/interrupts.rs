//! Runs whose process is asked to stop: what stays, and how a later process continues.

use super::*;
use crate::{
    engine::Recovery,
    model::{ChatRole, Settlement},
};

impl Driver {
    /// The same run in another process.
    fn resumed(&self, requests: &[Input]) -> Self {
        let mut run = Run::fold(&self.records).expect("a history");
        assert!(run == self.run, "fold(events) differs from the live run");
        let last = self.records.last().expect("a first event").at;
        let recovery = Recovery { now: self.now, last, noted: &|_| false, accepts_changes: false, requests };
        let step = run.recover(recovery);
        let mut driver = Self { run, records: self.records.clone(), orders: Vec::new(), now: self.now };
        driver.take(step);
        driver
    }

    fn cancelled(&mut self) -> usize {
        self.take_orders(|order| matches!(order, Command::CancelAttempt { .. }).then_some(())).len()
    }

    fn last(&self) -> &Event {
        &self.records.last().expect("a first event").event
    }

    fn is_interrupted(&self) -> bool {
        matches!(self.last(), Event::RunEnded { status: RunStatus::Interrupted, cause: None, outputs: None, .. })
    }
}

fn with_effect(effect: Effect, task: Task) -> Task {
    Task { effect: Some(effect), ..task }
}

#[test]
fn an_interrupted_run_keeps_what_is_done_and_ends_no_task() {
    let tasks =
        vec![with_effect(Effect::Idempotent, task("t", &[])), task("u", &["t"]), task("v", &[]), task("w", &["v"])];
    let mut driver = Driver::connected(&plan(tasks));
    assert_eq!(driver.names(), ["t#1@a", "v#1@a"]);
    driver.feed(Input::InterruptRequested);
    driver.feed(Input::InterruptRequested);
    assert_eq!(driver.cancelled(), 2, "a second request changes nothing");
    driver.end("v", 1, Ok(text("it was faster")));
    assert_eq!(driver.names(), [""; 0], "nothing is started any more");
    driver.fail("t", 1, FailureKind::Cancelled);
    assert!(driver.is_interrupted(), "{:?}", driver.last());
    assert!(["t", "u", "w"].iter().all(|task| driver.outcome(task).is_none()));

    let mut driver = driver.resumed(&[]);
    driver.connect_all();
    assert_eq!(driver.names(), ["t#2@a", "w#1@a"]);
    driver.end("t", 2, Ok(text("x")));
    driver.end("w", 1, Ok(text("x")));
    driver.end("u", 1, Ok(text("x")));
    assert!(matches!(driver.last(), Event::RunEnded { status: RunStatus::Succeeded, .. }), "{:?}", driver.last());
}

#[test]
fn of_a_cancelled_call_that_must_not_be_repeated_a_person_says_what_became_of_it() {
    // However the agent reacts to the cancellation, its reaction says nothing about the effect.
    for kind in [FailureKind::Cancelled, FailureKind::ToolError, FailureKind::ServerError, FailureKind::ConnectionLost]
    {
        let mut driver = Driver::connected(&plan(vec![with_effect(Effect::AtMostOnce, task("t", &[]))]));
        driver.calls();
        driver.feed(Input::InterruptRequested);
        driver.fail("t", 1, kind);
        assert!(driver.is_interrupted(), "{kind:?}: {:?}", driver.last());
        let mut driver = driver.resumed(&[]);
        driver.connect_all();
        assert_eq!(driver.names(), [""; 0], "{kind:?}");
        let asked = driver.take_orders(|order| match order {
            Command::Ask { question } => Some(Arc::clone(question)),
            _ => None,
        });
        let [question] = asked.as_slice() else { panic!("{kind:?}: {asked:?}") };
        let answer = Answer::Accept { content: Some(json!({"outcome": Settlement::Done})) };
        driver.feed(Input::QuestionAnswered { question: question.id.clone(), answer, by: "p".into() });
        assert!(matches!(driver.last(), Event::RunEnded { status: RunStatus::Succeeded, .. }), "{kind:?}");
    }
}

#[test]
fn a_call_that_was_never_sent_is_made_after_an_interrupt() {
    let mut driver = Driver::connected(&plan(vec![with_effect(Effect::AtMostOnce, task("t", &[]))]));
    driver.calls();
    driver.feed(Input::InterruptRequested);
    driver.fail("t", 1, FailureKind::NotSent);
    let mut driver = driver.resumed(&[]);
    driver.sleep();
    driver.connect_all();
    assert_eq!(driver.names(), ["t#2@a"]);
}

#[test]
fn an_interrupt_before_anything_is_under_way_ends_at_once() {
    let mut driver = Driver::start(&plan(vec![task("t", &[])]));
    driver.feed(Input::InterruptRequested);
    assert!(driver.is_interrupted());
    // A connection that comes later changes nothing.
    let before = driver.records.len();
    driver.connect_all();
    assert_eq!(driver.records.len(), before);
    let mut driver = driver.resumed(&[]);
    driver.connect_all();
    assert_eq!(driver.names(), ["t#1@a"]);
}

#[test]
fn a_prompt_is_put_to_the_model_again_and_its_calls_are_not_made_again() {
    let mut driver = Driver::connected(&plan(vec![plain(with_effect(Effect::AtMostOnce, prompt("p", &["a"], None)))]));
    assert_eq!(driver.turns().len(), 1);
    driver.reply("p", 1, asks_for(&[("c", "a.work")]));
    driver.end("p/1", 1, Ok(text("found")));
    assert_eq!(driver.turns().len(), 1);
    driver.feed(Input::InterruptRequested);
    assert!(driver.is_interrupted(), "a request to the model is not waited for");
    let mut driver = driver.resumed(&[]);
    let turns = driver.turns();
    let [(turn, chat)] = turns.as_slice() else { panic!("{turns:?}") };
    let roles: Vec<_> = chat.messages.iter().map(|message| message.role).collect();
    assert_eq!(
        (turn.as_str(), roles.as_slice()),
        ("p#2", [ChatRole::User, ChatRole::Assistant, ChatRole::User].as_slice())
    );
    driver.connect_all();
    driver.reply("p", 2, says_text("because"));
    assert_eq!(driver.names(), [""; 0]);
    assert!(matches!(driver.last(), Event::RunEnded { status: RunStatus::Succeeded, .. }), "{:?}", driver.last());
}

#[test]
fn a_pause_before_a_retry_and_an_open_question_outlive_an_interrupt() {
    let mut retried = task("t", &[]);
    retried.retry.max_attempts = 2;
    let asked = Task { approve: Some(Box::new(Template(json!("sure?")))), ..task("q", &[]) };
    let mut driver = Driver::connected(&plan(vec![retried, asked]));
    driver.fail("t", 1, FailureKind::ToolError);
    let due = driver.run.next_wake().expect("a pause");
    driver.orders.clear();
    driver.feed(Input::InterruptRequested);
    assert!(driver.is_interrupted());
    let mut driver = driver.resumed(&[]);
    assert_eq!(driver.run.next_wake(), Some(due));
    assert!(driver.orders.iter().any(|order| matches!(order, Command::Ask { .. })), "{:?}", driver.orders);
    driver.sleep();
    driver.connect_all();
    assert_eq!(driver.names(), ["t#2@a"]);
}

#[test]
fn a_cancellation_gives_an_interrupted_run_up() {
    let tasks = vec![task("t", &[]), plain(prompt("p", &[], None)), over(json!([1, 2]), Some(1))];
    let mut driver = Driver::connected(&plan(tasks));
    driver.feed(Input::InterruptRequested);
    driver.feed(Input::CancelRequested { by: "p".into() });
    driver.fail("t", 1, FailureKind::Cancelled);
    driver.fail("each[0]", 1, FailureKind::Cancelled);
    driver.reply("p", 1, Err(ChatError::Endpoint { message: "cancelled".into(), status: None }));
    assert!(matches!(driver.last(), Event::RunEnded { status: RunStatus::Cancelled, .. }), "{:?}", driver.last());

    // The same without a process that drives it: nothing has to be carried out.
    let tasks = vec![task("t", &[]), plain(prompt("p", &[], None)), over(json!([1, 2]), Some(1))];
    let mut driver = Driver::connected(&plan(tasks));
    driver.feed(Input::InterruptRequested);
    let driver = driver.resumed(&[Input::CancelRequested { by: "p".into() }]);
    assert!(matches!(driver.last(), Event::RunEnded { status: RunStatus::Cancelled, .. }), "{:?}", driver.last());
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}

#[test]
fn an_interrupt_while_the_run_is_being_cancelled_changes_nothing() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[])]));
    driver.feed(Input::CancelRequested { by: "p".into() });
    driver.feed(Input::InterruptRequested);
    driver.fail("t", 1, FailureKind::Cancelled);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
}

#[test]
fn a_cancellation_after_an_interrupt_ends_the_prompts_whose_replies_were_left_for_later() {
    let mut driver = Driver::connected(&plan(vec![plain(prompt("p", &[], None)), task("t", &[])]));
    driver.feed(Input::InterruptRequested);
    driver.reply("p", 1, Err(ChatError::Endpoint { message: "cancelled".into(), status: None }));
    driver.feed(Input::CancelRequested { by: "p".into() });
    driver.fail("t", 1, FailureKind::Cancelled);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
}
