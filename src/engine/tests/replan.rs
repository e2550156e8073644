//! Replans: what freezes, what is told, what grows, and how the run ends.

use super::*;
use crate::model::{Consent, Remainder, ReplanPolicy, ReplanRequest, Standing};

fn replannable(most: u32, tasks: Vec<Task>) -> Plan {
    let on_failure = |task: Task| match task.work {
        Work::Synthesis(_) => task,
        _ => Task { on_failure: OnFailure::Replan, ..task },
    };
    let replan = Some(ReplanPolicy { most, consent: Consent::Allow });
    Plan { replan, ..(*plan(tasks.into_iter().map(on_failure).collect())).clone() }
}

fn replanned(most: u32, tasks: Vec<Task>) -> Driver {
    Driver::connected(&Arc::new(replannable(most, tasks)))
}

/// A remainder without these tasks and with those, each called with its id alone.
fn remainder(removed: &[&str], added: Vec<Task>) -> Result<Arc<Remainder>, Failure> {
    let removed = removed.iter().map(|&id| id.into()).collect();
    let added = added.into_iter().map(|task| Arc::new(Task { on_failure: OnFailure::Replan, ..task })).collect();
    let agents = [("a", agent_policy()), ("fresh", agent_policy())].map(|(id, policy)| (id.into(), policy));
    Ok(Arc::new(Remainder { kept: Vec::new(), removed, added, agents: agents.into() }))
}

impl Driver {
    /// The replans that were ordered since last asked.
    fn replans(&mut self) -> Vec<ReplanRequest> {
        self.take_orders(|order| match order {
            Command::Replan(request) => Some((**request).clone()),
            _ => None,
        })
    }

    fn answer(&mut self, number: u32, result: Result<Arc<Remainder>, Failure>) {
        self.feed(Input::Replanned { number, result });
        self.connect_all();
    }

    fn help(&self, task: &str) -> String {
        let Some(Outcome::Failed(failure)) = self.outcome(task) else { panic!("`{task}` has not failed") };
        failure.help.unwrap_or_default()
    }
}

fn standings(request: &ReplanRequest) -> Vec<(&str, Standing)> {
    request.tasks.iter().map(|so_far| (so_far.task.id.as_str(), so_far.standing.clone())).collect()
}

#[test]
fn a_failure_freezes_what_has_not_started_and_tells_the_planner_how_everything_stands() {
    let tasks = ["done", "bad", "busy", "next", "last"].map(|id| match id {
        "next" => task(id, &["busy"]),
        "last" => task(id, &["bad"]),
        id => on(vec![route(id, 0)], task(id, &[])),
    });
    let mut driver = replanned(1, tasks.to_vec());
    driver.end("done", 1, Ok(text("a result")));
    driver.fail("bad", 1, FailureKind::ToolError);
    let requests = driver.replans();
    assert_eq!(
        standings(&requests[0]),
        [
            ("done", Standing::Succeeded("a result".into())),
            ("bad", Standing::Missing("broke".into())),
            ("busy", Standing::Started),
            ("next", Standing::Open),
            ("last", Standing::Lost("bad".into())),
        ]
    );
    driver.calls();
    driver.end("busy", 1, Ok(text("x")));
    assert_eq!((driver.names(), driver.ended()), (vec![], None), "`next` waits for the planner");
    driver.answer(1, remainder(&["last"], vec![on(vec![route("fresh", 0)], task("t1", &["done", "busy"]))]));
    assert_eq!(driver.names(), ["next#1@a", "t1#1@fresh"]);
    assert_eq!(driver.outcome("last"), Some(Outcome::Skipped(SkipReason::Replanned)));
    driver.end("next", 1, Ok(text("x")));
    driver.end("t1", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)), "what was planned anew is no failure of the run");
}

#[test]
fn a_synthesis_waits_for_what_is_added_and_names_the_failure_but_not_what_was_left_out() {
    let tasks = vec![task("a", &[]), task("b", &["a"]), task("c", &["b"]), synthesis(None, &["a", "b", "c"])];
    let mut driver = replanned(1, tasks);
    driver.end("a", 1, Ok(text("x")));
    driver.fail("b", 1, FailureKind::ToolError);
    assert_eq!(driver.replans()[0].taken, ["answer".into()]);
    driver.answer(1, remainder(&["c"], vec![task("d", &["a"])]));
    assert_eq!(driver.turns(), []);
    driver.end("d", 1, Ok(text("it is blue")));
    let question = driver.turns().remove(0).1.messages[0].all_text();
    let sources: Vec<_> = question.lines().filter(|line| line.starts_with("<result")).collect();
    assert_eq!(
        sources,
        [
            "<result task=\"a\" status=\"succeeded\">",
            "<result task=\"b\" status=\"has no result\">",
            "<result task=\"d\" status=\"succeeded\">",
        ]
    );
}

#[test]
fn an_empty_remainder_leaves_what_is_done_and_nothing_done_is_a_failure() {
    for (result, status) in [(Ok(text("x")), RunStatus::Succeeded), (Err("other"), RunStatus::Failed)] {
        let mut driver = replanned(1, vec![task("a", &[]), task("b", &[]), task("c", &["b"])]);
        driver.end("a", 1, result.map_err(|message| Failure::new(FailureKind::Denied, message)));
        driver.fail("b", 1, FailureKind::ToolError);
        driver.answer(1, remainder(&["c"], Vec::new()));
        assert_eq!(driver.ended(), Some((status, None)));
    }
}

#[test]
fn without_a_usable_answer_the_run_goes_on_as_if_the_task_had_said_fail() {
    let mut driver = replanned(1, vec![task("a", &[]), task("b", &["a"]), task("c", &[])]);
    driver.end("c", 1, Ok(text("x")));
    driver.fail("a", 1, FailureKind::ToolError);
    driver.answer(1, Err(Failure::new(FailureKind::ModelFailed, "nonsense")));
    assert_eq!(driver.outcome("b"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "a".into() })));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn the_same_failure_is_not_replanned_again() {
    let mut driver = replanned(5, vec![task("a", &[]), task("b", &[])]);
    driver.end("b", 1, Ok(text("x")));
    driver.fail("a", 1, FailureKind::ToolError);
    driver.answer(1, remainder(&[], vec![task("c", &[])]));
    driver.fail("c", 1, FailureKind::ToolError);
    assert_eq!(driver.replans().len(), 1);
    assert_eq!(driver.help("c"), "`a` failed in the same way and was replanned, so it is not tried once more");
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn another_failure_is_replanned_as_often_as_the_plan_allows() {
    let mut driver = replanned(2, vec![task("a", &[])]);
    for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
        let failure = Failure::new(FailureKind::ToolError, format!("{id} broke"));
        driver.end(id, 1, Err(failure));
        let next = ["b", "c", "d"][number - 1];
        driver.answer(number as u32, remainder(&[], vec![task(next, &[])]));
    }
    assert_eq!(driver.replans().iter().map(|request| request.number).collect::<Vec<_>>(), [1, 2]);
    assert!(driver.help("c").contains("planned anew 2 times already"), "{}", driver.help("c"));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn failures_that_come_at_once_are_one_replan_and_one_that_comes_later_is_the_next() {
    let tasks = ["a", "b", "c"].map(|id| on(vec![route(id, 0)], task(id, &[])));
    let mut driver = replanned(2, tasks.to_vec());
    let ended = |id: &str| Input::AttemptEnded {
        attempt: AttemptId { task: id.into(), number: 1 },
        result: Err(Failure::new(FailureKind::ToolError, "broke")),
    };
    let step = driver.run.handle([ended("a"), ended("b")], driver.now);
    driver.take(step);
    driver.feed(ended("c"));
    assert_eq!(driver.replans().len(), 1);
    driver.answer(1, remainder(&[], vec![task("d", &[])]));
    assert_eq!((driver.replans().len(), driver.names().len()), (1, 3), "`d` is frozen again");
    driver.answer(2, remainder(&["d"], vec![task("e", &[])]));
    driver.end("e", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    let started: Vec<_> = (driver.records.iter())
        .filter_map(|record| match &record.event {
            Event::ReplanStarted { failed, .. } => Some(failed.iter().map(TaskId::as_str).collect::<Vec<_>>()),
            _ => None,
        })
        .collect();
    assert_eq!(started, [vec!["a", "b"], vec!["c"]]);
}

#[test]
fn a_foreach_task_is_replanned_as_a_whole_and_by_its_first_failed_item() {
    let mut driver = replanned(3, vec![over(json!([1, 2]), None)]);
    driver.fail("each[0]", 1, FailureKind::ToolError);
    assert_eq!(driver.replans(), []);
    driver.end("each[1]", 1, Ok(text("x")));
    assert_eq!(standings(&driver.replans()[0]).len(), 1);
    driver.answer(1, remainder(&[], vec![task("again", &[])]));
    driver.fail("again", 1, FailureKind::ToolError);
    assert!(driver.help("again").starts_with("`each` failed in the same way"));
}

#[test]
fn a_spent_budget_refuses_the_planner() {
    let budget = Budget { llm_calls: Some(0), ..Budget::default() };
    let mut driver = Driver::connected(&Arc::new(Plan { budget, ..replannable(1, vec![task("a", &[])]) }));
    driver.fail("a", 1, FailureKind::ToolError);
    assert_eq!(driver.replans(), []);
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn what_the_planner_asks_the_model_is_charged_to_the_run() {
    let budget = Budget { llm_calls: Some(1), ..Budget::default() };
    let mut driver = Driver::connected(&Arc::new(Plan { budget, ..replannable(1, vec![task("a", &[])]) }));
    driver.fail("a", 1, FailureKind::ToolError);
    let refused = |driver: &mut Driver, number: u32| {
        let (request, origin) = (format!("p/{number}").as_str().into(), Sampler::Planner { replan: 1 });
        driver.feed(Input::SamplingRequested { request, origin, chat: Arc::default() });
        let is_refusal =
            |order: &Command| matches!(order, Command::AnswerSampling { result: Err(_), .. }).then_some(());
        !driver.take_orders(is_refusal).is_empty()
    };
    assert!(!refused(&mut driver, 1));
    assert!(refused(&mut driver, 2), "the second turn is over the budget");
}

#[test]
fn cancelling_ends_the_replan_and_a_late_answer_changes_nothing() {
    let mut driver = replanned(1, vec![task("a", &[]), on(vec![route("b", 0)], task("b", &[]))]);
    driver.fail("a", 1, FailureKind::ToolError);
    driver.feed(Input::CancelRequested { by: "p".into() });
    assert!(driver.orders.contains(&Command::CancelReplan));
    let before = driver.records.len();
    driver.answer(1, remainder(&[], vec![task("c", &[])]));
    assert_eq!(driver.records.len(), before);
    driver.fail("b", 1, FailureKind::Cancelled);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
}

#[test]
fn a_remainder_that_does_not_fit_the_run_is_refused() {
    for (removed, added, reason) in [
        (vec!["a"], vec![], "without `a`, which is no task that has not started"),
        (vec![], vec![task("b", &[])], "two tasks are called `b`"),
        (vec![], vec![task("c", &["z"])], "task `c` needs `z`, which is not in the plan"),
        (vec![], vec![task("c", &["d"]), task("d", &["c"])], "tasks wait for each other"),
        (vec![], vec![on(vec![route("nobody", 0)], task("c", &[]))], "names the agent `nobody`"),
    ] {
        let mut driver = replanned(1, vec![task("a", &[]), task("b", &["a"])]);
        driver.fail("a", 1, FailureKind::ToolError);
        driver.answer(1, remainder(&removed, added));
        let refused = driver.records.iter().find_map(|record| match &record.event {
            Event::Replanned { result: Err(failure), .. } => Some(failure.message.clone()),
            _ => None,
        });
        assert!(refused.as_ref().is_some_and(|message| message.contains(reason)), "{refused:?} for {reason}");
    }
}

#[test]
fn a_person_is_asked_about_the_new_remainder_where_the_run_needs_a_yes() {
    let accept =
        Input::QuestionAnswered { question: "q1".into(), answer: Answer::Accept { content: None }, by: "p".into() };
    let decline = Input::QuestionAnswered { question: "q1".into(), answer: Answer::Decline, by: "p".into() };
    let nobody = Input::QuestionLeftOpen { question: "q1".into(), reason: "nobody".into() };
    for (input, calls, status) in [
        (accept, vec!["d#1@a"], None),
        (decline, vec![], Some((RunStatus::Failed, None))),
        (nobody, vec![], Some((RunStatus::Paused, None))),
    ] {
        let mut asking = replannable(1, vec![task("a", &[]), task("b", &["a"]), task("c", &["b"])]);
        asking.replan = Some(ReplanPolicy { most: 1, consent: Consent::Ask });
        let mut driver = Driver::connected(&Arc::new(asking));
        driver.calls();
        driver.end("a", 1, Ok(text("x")));
        driver.fail("b", 1, FailureKind::ToolError);
        driver.calls();
        driver.answer(1, remainder(&["c"], vec![task("d", &["a"])]));
        assert_eq!((driver.names(), driver.ended()), (vec![], None), "nothing starts before the answer");
        driver.feed(input);
        assert_eq!((driver.names(), driver.ended()), (calls.iter().map(|&call| call.to_owned()).collect(), status));
    }
}

#[test]
fn a_replan_repeats_no_item_that_is_done_and_asks_before_it_repeats_what_may_be_done() {
    let once = |task: Task| Task { effect: Some(Effect::AtMostOnce), ..task };
    let each = |id: &str, items: Value| Task { id: id.into(), ..once(over(items, None)) };
    let mut driver = replanned(1, vec![each("each", json!(["a", "b", "c"]))]);
    driver.names();
    driver.end("each[0]", 1, Ok(text("A")));
    driver.fail("each[1]", 1, FailureKind::IdleTimeout);
    driver.fail("each[2]", 1, FailureKind::Refused);
    let single = |id: &str, value: &str| once(with(json!({"value": value}), task(id, &[])));
    let added = vec![each("rest", json!(["a", "b", "c", "d"])), single("one", "b"), single("other", "e")];
    driver.names();
    driver.answer(1, remainder(&[], added));
    let mut called = driver.names();
    called.sort();
    assert_eq!(called, ["other#1@a", "rest[2]#1@a"], "two calls at a time");
    let asked = driver.questions();
    let about: Vec<_> = asked.iter().filter_map(|question| question.asker.task()).map(TaskId::as_str).collect();
    assert_eq!(about, ["one", "rest[1]"]);
    assert!(
        driver
            .records
            .iter()
            .any(|record| matches!(&record.event, Event::TaskReused { task, .. } if task.as_str() == "rest[0]"))
    );
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);

    // What may be repeated is planned as before.
    let mut driver = replanned(1, vec![Task { effect: Some(Effect::ReadOnly), ..over(json!(["a", "b"]), None) }]);
    driver.names();
    driver.end("each[0]", 1, Ok(text("A")));
    driver.fail("each[1]", 1, FailureKind::Refused);
    driver.names();
    driver.answer(
        1,
        remainder(&[], vec![Task { id: "rest".into(), effect: Some(Effect::ReadOnly), ..over(json!(["a"]), None) }]),
    );
    assert_eq!(driver.names(), ["rest[0]#1@a"]);
}
