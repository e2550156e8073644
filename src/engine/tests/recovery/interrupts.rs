//! Tests of interrupted runs: the remaining state, and how a later process resumes them.

use crate::engine::tests::*;
use crate::model::{AmbiguityResolution, ChatRole};

impl Driver {
    /// Resumes the run in another process.
    fn resume_with(&self, requests: &[Input]) -> Self {
        let run = Run::fold(&self.records).expect("a history");
        assert!(run == self.run, "fold(events) differs from the live run");
        let last_event_at = self.records.last().expect("a first event").at;
        let (checkpoints, inputs) = (HashMap::new(), requests.to_vec());
        let resumption = Resumption { run, last_event_at, checkpoints, accepts_changes: false, inputs };
        let (run, step) = Run::resume(resumption, self.now);
        let mut driver = Self { run, records: self.records.clone(), commands: Vec::new(), now: self.now };
        driver.apply_step(step);
        driver
    }

    fn drain_cancellations(&mut self) -> usize {
        self.drain_commands(|order| matches!(order, Command::CancelAttempt { .. }).then_some(())).len()
    }

    fn last_event(&self) -> &Event {
        &self.records.last().expect("a first event").event
    }

    fn is_interrupted(&self) -> bool {
        matches!(self.last_event(), Event::RunEnded { status: RunStatus::Interrupted, cause: None, outputs: None, .. })
    }
}

fn with_effect(effect: Effect, task: Task) -> Task {
    Task { effect: Some(effect), ..task }
}

#[test]
fn interrupted_run_keeps_completed_tasks() {
    let tasks =
        vec![with_effect(Effect::Idempotent, task("t", &[])), task("u", &["t"]), task("v", &[]), task("w", &["v"])];
    let mut driver = Driver::connected(&plan(tasks));
    assert_eq!(driver.drain_call_names(), ["t#1@a", "v#1@a"]);
    driver.send_input(Input::InterruptRequested);
    driver.send_input(Input::InterruptRequested);
    assert_eq!(driver.drain_cancellations(), 2, "a second request changes nothing");
    driver.end("v", 1, Ok(text("it was faster")));
    assert_eq!(driver.drain_call_names(), [""; 0], "nothing is started any more");
    driver.fail("t", 1, FailureKind::Cancelled);
    assert!(driver.is_interrupted(), "{:?}", driver.last_event());
    assert!(["t", "u", "w"].iter().all(|task| driver.outcome(task).is_none()));

    let mut driver = driver.resume_with(&[]);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#2@a", "w#1@a"]);
    driver.end("t", 2, Ok(text("x")));
    driver.end("w", 1, Ok(text("x")));
    driver.end("u", 1, Ok(text("x")));
    assert!(
        matches!(driver.last_event(), Event::RunEnded { status: RunStatus::Succeeded, .. }),
        "{:?}",
        driver.last_event()
    );
}

#[test]
fn interrupted_at_most_once_call_asks_a_person() {
    // No reaction of the agent to the cancellation shows whether the call took effect.
    for kind in [FailureKind::Cancelled, FailureKind::ToolError, FailureKind::ServerError, FailureKind::ConnectionLost]
    {
        let mut driver = Driver::connected(&plan(vec![with_effect(Effect::AtMostOnce, task("t", &[]))]));
        driver.drain_calls();
        driver.send_input(Input::InterruptRequested);
        driver.fail("t", 1, kind);
        assert!(driver.is_interrupted(), "{kind:?}: {:?}", driver.last_event());
        let mut driver = driver.resume_with(&[]);
        driver.connect_all();
        assert_eq!(driver.drain_call_names(), [""; 0], "{kind:?}");
        let asked = driver.drain_commands(|order| match order {
            Command::AskPerson { question } => Some(Arc::clone(question)),
            _ => None,
        });
        let [question] = asked.as_slice() else { panic!("{kind:?}: {asked:?}") };
        let answer = Answer::Accept { content: Some(json!({"outcome": AmbiguityResolution::Done})) };
        driver.send_input(Input::QuestionAnswered { question: question.id.clone(), answer, by: "p".into() });
        assert!(matches!(driver.last_event(), Event::RunEnded { status: RunStatus::Succeeded, .. }), "{kind:?}");
    }
}

#[test]
fn unsent_call_runs_after_interrupt() {
    let mut driver = Driver::connected(&plan(vec![with_effect(Effect::AtMostOnce, task("t", &[]))]));
    driver.drain_calls();
    driver.send_input(Input::InterruptRequested);
    driver.fail("t", 1, FailureKind::NotSent);
    let mut driver = driver.resume_with(&[]);
    driver.sleep();
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#2@a"]);
}

#[test]
fn interrupt_without_running_calls_ends_immediately() {
    let mut driver = Driver::start(&plan(vec![task("t", &[])]));
    driver.send_input(Input::InterruptRequested);
    assert!(driver.is_interrupted());
    // A later connection changes nothing.
    let before = driver.records.len();
    driver.connect_all();
    assert_eq!(driver.records.len(), before);
    let mut driver = driver.resume_with(&[]);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#1@a"]);
}

#[test]
fn resume_repeats_model_request_but_not_its_calls() {
    let mut driver =
        Driver::connected(&plan(vec![text_prompt(with_effect(Effect::AtMostOnce, prompt("p", &["a"], None)))]));
    assert_eq!(driver.drain_model_requests().len(), 1);
    driver.reply("p", 1, tool_use_reply(&[("c", "a.work")]));
    driver.end("p/1", 1, Ok(text("found")));
    assert_eq!(driver.drain_model_requests().len(), 1);
    driver.send_input(Input::InterruptRequested);
    assert!(driver.is_interrupted(), "a request to the model is not waited for");
    let mut driver = driver.resume_with(&[]);
    let requests = driver.drain_model_requests();
    let [(attempt, chat)] = requests.as_slice() else { panic!("{requests:?}") };
    let roles: Vec<_> = chat.messages.iter().map(|message| message.role).collect();
    assert_eq!(
        (attempt.as_str(), roles.as_slice()),
        ("p#2", [ChatRole::User, ChatRole::Assistant, ChatRole::User].as_slice())
    );
    driver.connect_all();
    driver.reply("p", 2, reply_text("because"));
    assert_eq!(driver.drain_call_names(), [""; 0]);
    assert!(
        matches!(driver.last_event(), Event::RunEnded { status: RunStatus::Succeeded, .. }),
        "{:?}",
        driver.last_event()
    );
}

#[test]
fn retry_delay_and_question_survive_interrupt() {
    let mut retried = task("t", &[]);
    retried.retry.max_attempts = 2;
    let asked = Task { approve: Some(Box::new(Template(json!("sure?")))), ..task("q", &[]) };
    let mut driver = Driver::connected(&plan(vec![retried, asked]));
    driver.fail("t", 1, FailureKind::ToolError);
    let due = driver.run.next_wakeup().expect("a pause");
    driver.commands.clear();
    driver.send_input(Input::InterruptRequested);
    assert!(driver.is_interrupted());
    let mut driver = driver.resume_with(&[]);
    assert_eq!(driver.run.next_wakeup(), Some(due));
    assert!(driver.commands.iter().any(|order| matches!(order, Command::AskPerson { .. })), "{:?}", driver.commands);
    driver.sleep();
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#2@a"]);
}

#[test]
fn cancellation_ends_interrupted_run() {
    let tasks = vec![task("t", &[]), text_prompt(prompt("p", &[], None)), foreach_task(json!([1, 2]), Some(1))];
    let mut driver = Driver::connected(&plan(tasks));
    driver.send_input(Input::InterruptRequested);
    driver.send_input(Input::CancelRequested { by: "p".into() });
    driver.fail("t", 1, FailureKind::Cancelled);
    driver.fail("each[0]", 1, FailureKind::Cancelled);
    driver.reply("p", 1, Err(ChatError::Endpoint { message: "cancelled".into(), status: None }));
    assert!(
        matches!(driver.last_event(), Event::RunEnded { status: RunStatus::Cancelled, .. }),
        "{:?}",
        driver.last_event()
    );

    // Without a process that drives the run, no commands are needed.
    let tasks = vec![task("t", &[]), text_prompt(prompt("p", &[], None)), foreach_task(json!([1, 2]), Some(1))];
    let mut driver = Driver::connected(&plan(tasks));
    driver.send_input(Input::InterruptRequested);
    let driver = driver.resume_with(&[Input::CancelRequested { by: "p".into() }]);
    assert!(
        matches!(driver.last_event(), Event::RunEnded { status: RunStatus::Cancelled, .. }),
        "{:?}",
        driver.last_event()
    );
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}

#[test]
fn interrupt_during_cancellation_is_ignored() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[])]));
    driver.send_input(Input::CancelRequested { by: "p".into() });
    driver.send_input(Input::InterruptRequested);
    driver.fail("t", 1, FailureKind::Cancelled);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
}

#[test]
fn cancellation_after_interrupt_ends_prompts() {
    let mut driver = Driver::connected(&plan(vec![text_prompt(prompt("p", &[], None)), task("t", &[])]));
    driver.send_input(Input::InterruptRequested);
    driver.reply("p", 1, Err(ChatError::Endpoint { message: "cancelled".into(), status: None }));
    driver.send_input(Input::CancelRequested { by: "p".into() });
    driver.fail("t", 1, FailureKind::Cancelled);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
}

#[test]
fn hook_that_waits_for_a_deferred_question_does_not_hold_an_interrupted_run() {
    let hook = Some(Box::new(Hook { of: None, on: HookTrigger::Cancel }));
    let tidy = Task { hook, ..with_effect(Effect::AtMostOnce, with_routes(vec![route("a", 0)], task("tidy", &[]))) };
    let other = with_effect(Effect::ReadOnly, task("t", &[]));
    let mut driver = Driver::connected(&plan(vec![other, tidy]));
    driver.send_input(Input::InterruptRequested);
    driver.fail("t", 1, FailureKind::Cancelled);
    driver.fail("tidy", 1, FailureKind::ConnectionLost);
    assert!(driver.is_interrupted(), "{:?}", driver.last_event());

    let mut driver = driver.resume_with(&[]);
    driver.connect_all();
    driver.send_input(Input::QuestionDeferred { question: "q1".into(), reason: "no person".into() });
    assert_eq!(driver.drain_call_names(), ["t#2@a"]);
    driver.send_input(Input::InterruptRequested);
    driver.fail("t", 2, FailureKind::Cancelled);
    assert!(driver.is_interrupted(), "{:?}", driver.last_event());

    let mut driver = driver.resume_with(&[]);
    let answer = Answer::Accept { content: Some(json!({"outcome": AmbiguityResolution::Done})) };
    driver.send_input(Input::QuestionAnswered { question: "q1".into(), answer, by: "p".into() });
    let has_ended = |record: &Record| matches!(&record.event, Event::TaskEnded { task, .. } if task.as_str() == "tidy");
    assert!(driver.records.iter().any(has_ended), "{:?}", driver.last_event());
}
