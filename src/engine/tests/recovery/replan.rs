//! Tests of replans: held tasks, planner requests, patches, and run outcomes.

use crate::engine::tests::*;
use crate::model::{Consent, GoalCheck, PlanPatch, ReplanPolicy, ReplanRequest, TaskProgress};

fn replannable_plan(max_replans: u32, tasks: Vec<Task>) -> Plan {
    let on_failure = |task: Task| match task.work {
        Work::Synthesis(_) => task,
        _ => Task { on_failure: OnFailure::Replan, ..task },
    };
    let replan = Some(ReplanPolicy { max_replans, consent: Consent::Allow });
    Plan { replan, ..(*plan(tasks.into_iter().map(on_failure).collect())).clone() }
}

fn start_replannable(max_replans: u32, tasks: Vec<Task>) -> Driver {
    Driver::connected(&Arc::new(replannable_plan(max_replans, tasks)))
}

/// Returns a patch that removes and adds these tasks. The added tasks ask for a replan too.
fn plan_patch(removed: &[&str], added: Vec<Task>) -> Result<Arc<PlanPatch>, Failure> {
    let removed = removed.iter().map(|&id| id.into()).collect();
    let added = added.into_iter().map(|task| Arc::new(Task { on_failure: OnFailure::Replan, ..task })).collect();
    let agents = [("a", agent_policy()), ("fresh", agent_policy())].map(|(id, policy)| (id.into(), policy));
    Ok(Arc::new(PlanPatch { kept: Vec::new(), removed, added, missing: None, agents: agents.into() }))
}

impl Driver {
    /// Removes and returns the replan requests among the pending commands.
    fn drain_replans(&mut self) -> Vec<ReplanRequest> {
        self.drain_commands(|order| match order {
            Command::Replan(request) => Some((**request).clone()),
            _ => None,
        })
    }

    fn answer_replan(&mut self, number: u32, result: Result<Arc<PlanPatch>, Failure>) {
        self.send_input(Input::Replanned { number, result });
        self.connect_all();
    }

    fn help(&self, task: &str) -> String {
        let Some(Outcome::Failed(failure)) = self.outcome(task) else { panic!("`{task}` has not failed") };
        failure.help.unwrap_or_default()
    }
}

fn progress_of_tasks(request: &ReplanRequest) -> Vec<(&str, TaskProgress)> {
    request.tasks.iter().map(|snapshot| (snapshot.task.id.as_str(), snapshot.progress.clone())).collect()
}

#[test]
fn failure_holds_pending_tasks_and_informs_planner() {
    let tasks = ["done", "bad", "busy", "next", "last"].map(|id| match id {
        "next" => task(id, &["busy"]),
        "last" => task(id, &["bad"]),
        id => with_routes(vec![route(id, 0)], task(id, &[])),
    });
    let mut driver = start_replannable(1, tasks.to_vec());
    driver.end("done", 1, Ok(text("a result")));
    driver.fail("bad", 1, FailureKind::ToolError);
    let requests = driver.drain_replans();
    assert_eq!(
        progress_of_tasks(&requests[0]),
        [
            ("done", TaskProgress::Succeeded("a result".into())),
            ("bad", TaskProgress::NoResult("broke".into())),
            ("busy", TaskProgress::Running),
            ("next", TaskProgress::Pending),
            ("last", TaskProgress::Unreachable("bad".into())),
        ]
    );
    driver.drain_calls();
    driver.end("busy", 1, Ok(text("x")));
    assert_eq!((driver.drain_call_names(), driver.ended()), (vec![], None), "`next` waits for the planner");
    driver.answer_replan(
        1,
        plan_patch(&["last"], vec![with_routes(vec![route("fresh", 0)], task("t1", &["done", "busy"]))]),
    );
    assert_eq!(driver.drain_call_names(), ["next#1@a", "t1#1@fresh"]);
    assert_eq!(driver.outcome("last"), Some(Outcome::Skipped(SkipReason::Replanned)));
    driver.end("next", 1, Ok(text("x")));
    driver.end("t1", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)), "a replanned task does not fail the run");
}

#[test]
fn synthesis_waits_for_added_tasks() {
    let tasks = vec![task("a", &[]), task("b", &["a"]), task("c", &["b"]), synthesis(None, &["a", "b", "c"])];
    let mut driver = start_replannable(1, tasks);
    driver.end("a", 1, Ok(text("x")));
    driver.fail("b", 1, FailureKind::ToolError);
    assert_eq!(driver.drain_replans()[0].used_task_ids, ["answer".into()]);
    driver.answer_replan(1, plan_patch(&["c"], vec![task("d", &["a"])]));
    assert_eq!(driver.drain_model_requests(), []);
    driver.end("d", 1, Ok(text("it is blue")));
    let question = driver.drain_model_requests().remove(0).1.messages[0].text_content();
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

/// Starts a run of one task and a synthesis whose goal is checked at the end.
fn start_checked(max_replans: u32) -> Driver {
    let tasks = vec![task("a", &[]), synthesis(None, &["a"])];
    Driver::connected(&Arc::new(Plan { check_goal: true, ..replannable_plan(max_replans, tasks) }))
}

#[test]
fn goal_is_checked_before_the_synthesis() {
    let mut driver = start_checked(1);
    driver.end("a", 1, Ok(text("x")));
    let requests = driver.drain_replans();
    assert_eq!((requests.len(), requests[0].check), (1, Some(GoalCheck::MayPlan)));
    assert_eq!(driver.drain_model_requests(), []);
    // What is missing is planned, and the goal is checked again.
    driver.answer_replan(1, plan_patch(&[], vec![task("d", &["a"])]));
    assert_eq!(driver.drain_model_requests(), []);
    driver.end("d", 1, Ok(text("y")));
    let requests = driver.drain_replans();
    assert_eq!((requests.len(), requests[0].check), (1, Some(GoalCheck::ReportOnly)));
    let missing = PlanPatch { missing: Some("It is not sent.".to_owned()), ..PlanPatch::default() };
    driver.answer_replan(2, Ok(Arc::new(missing)));
    assert_eq!(driver.drain_replans(), []);
    let question = driver.drain_model_requests().remove(0).1.messages[0].text_content();
    assert!(question.contains("It is not sent."), "{question}");
    driver.reply("answer", 1, reply_text("It is blue [a], [d]."));
    assert_eq!(driver.ended(), Some((RunStatus::Partial, None)));
}

#[test]
fn reached_goal_or_failed_check_leads_to_the_synthesis() {
    for (result, status) in [
        (Ok(Arc::new(PlanPatch::default())), RunStatus::Succeeded),
        (Err(Failure::new(FailureKind::ModelFailed, "away")), RunStatus::Succeeded),
    ] {
        let mut driver = start_checked(1);
        driver.end("a", 1, Ok(text("x")));
        assert_eq!(driver.drain_replans().len(), 1);
        driver.answer_replan(1, result);
        assert_eq!(driver.drain_replans(), []);
        driver.reply("answer", 1, reply_text("It is blue [a]."));
        assert_eq!(driver.ended(), Some((status, None)));
    }
    // A failure is replanned; a goal that no task served is not checked.
    let mut driver = start_checked(1);
    driver.fail("a", 1, FailureKind::ToolError);
    assert_eq!(driver.drain_replans()[0].check, None);
    driver.answer_replan(1, Err(Failure::new(FailureKind::ModelFailed, "away")));
    assert_eq!((driver.drain_replans(), driver.ended().map(|(status, _)| status)), (vec![], Some(RunStatus::Failed)));
}

#[test]
fn empty_patch_keeps_completed_tasks() {
    for (result, status) in [(Ok(text("x")), RunStatus::Succeeded), (Err("other"), RunStatus::Failed)] {
        let mut driver = start_replannable(1, vec![task("a", &[]), task("b", &[]), task("c", &["b"])]);
        driver.end("a", 1, result.map_err(|message| Failure::new(FailureKind::Denied, message)));
        driver.fail("b", 1, FailureKind::ToolError);
        driver.answer_replan(1, plan_patch(&["c"], Vec::new()));
        assert_eq!(driver.ended(), Some((status, None)));
    }
}

#[test]
fn unusable_patch_fails_the_task() {
    let mut driver = start_replannable(1, vec![task("a", &[]), task("b", &["a"]), task("c", &[])]);
    driver.end("c", 1, Ok(text("x")));
    driver.fail("a", 1, FailureKind::ToolError);
    driver.answer_replan(1, Err(Failure::new(FailureKind::ModelFailed, "nonsense")));
    assert_eq!(driver.outcome("b"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "a".into() })));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn repeated_failure_is_not_replanned() {
    let mut driver = start_replannable(5, vec![task("a", &[]), task("b", &[])]);
    driver.end("b", 1, Ok(text("x")));
    driver.fail("a", 1, FailureKind::ToolError);
    driver.answer_replan(1, plan_patch(&[], vec![task("c", &[])]));
    driver.fail("c", 1, FailureKind::ToolError);
    assert_eq!(driver.drain_replans().len(), 1);
    assert_eq!(driver.help("c"), "`a` failed in the same way and was already replanned");
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn other_failures_are_replanned_up_to_the_limit() {
    let mut driver = start_replannable(2, vec![task("a", &[])]);
    for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
        let failure = Failure::new(FailureKind::ToolError, format!("{id} broke"));
        driver.end(id, 1, Err(failure));
        let next = ["b", "c", "d"][number - 1];
        driver.answer_replan(number as u32, plan_patch(&[], vec![task(next, &[])]));
    }
    assert_eq!(driver.drain_replans().iter().map(|request| request.number).collect::<Vec<_>>(), [1, 2]);
    assert!(driver.help("c").contains("(2) is reached"), "{}", driver.help("c"));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn simultaneous_failures_share_one_replan() {
    let tasks = ["a", "b", "c"].map(|id| with_routes(vec![route(id, 0)], task(id, &[])));
    let mut driver = start_replannable(2, tasks.to_vec());
    let ended = |id: &str| Input::AttemptEnded {
        attempt: AttemptId { task: id.into(), number: 1 },
        result: Err(Failure::new(FailureKind::ToolError, "broke")),
    };
    let step = driver.run.handle([ended("a"), ended("b")], driver.now);
    driver.apply_step(step);
    driver.send_input(ended("c"));
    assert_eq!(driver.drain_replans().len(), 1);
    driver.answer_replan(1, plan_patch(&[], vec![task("d", &[])]));
    assert_eq!((driver.drain_replans().len(), driver.drain_call_names().len()), (1, 3), "`d` is frozen again");
    driver.answer_replan(2, plan_patch(&["d"], vec![task("e", &[])]));
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
fn replan_covers_all_items_of_foreach_task() {
    let mut driver = start_replannable(3, vec![foreach_task(json!([1, 2]), None)]);
    driver.fail("each[0]", 1, FailureKind::ToolError);
    assert_eq!(driver.drain_replans(), []);
    driver.end("each[1]", 1, Ok(text("x")));
    assert_eq!(progress_of_tasks(&driver.drain_replans()[0]).len(), 1);
    driver.answer_replan(1, plan_patch(&[], vec![task("again", &[])]));
    driver.fail("again", 1, FailureKind::ToolError);
    assert!(driver.help("again").starts_with("`each` failed in the same way"));
}

#[test]
fn exhausted_budget_rejects_replan() {
    let budget = Budget { llm_calls: Some(0), ..Budget::default() };
    let mut driver = Driver::connected(&Arc::new(Plan { budget, ..replannable_plan(1, vec![task("a", &[])]) }));
    driver.fail("a", 1, FailureKind::ToolError);
    assert_eq!(driver.drain_replans(), []);
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn planner_sampling_is_charged_to_the_run() {
    let budget = Budget { llm_calls: Some(1), ..Budget::default() };
    let mut driver = Driver::connected(&Arc::new(Plan { budget, ..replannable_plan(1, vec![task("a", &[])]) }));
    driver.fail("a", 1, FailureKind::ToolError);
    let refused = |driver: &mut Driver, number: u32| {
        let (request, origin) = (format!("p/{number}").as_str().into(), SamplingOrigin::Planner { replan: 1 });
        driver.send_input(Input::SamplingRequested { request, origin, chat: Arc::default() });
        let is_refusal =
            |order: &Command| matches!(order, Command::AnswerSampling { result: Err(_), .. }).then_some(());
        !driver.drain_commands(is_refusal).is_empty()
    };
    assert!(!refused(&mut driver, 1));
    assert!(refused(&mut driver, 2), "the second turn is over the budget");
}

#[test]
fn cancellation_ends_replan() {
    let mut driver = start_replannable(1, vec![task("a", &[]), with_routes(vec![route("b", 0)], task("b", &[]))]);
    driver.fail("a", 1, FailureKind::ToolError);
    driver.send_input(Input::CancelRequested { by: "p".into() });
    assert!(driver.commands.contains(&Command::CancelReplan));
    let before = driver.records.len();
    driver.answer_replan(1, plan_patch(&[], vec![task("c", &[])]));
    assert_eq!(driver.records.len(), before);
    driver.fail("b", 1, FailureKind::Cancelled);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
}

#[test]
fn invalid_patch_is_rejected() {
    for (removed, added, reason) in [
        (vec!["a"], vec![], "drops `a`"),
        (vec![], vec![task("b", &[])], "two tasks are called `b`"),
        (vec![], vec![task("c", &["z"])], "task `c` needs `z`, which is not in the plan"),
        (vec![], vec![task("c", &["d"]), task("d", &["c"])], "tasks depend on each other"),
        (vec![], vec![with_routes(vec![route("unknown", 0)], task("c", &[]))], "the unknown agent `unknown`"),
    ] {
        let mut driver = start_replannable(1, vec![task("a", &[]), task("b", &["a"])]);
        driver.fail("a", 1, FailureKind::ToolError);
        driver.answer_replan(1, plan_patch(&removed, added));
        let refused = driver.records.iter().find_map(|record| match &record.event {
            Event::Replanned { result: Err(failure), .. } => Some(failure.message.clone()),
            _ => None,
        });
        assert!(refused.as_ref().is_some_and(|message| message.contains(reason)), "{refused:?} for {reason}");
    }
}

#[test]
fn patch_needs_approval_if_configured() {
    let accept =
        Input::QuestionAnswered { question: "q1".into(), answer: Answer::Accept { content: None }, by: "p".into() };
    let decline = Input::QuestionAnswered { question: "q1".into(), answer: Answer::Decline, by: "p".into() };
    let deferred = Input::QuestionDeferred { question: "q1".into(), reason: "no person".into() };
    for (input, calls, status) in [
        (accept, vec!["d#1@a"], None),
        (decline, vec![], Some((RunStatus::Failed, None))),
        (deferred, vec![], Some((RunStatus::Paused, None))),
    ] {
        let mut asking = replannable_plan(1, vec![task("a", &[]), task("b", &["a"]), task("c", &["b"])]);
        asking.replan = Some(ReplanPolicy { max_replans: 1, consent: Consent::Ask });
        let mut driver = Driver::connected(&Arc::new(asking));
        driver.drain_calls();
        driver.end("a", 1, Ok(text("x")));
        driver.fail("b", 1, FailureKind::ToolError);
        driver.drain_calls();
        driver.answer_replan(1, plan_patch(&["c"], vec![task("d", &["a"])]));
        assert_eq!((driver.drain_call_names(), driver.ended()), (vec![], None), "nothing starts before the answer");
        driver.send_input(input);
        assert_eq!(
            (driver.drain_call_names(), driver.ended()),
            (calls.iter().map(|&call| call.to_owned()).collect(), status)
        );
    }
}

#[test]
fn replan_keeps_item_results_and_asks_about_ambiguous_calls() {
    let at_most_once = |task: Task| Task { effect: Some(Effect::AtMostOnce), ..task };
    let each = |id: &str, items: Value| Task { id: id.into(), ..at_most_once(foreach_task(items, None)) };
    let mut driver = start_replannable(1, vec![each("each", json!(["a", "b", "c"]))]);
    driver.drain_call_names();
    driver.end("each[0]", 1, Ok(text("A")));
    driver.fail("each[1]", 1, FailureKind::IdleTimeout);
    driver.fail("each[2]", 1, FailureKind::Refused);
    let single = |id: &str, value: &str| at_most_once(with_arguments(json!({"value": value}), task(id, &[])));
    let added = vec![each("rest", json!(["a", "b", "c", "d"])), single("one", "b"), single("other", "e")];
    driver.drain_call_names();
    driver.answer_replan(1, plan_patch(&[], added));
    let mut called = driver.drain_call_names();
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

    // Calls that may be repeated are planned as before.
    let mut driver =
        start_replannable(1, vec![Task { effect: Some(Effect::ReadOnly), ..foreach_task(json!(["a", "b"]), None) }]);
    driver.drain_call_names();
    driver.end("each[0]", 1, Ok(text("A")));
    driver.fail("each[1]", 1, FailureKind::Refused);
    driver.drain_call_names();
    driver.answer_replan(
        1,
        plan_patch(
            &[],
            vec![Task { id: "rest".into(), effect: Some(Effect::ReadOnly), ..foreach_task(json!(["a"]), None) }],
        ),
    );
    assert_eq!(driver.drain_call_names(), ["rest[0]#1@a"]);
}
