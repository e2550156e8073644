//! Tests of reruns, which repeat a part of an earlier run.

use crate::engine::tests::*;
use crate::engine::{ChangedPart, RepeatPolicy, Rerun, RerunDecision, RerunError, RerunPreview};
use crate::model::{AmbiguityResolution, RunId};

/// Reruns the run of `driver` from the task `from` on.
pub(crate) fn rerun_from(driver: &Driver, from: &str) -> Driver {
    let plan = Arc::new(driver.run.current_plan());
    rerun_with_plan(driver, &plan, from)
}

/// Reruns the run of `driver` with another plan.
pub(crate) fn rerun_with_plan(driver: &Driver, plan: &Arc<Plan>, from: &str) -> Driver {
    rerun(driver, plan, Some(TaskId::from(from)))
}

/// Reruns the tasks of the run of `driver` that have no result.
fn rerun_failed(driver: &Driver) -> Driver {
    rerun(driver, &Arc::new(driver.run.current_plan()), None)
}

fn rerun(driver: &Driver, plan: &Arc<Plan>, from: Option<TaskId>) -> Driver {
    let earlier = Run::fold(&driver.records).expect("a history");
    let new_run = NewRun { inputs: Arc::clone(earlier.inputs()), ..new_run(plan, None) };
    let rerun = Rerun { earlier_id: RunId::from("earlier"), earlier, from, repeats: RepeatPolicy::Allow, new_run };
    let (run, step) = Run::rerun(rerun, driver.now).expect("a task of the plan");
    let mut rerun = Driver { run, records: Vec::new(), commands: Vec::new(), now: driver.now };
    rerun.apply_step(step);
    assert!(Run::fold(&rerun.records).expect("a history") == rerun.run);
    rerun
}

pub(crate) fn reused_tasks(driver: &Driver) -> Vec<String> {
    let reused = driver.records.iter().filter_map(|record| match &record.event {
        Event::TaskReused { task, .. } => Some(task.to_string()),
        _ => None,
    });
    reused.collect()
}

#[test]
fn rerun_reuses_results_before_the_task() {
    let each = Task {
        foreach: Some(Box::new(Foreach {
            items: Template(json!(["x", "y"])),
            is_matrix: false,
            binding: "item".into(),
            max_parallel: None,
        })),
        ..task("each", &["a"])
    };
    let tasks = vec![task("a", &[]), each, task("b", &["a"]), task("c", &["b"]), task("d", &["each", "c"])];
    let mut driver = Driver::connected(&plan(tasks));
    for (task, output) in [("a", "1"), ("each[0]", "2"), ("each[1]", "3"), ("b", "4"), ("c", "5"), ("d", "6")] {
        driver.end(task, 1, Ok(text(output)));
    }
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));

    let mut driver = rerun_from(&driver, "c");
    assert_eq!(reused_tasks(&driver), ["a", "each[0]", "each[1]", "each", "b"]);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["c#1@a"]);
    driver.end("c", 1, Ok(text("7")));
    assert_eq!(driver.drain_call_names(), ["d#1@a"]);
    driver.end("d", 1, Ok(text("8")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn rerun_repeats_tasks_without_result() {
    let tasks = vec![task("a", &[]), task("b", &[]), task("c", &["b"]), task("d", &["a"])];
    let mut driver = Driver::connected(&plan(tasks));
    driver.end("a", 1, Ok(text("1")));
    driver.fail("b", 1, FailureKind::ToolError);
    driver.end("d", 1, Ok(text("2")));
    let mut driver = rerun_from(&driver, "d");
    assert_eq!(reused_tasks(&driver), ["a"]);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["b#1@a", "d#1@a"]);
}

#[test]
fn rerun_of_failed_tasks_keeps_all_results() {
    let each = Task { on_failure: OnFailure::Continue, ..items(json!(["x", "y"])) };
    let tasks = vec![task("a", &[]), each, task("after", &["each"]), task("b", &[]), task("last", &["b", "after"])];
    let mut driver = Driver::connected(&plan(tasks));
    driver.end("a", 1, Ok(text("1")));
    driver.end("each[0]", 1, Ok(text("X")));
    driver.fail("each[1]", 1, FailureKind::UnknownTool);
    driver.end("after", 1, Ok(text("2")));
    driver.fail("b", 1, FailureKind::UnknownTool);

    // The call `after` succeeded, and calls are `at_most_once` unless the plan says otherwise.
    let mut driver = rerun_failed(&driver);
    assert_eq!(reused_tasks(&driver), ["a", "after", "each[0]"]);
    driver.connect_all();
    let mut calls = driver.drain_call_names();
    calls.sort();
    assert_eq!(calls, ["b#1@a", "each[1]#1@a"]);
    driver.end("each[1]", 1, Ok(text("Y")));
    driver.end("b", 1, Ok(text("3")));
    assert_eq!(driver.drain_call_names(), ["last#1@a"]);
}

#[test]
fn rerun_of_failed_tasks_repeats_harmless_calls_after_them() {
    let read_only = |id, needs: &[&str]| Task { effect: Some(Effect::ReadOnly), ..task(id, needs) };
    let failing = Task { on_failure: OnFailure::Continue, ..task("b", &[]) };
    let mut driver = Driver::connected(&plan(vec![failing, read_only("c", &["b"]), task("d", &["c"])]));
    driver.fail("b", 1, FailureKind::UnknownTool);
    driver.end("c", 1, Ok(text("2")));
    driver.end("d", 1, Ok(text("3")));
    let mut driver = rerun_failed(&driver);
    assert_eq!(reused_tasks(&driver), ["d"]);
    driver.connect_all();
    driver.end("b", 1, Ok(text("1")));
    assert_eq!(driver.drain_call_names(), ["b#1@a", "c#1@a"]);
    driver.end("c", 1, Ok(text("4")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn unknown_rerun_task_lists_known_tasks() {
    let driver = Driver::start(&plan(vec![task("a", &[]), task("b", &[])]));
    let error = |from: &str| preview(&driver, driver.run.plan(), Some(from)).expect_err("no such task").to_string();
    assert_eq!(error("z"), "the plan of run `earlier` has no task `z`; it has `a`, `b`");
    assert!(error("a[1]").ends_with("`--from a` reruns the items that did not succeed"), "{}", error("a[1]"));
}

/// Returns what a rerun with this plan would do, without permission to repeat `at_most_once` calls.
fn preview(driver: &Driver, plan: &Arc<Plan>, from: Option<&str>) -> Result<RerunPreview, RerunError> {
    preview_with_inputs(driver, (plan, json!({})), from)
}

fn preview_with_inputs(
    driver: &Driver,
    (plan, inputs): (&Arc<Plan>, Value),
    from: Option<&str>,
) -> Result<RerunPreview, RerunError> {
    let earlier = Run::fold(&driver.records).expect("a history");
    let new_run = NewRun { inputs: Arc::new(inputs), ..new_run(plan, None) };
    let repeats = RepeatPolicy::Refuse;
    Rerun { earlier_id: "earlier".into(), earlier, from: from.map(TaskId::from), repeats, new_run }.preview()
}

/// Returns the run of a plan with these tasks, where each task succeeds on agent `a`.
fn succeeded(tasks: Vec<Task>, inputs: Value) -> Driver {
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
    let now = Timestamp(1_000);
    let new_run = NewRun { inputs: Arc::new(inputs), ..new_run(&plan(tasks), None) };
    let (run, step) = Run::start(new_run, now).expect("a graph");
    let mut driver = Driver { run, records: Vec::new(), commands: Vec::new(), now };
    driver.apply_step(step);
    driver.connect_all();
    for id in ids {
        driver.end(id.as_str(), 1, Ok(text("done")));
    }
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    driver
}

fn read_only(task: Task) -> Task {
    Task { effect: Some(Effect::ReadOnly), ..task }
}

#[test]
fn only_parts_that_determine_a_result_count_as_changed() {
    let before = || read_only(with_routes(vec![route("a", 0), route("b", 1)], task("t", &[])));
    let driver = succeeded(vec![before()], json!({}));
    let decision = |now: Task| {
        let preview = preview(&driver, &plan(vec![now]), None).expect("a preview");
        preview.tasks.into_iter().next().expect("a task").1
    };
    let unchanged = [
        Task { title: Some("T".into()), ..before() },
        Task { timeout: Some(HumanDuration(Duration::from_secs(1))), ..before() },
        Task { on_failure: OnFailure::Continue, ..before() },
        Task { approve: Some(Box::new(Template(json!("Sure?")))), ..before() },
        read_only(with_routes(vec![route("c", 0), route("a", 1)], task("t", &[]))),
    ];
    for now in unchanged {
        assert_eq!(decision(now.clone()), RerunDecision::Reused, "{now:?}");
    }
    let other_tool = Route { tool: "other".into(), ..route("a", 0) };
    let list = Foreach { items: Template(json!([1])), is_matrix: false, binding: "item".into(), max_parallel: None };
    let changed = [
        (with_arguments(json!({"v": 1}), before()), ChangedPart::Call),
        (read_only(with_routes(vec![route("b", 0)], task("t", &[]))), ChangedPart::Call),
        (read_only(with_routes(vec![other_tool], task("t", &[]))), ChangedPart::Call),
        (Task { condition: Some(Expression("true".into())), ..before() }, ChangedPart::Condition),
        (Task { foreach: Some(Box::new(list)), ..before() }, ChangedPart::Items),
    ];
    for (now, part) in changed {
        assert_eq!(decision(now.clone()), RerunDecision::Changed(vec![part]), "{now:?}");
    }
}

#[test]
fn preview_lists_new_removed_and_later_tasks() {
    let tasks = ["a", "b", "c", "d"].map(|id| match id {
        "c" => read_only(task("c", &["b"])),
        id => read_only(task(id, &[])),
    });
    let driver = succeeded(tasks.to_vec(), json!({}));
    let [a, b, c, _] = tasks;
    let now = vec![a, with_arguments(json!({"v": 2}), b), c, read_only(task("e", &["a"]))];
    let preview = preview(&driver, &plan(now), None).expect("a preview");
    let expected = [
        ("a", RerunDecision::Reused),
        ("b", RerunDecision::Changed(vec![ChangedPart::Call])),
        ("c", RerunDecision::After("b".into())),
        ("e", RerunDecision::New),
    ];
    assert_eq!(preview.tasks, expected.map(|(id, decision)| (id.into(), decision)));
    assert_eq!((preview.removed, preview.repeated_effects), (vec!["d".into()], Vec::new()));
}

#[test]
fn tasks_that_use_a_changed_input_are_repeated() {
    let uses = |id: &str, arguments: Value| read_only(with_arguments(arguments, task(id, &[])));
    let tasks = || {
        vec![
            uses("x", json!({"v": ["${{ inputs.x }}"]})),
            uses("all", json!({"v": "${{ inputs }}"})),
            uses("y", json!({"v": "${{ inputs.y }}"})),
            Task { condition: Some(Expression("not inputs['x']".into())), ..uses("if", json!({})) },
        ]
    };
    let driver = succeeded(tasks(), json!({"x": false, "y": 2}));
    let preview = preview_with_inputs(&driver, (&plan(tasks()), json!({"x": true, "y": 2})), None).expect("a preview");
    let changed: Vec<_> = preview.tasks.iter().filter(|(_, decision)| decision.is_repeated()).collect();
    let ids: Vec<_> = changed.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["x", "all", "if"]);
    assert!(
        changed.iter().all(|(_, decision)| *decision == RerunDecision::Changed(vec![ChangedPart::Input("x".into())]))
    );
}

#[test]
fn rerun_that_would_repeat_an_effect_is_refused() {
    let each = || items(json!(["x"]));
    let tasks = || vec![task("a", &[]), task("b", &["a"]), each()];
    let mut driver = Driver::connected(&plan(tasks()));
    for id in ["a", "b", "each[0]"] {
        driver.end(id, 1, Ok(text("done")));
    }
    let refused = |tasks: Vec<Task>, from: Option<&str>| match preview(&driver, &plan(tasks), from) {
        Ok(_) => Vec::new(),
        Err(RerunError::RepeatsEffects { tasks, .. }) => tasks.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(refused(tasks(), None), [""; 0]);
    assert_eq!(refused(tasks(), Some("a")), ["a", "b"]);
    assert_eq!(refused(tasks(), Some("each")), [""; 0], "items keep the results of equal calls");
    let changed = |task: Task| with_arguments(json!({"v": 2}), task);
    assert_eq!(refused(vec![changed(task("a", &[])), task("b", &["a"]), each()], None), ["a"], "`b` is kept");
    assert_eq!(refused(vec![task("a", &[]), task("b", &["a"]), changed(each())], None), ["each"]);
    // The plan can say that the calls may be repeated.
    let idempotent = |task: Task| Task { effect: Some(Effect::Idempotent), ..task };
    assert_eq!(refused(tasks().into_iter().map(idempotent).collect(), Some("a")), [""; 0]);
}

#[test]
fn items_of_an_agent_that_is_no_longer_a_route_are_repeated() {
    let mut driver = Driver::connected(&plan(vec![items(json!(["x", "y"]))]));
    driver.end("each[0]", 1, Ok(text("X")));
    driver.fail("each[1]", 1, FailureKind::UnknownTool);
    let Work::Call(before) = items(json!([])).work else { panic!("a call") };
    let moved = Task { work: call(vec![route("b", 0)], before.arguments.0), ..items(json!(["x", "y"])) };
    let mut driver = rerun(&driver, &plan(vec![moved]), None);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["each[0]#1@b", "each[1]#1@b"]);
}

/// Returns a `foreach` task over these items, with `at_most_once` calls.
pub(crate) fn items(values: Value) -> Task {
    Task { effect: Some(Effect::AtMostOnce), ..foreach_task(values, None) }
}

#[test]
fn rerun_calls_only_unsuccessful_items() {
    for from in ["each", "after", "list"] {
        let each = Task { needs: vec!["list".into()], ..items(json!(["a", "b", "c"])) };
        let mut driver = Driver::connected(&plan(vec![task("list", &[]), each, task("after", &["each"])]));
        driver.end("list", 1, Ok(text("l")));
        driver.end("each[0]", 1, Ok(text("A")));
        driver.fail("each[1]", 1, FailureKind::UnknownTool);
        driver.end("each[2]", 1, Ok(text("C")));
        assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
        let mut driver = rerun_from(&driver, from);
        driver.connect_all();
        if from == "list" {
            driver.drain_call_names();
            driver.end("list", 1, Ok(text("other")));
        }
        assert_eq!(driver.drain_call_names(), ["each[1]#1@a"], "--from {from}");
        driver.end("each[1]", 1, Ok(text("B")));
        assert_eq!(driver.drain_call_names(), ["after#1@a"], "--from {from}");
        assert!(Run::fold(&driver.records).expect("a history") == driver.run);
    }
}

#[test]
fn items_are_reused_by_arguments() {
    let mut driver = Driver::connected(&plan(vec![items(json!(["a", "b", "b"]))]));
    driver.end("each[0]", 1, Ok(text("A")));
    driver.end("each[1]", 1, Ok(text("B")));
    driver.fail("each[2]", 1, FailureKind::UnknownTool);
    // The corrected plan has other items: `b` was completed once, and `c` never.
    let mut driver = rerun_with_plan(&driver, &plan(vec![items(json!(["b", "c", "b", "a"]))]), "each");
    driver.connect_all();
    assert_eq!(reused_tasks(&driver), ["each[0]", "each[3]"]);
    assert_eq!(driver.drain_call_names(), ["each[1]#1@a", "each[2]#1@a"]);
}

#[test]
fn kept_results_survive_reruns() {
    let each = Task { needs: vec!["first".into()], ..items(json!(["a", "b"])) };
    let mut driver = Driver::connected(&plan(vec![task("first", &[]), each]));
    driver.end("first", 1, Ok(text("1")));
    driver.end("each[0]", 1, Ok(text("A")));
    driver.send_input(Input::CancelRequested { by: "p".into() });
    driver.fail("each[1]", 1, FailureKind::Cancelled);
    // The next rerun fails before it reaches the items, and another is cancelled before it starts any task.
    let mut driver = rerun_from(&driver, "first");
    driver.connect_all();
    driver.fail("first", 1, FailureKind::UnknownTool);
    let mut driver = rerun_from(&driver, "first");
    driver.send_input(Input::CancelRequested { by: "p".into() });
    let mut driver = rerun_from(&driver, "each");
    driver.connect_all();
    driver.drain_call_names();
    driver.end("first", 1, Ok(text("1")));
    // The call was cancelled while it was in progress.
    let asked = driver.questions().pop().expect("a question");
    driver.resolve_ambiguity(&asked.id, AmbiguityResolution::Repeat);
    assert_eq!(driver.drain_call_names(), ["each[1]#1@a"]);
    driver.end("each[1]", 1, Ok(text("B")));
    let mut driver = rerun_from(&driver, "each");
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), [""; 0]);
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn at_most_once_prompt_call_is_not_repeated() {
    let asked = |effect| plan(vec![text_prompt(Task { effect: Some(effect), ..prompt("p", &["a"], None) })]);
    for (effect, made) in [(Effect::AtMostOnce, vec!["p/2#1@a"]), (Effect::ReadOnly, vec!["p/1#1@a", "p/2#1@a"])] {
        let mut driver = Driver::connected(&asked(effect));
        driver.reply("p", 1, tool_use_reply(&[("c", "a.work")]));
        driver.end("p/1", 1, Ok(text("sent")));
        driver.send_input(Input::CancelRequested { by: "p".into() });
        driver.reply("p", 2, Err(ChatError::Endpoint { message: "cancelled".into(), status: None }));
        let mut driver = rerun_from(&driver, "p");
        driver.connect_all();
        // The model requests the same call twice, and one of the two was already made.
        driver.reply("p", 1, tool_use_reply(&[("c", "a.work"), ("d", "a.work")]));
        assert_eq!(driver.drain_call_names(), made, "{effect:?}");
        assert!(Run::fold(&driver.records).expect("a history") == driver.run);
    }
}

#[test]
fn changed_plan_reuses_unchanged_tasks() {
    let tasks = || vec![task("a", &[]), task("b", &["a"]), task("c", &["b"])];
    let mut driver = Driver::connected(&plan(tasks()));
    driver.end("a", 1, Ok(text("1")));
    driver.end("b", 1, Ok(text("2")));
    driver.fail("c", 1, FailureKind::UnknownTool);
    let corrected =
        vec![task("a", &[]), with_arguments(json!({"v": 2}), task("b", &["a"])), task("c", &["b"]), task("d", &["a"])];
    let mut driver = rerun_with_plan(&driver, &plan(corrected), "c");
    driver.connect_all();
    assert_eq!(reused_tasks(&driver), ["a"]);
    let mut called = driver.drain_call_names();
    called.sort();
    assert_eq!(called, ["b#1@a", "d#1@a"]);
}
