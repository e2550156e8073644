//! Tests of groups, sub-plans, iterations, hooks, questions, timers, signals, and early ends.

use crate::engine::tests::*;
use crate::model::{Stop, StopStatus, SubPlan};

fn group(id: &str, tasks: Vec<Task>, outputs: &[(&str, &str)]) -> Task {
    let outputs = outputs.iter().map(|(name, text)| ((*name).to_owned(), Template(json!(text)))).collect();
    let group = Group { tasks: tasks.into_iter().map(Arc::new).collect(), outputs: Some(outputs), plan: None };
    Task { work: Work::Group(Box::new(group)), ..task(id, &[]) }
}

fn plan_with_agent(tasks: Vec<Task>) -> Arc<Plan> {
    let mut built = (*plan(tasks)).clone();
    built.agents.insert("a".into(), agent_policy());
    Arc::new(built)
}

fn hook(id: &str, of: Option<&str>, on: HookTrigger) -> Task {
    let needs: Vec<&str> = of.into_iter().collect();
    Task { hook: Some(Box::new(Hook { of: of.map(TaskId::from), on })), ..task(id, &needs) }
}

fn assert_fold(driver: &Driver) {
    assert!(Run::fold(&driver.records).expect("a history") == driver.run, "fold(events) differs from the live run");
}

fn output_of(driver: &Driver, task: &str) -> Value {
    match driver.outcome(task) {
        Some(Outcome::Succeeded(output)) => output.value().into_owned(),
        other => panic!("`{task}` has no output: {other:?}"),
    }
}

#[test]
fn group_has_a_scope_of_its_own_and_runs_once_per_item() {
    let get = with_arguments(json!({"of": "${{ item }}", "at": "${{ loop.index }}"}), task("get", &[]));
    let put = with_arguments(json!({"got": "${{ tasks.get.text }}"}), task("put", &["get"]));
    let mut each = group("each", vec![get, put], &[("put", "${{ tasks.put.text }}"), ("item", "${{ item }}")]);
    each.foreach = foreach_task(json!(["x", "y"]), Some(1)).foreach;
    let last = with_arguments(json!({"all": "${{ tasks.each.outputs }}"}), task("last", &["each"]));
    let mut driver = Driver::connected(&plan_with_agent(vec![each, last]));
    assert_eq!(driver.drain_call_names(), ["each[0].get#1@a"], "one item at a time");
    driver.end("each[0].get", 1, Ok(text("g0")));
    assert_eq!(driver.drain_call_names(), ["each[0].put#1@a"]);
    driver.end("each[0].put", 1, Ok(text("p0")));
    assert_eq!(driver.drain_call_names(), ["each[1].get#1@a"]);
    driver.end("each[1].get", 1, Ok(text("g1")));
    driver.end("each[1].put", 1, Ok(text("p1")));
    let calls = driver.commands.iter().filter_map(|order| match order {
        Command::StartAttempt(call) => Some(Value::Object(call.arguments.clone())),
        _ => None,
    });
    let all = json!({"all": [{"put": "p0", "item": "x"}, {"put": "p1", "item": "y"}]});
    assert_eq!(calls.collect::<Vec<_>>().last(), Some(&all));
    assert_fold(&driver);
}

#[test]
fn group_fails_with_its_tasks() {
    let mut driver = Driver::connected(&plan_with_agent(vec![group("g", vec![task("x", &[]), task("y", &[])], &[])]));
    driver.fail("g.x", 1, FailureKind::ToolError);
    assert_eq!(driver.outcome("g"), None, "other tasks continue");
    driver.end("g.y", 1, Ok(text("y")));
    let Some(Outcome::Failed(failure)) = driver.outcome("g") else { panic!("not failed") };
    assert_eq!(failure.message, "`g.x`: broke");
    assert_eq!(driver.ended().map(|(status, _)| status), Some(RunStatus::Failed));
}

#[test]
fn sub_plan_sees_only_its_inputs() {
    let inner = with_arguments(json!({"n": "${{ inputs.n }}"}), task("inner", &[]));
    let mut sub = group("sub", vec![inner], &[("n", "${{ inputs.n }}")]);
    if let Work::Group(group) = &mut sub.work {
        let spec = json!({"kind": "integer", "required": true});
        let inputs = IndexMap::from([("n".to_owned(), serde_json::from_value(spec).expect("an input"))]);
        group.plan = Some(Box::new(SubPlan {
            name: "s".into(),
            inputs,
            arguments: Template(json!({"n": 3})),
            budget: Budget::default(),
        }));
    }
    let mut driver = Driver::connected(&plan_with_agent(vec![sub.clone()]));
    let Some(Command::StartAttempt(call)) = driver.commands.pop() else { panic!("no call") };
    assert_eq!(Value::Object(call.arguments), json!({"n": 3}));
    driver.end("sub.inner", 1, Ok(text("x")));
    assert_eq!(output_of(&driver, "sub"), json!({"n": 3}));
    if let Work::Group(group) = &mut sub.work {
        group.plan.as_mut().expect("a plan").arguments = Template(json!({"n": "three"}));
    }
    let driver = Driver::connected(&plan_with_agent(vec![sub]));
    assert!(matches!(driver.outcome("sub"), Some(Outcome::Failed(failure)) if failure.message.contains("wrong type")));
}

#[test]
fn iterations_run_one_after_another_until_the_condition_is_true() {
    let until = Expression("output.done".into());
    let repeat = Repeat { until, max: 3, delay: Some(HumanDuration(Duration::from_secs(1))) };
    let poll = Task {
        repeat: Some(Box::new(repeat)),
        ..with_arguments(json!({"at": "${{ loop.index }}", "before": "${{ previous }}"}), task("poll", &[]))
    };
    let done =
        |done: bool| Ok(Arc::new(ToolOutput { structured: Some(json!({"done": done})), ..ToolOutput::default() }));
    let mut driver = Driver::connected(&plan_with_agent(vec![poll]));
    driver.end("poll[0]", 1, done(false));
    assert_eq!(driver.drain_call_names(), ["poll[0]#1@a"]);
    driver.sleep();
    let Some(Command::StartAttempt(call)) = driver.commands.pop() else { panic!("no call") };
    assert_eq!(Value::Object(call.arguments), json!({"at": 2, "before": {"done": false}}));
    driver.end("poll[1]", 1, done(true));
    assert_eq!(output_of(&driver, "poll"), json!({"done": true}));
    assert_fold(&driver);
}

#[test]
fn hooks_run_after_the_end_that_they_wait_for() {
    let tasks = || {
        vec![
            task("t", &[]),
            hook("ok", Some("t"), HookTrigger::Success),
            hook("bad", Some("t"), HookTrigger::Failure),
            hook("tidy", None, HookTrigger::Always),
        ]
    };
    let mut driver = Driver::connected(&plan(tasks()));
    assert_eq!(driver.drain_call_names(), ["t#1@a"]);
    driver.fail("t", 1, FailureKind::ToolError);
    assert_eq!(driver.drain_call_names(), ["bad#1@a"], "the hooks of the plan are last");
    driver.end("bad", 1, Ok(text("x")));
    assert_eq!(driver.drain_call_names(), ["tidy#1@a"]);
    driver.end("tidy", 1, Ok(text("x")));
    assert_eq!(driver.outcome("ok"), Some(Outcome::Skipped(SkipReason::NotTriggered)));
    assert_eq!(driver.ended().map(|(status, _)| status), Some(RunStatus::Failed));
    assert_fold(&driver);
}

#[test]
fn hooks_run_after_a_cancellation_and_an_exhausted_budget() {
    let tasks = || vec![task("t", &[]), task("u", &["t"]), hook("tidy", None, HookTrigger::Always)];
    let mut driver = Driver::connected(&plan(tasks()));
    driver.send_input(Input::CancelRequested { by: "p".into() });
    driver.fail("t", 1, FailureKind::Cancelled);
    assert_eq!(driver.drain_call_names(), ["t#1@a", "tidy#1@a"]);
    driver.end("tidy", 1, Ok(text("x")));
    assert_eq!(driver.ended().map(|(status, _)| status), Some(RunStatus::Cancelled));

    let mut limited = (*plan(tasks())).clone();
    limited.budget.tool_calls = Some(1);
    let mut driver = Driver::connected(&Arc::new(limited));
    driver.end("t", 1, Ok(text("x")));
    assert_eq!(driver.drain_call_names(), ["t#1@a", "tidy#1@a"], "a hook is exempt from the budget");
    driver.end("tidy", 1, Ok(text("x")));
    assert_eq!(driver.ended().map(|(status, _)| status), Some(RunStatus::Partial));
}

#[test]
fn hooks_of_an_interrupted_run_run_once() {
    let tasks = vec![
        task("t", &[]),
        task("u", &["t"]),
        hook("tidy", None, HookTrigger::Always),
        hook("ok", None, HookTrigger::Success),
    ];
    let mut driver = Driver::connected(&plan(tasks));
    driver.end("t", 1, Ok(text("x")));
    driver.send_input(Input::InterruptRequested);
    assert_eq!(driver.drain_call_names(), ["t#1@a", "u#1@a"]);
    driver.fail("u", 1, FailureKind::Cancelled);
    assert_eq!(driver.drain_call_names(), ["tidy#1@a"]);
    driver.end("tidy", 1, Ok(text("x")));
    assert_eq!(driver.ended().map(|(status, _)| status), Some(RunStatus::Interrupted));
    assert_fold(&driver);
    let (run, step) = resume(&driver.records, driver.now, driver.now);
    let mut records = driver.records;
    records.extend(step.records);
    let mut driver = Driver { run, records, commands: step.commands, now: driver.now };
    assert_fold(&driver);
    driver.connect_all();
    // The outcome of `u` is unknown, and a person says that it has taken effect.
    let content = Some(json!({"resolution": "done"}));
    let question = driver.run.questions.entries().last().expect("a question").question.clone();
    let answer =
        Answer::Accept { content: content.filter(|_| matches!(question.form, crate::model::Form::Fields { .. })) };
    driver.send_input(Input::QuestionAnswered { question: question.id.clone(), answer, by: "p".into() });
    driver.connect_all();
    let calls = driver.drain_call_names();
    assert!(!calls.iter().any(|call| call.starts_with("tidy")), "{calls:?}");
}

#[test]
fn question_is_the_output_of_its_task() {
    let schema = json!({"type": "object", "properties": {"room": {"type": "string"}}});
    let ask = |schema: Option<Value>| {
        let schema = schema.and_then(|schema| schema.as_object().cloned());
        let ask = Ask { message: Template(json!("Which room?")), schema };
        Task { work: Work::Ask(Box::new(ask)), ..task("who", &[]) }
    };
    let answer = |driver: &mut Driver, answer: Answer| {
        driver.send_input(Input::QuestionAnswered { question: "q1".into(), answer, by: "p".into() });
    };
    let mut driver = Driver::start(&plan(vec![ask(Some(schema))]));
    answer(&mut driver, Answer::Accept { content: Some(json!({"room": "4b"})) });
    assert_eq!(output_of(&driver, "who"), json!({"room": "4b"}));
    assert_fold(&driver);
    let mut driver = Driver::start(&plan(vec![ask(None)]));
    answer(&mut driver, Answer::Decline);
    assert!(matches!(driver.outcome("who"), Some(Outcome::Failed(failure)) if failure.kind == FailureKind::Denied));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, Some(EndCause::Denied))));
}

#[test]
fn timers_and_signals_survive_another_process() {
    let wait = |id: &str, wait: Wait| Task { work: Work::Wait(wait), ..task(id, &[]) };
    let driver = Driver::start(&plan(vec![
        wait("nap", Wait::Sleep(Template(json!("10m")))),
        wait("hook", Wait::Signal(Template(json!("deployed")))),
    ]));
    assert_eq!(driver.run.next_wakeup(), Some(driver.now.after(Duration::from_secs(600))));
    let (run, step) = resume(&driver.records, driver.now, driver.now);
    let mut records = driver.records;
    records.extend(step.records);
    let mut driver = Driver { run, records, commands: step.commands, now: driver.now };
    assert_eq!(driver.run.next_wakeup(), Some(Timestamp(1_000).after(Duration::from_secs(600))));
    let signal = |data: Value| Input::SignalReceived { name: "deployed".into(), data, by: "p".into() };
    driver.send_input(signal(json!({"build": 7})));
    assert_eq!(output_of(&driver, "hook"), json!({"build": 7}));
    driver.sleep();
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    assert_fold(&driver);
    // A signal that arrives early is kept for the task that waits for it later.
    let late = Task { needs: vec!["t".into()], ..wait("hook", Wait::Signal(Template(json!("deployed")))) };
    let mut driver = Driver::connected(&plan(vec![task("t", &[]), late]));
    driver.send_input(signal(json!(1)));
    driver.end("t", 1, Ok(text("x")));
    assert_eq!(output_of(&driver, "hook"), json!(1));
    assert_fold(&driver);
}

#[test]
fn deadlines_of_waits_hold_across_processes() {
    let hour = HumanDuration(Duration::from_secs(3_600));
    let wait = |id: &str, wait: Wait| Task { work: Work::Wait(wait), deadline: Some(hour), ..task(id, &[]) };
    let file = FileWait { path: Template(json!("a.txt")), changed: false };
    let waits = vec![wait("hook", Wait::Signal(Template(json!("deployed")))), wait("file", Wait::File(file))];
    let driver = Driver::start(&plan(waits));
    let deadline = driver.now.after(hour.0);
    assert_eq!(driver.run.next_wakeup(), Some(deadline));
    for (downtime, is_over) in [(3_599, false), (3_600, true), (10_000, true)] {
        let now = driver.now.after(Duration::from_secs(downtime));
        let (run, step) = resume(&driver.records, now, driver.now);
        let records = [driver.records.clone(), step.records].concat();
        let mut driver = Driver { run, records, commands: step.commands, now };
        if !is_over {
            assert_eq!(driver.run.next_wakeup(), Some(deadline), "the time did not begin again");
            driver.sleep();
        }
        for (task, message) in [
            ("hook", "the signal `deployed` did not arrive within 1h"),
            ("file", "the file `a.txt` was not there within 1h"),
        ] {
            let expected = Failure::new(FailureKind::DeadlineExceeded, message);
            assert_eq!(driver.outcome(task), Some(Outcome::Failed(expected)), "after {downtime} s");
        }
        assert_eq!(driver.ended().map(|(status, _)| status), Some(RunStatus::Failed));
        assert_fold(&driver);
    }
}

#[test]
fn early_end_cancels_the_rest_and_sets_the_outputs() {
    let stop = Stop {
        status: StopStatus::Succeeded,
        message: Some(Template(json!("nothing to do"))),
        outputs: Some(IndexMap::from([("found".to_owned(), Template(json!("${{ tasks.t.text }}")))])),
    };
    let tasks = vec![
        task("t", &[]),
        Task { work: Work::Stop(Box::new(stop)), ..task("enough", &["t"]) },
        task("slow", &[]),
        task("never", &["slow"]),
    ];
    let mut driver = Driver::connected(&plan(tasks));
    driver.end("t", 1, Ok(text("x")));
    driver.fail("slow", 1, FailureKind::Cancelled);
    let Some(Event::RunEnded { status, cause, outputs, .. }) = driver.records.last().map(|record| &record.event) else {
        panic!("the run has not ended");
    };
    assert_eq!(*status, RunStatus::Succeeded);
    assert!(matches!(cause, Some(EndCause::Stopped { task, .. }) if task.as_str() == "enough"), "{cause:?}");
    assert_eq!(outputs.as_ref().and_then(|outputs| outputs.get("found")), Some(&json!("x")));
    assert_eq!(driver.outcome("never"), Some(Outcome::Cancelled));
    assert_fold(&driver);
}
