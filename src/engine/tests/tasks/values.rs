//! Tests of the values that expressions can use besides inputs and results, and of conditions of retries.

use crate::engine::tests::*;

/// Returns the arguments of the next call.
fn next_arguments(driver: &mut Driver) -> Value {
    let calls = driver.drain_commands(|command| match command {
        Command::StartAttempt(call) => Some(call.arguments.clone()),
        _ => None,
    });
    Value::Object(calls.into_iter().next().expect("a call"))
}

fn conditional(when: &str, task: Task) -> Task {
    Task { retry: Retry { max_attempts: 3, when: Some(Expression(when.into())), ..Retry::default() }, ..task }
}

#[test]
fn time_is_the_same_for_all_attempts_and_after_a_restart() {
    let arguments = json!({"at": "${{ now() }}", "run": "${{ run.id }}", "began": "${{ run.started_at }}"});
    let late = with_arguments(arguments, task("b", &["a"]));
    let retried =
        Task { retry: Retry { max_attempts: 2, ..Retry::default() }, effect: Some(Effect::Idempotent), ..late };
    let mut driver = Driver::connected(&plan(vec![task("a", &[]), retried]));
    driver.drain_calls();
    driver.now = Timestamp(5_000);
    driver.end("a", 1, Ok(text("x")));
    let expected = json!({"at": "1970-01-01T00:00:05.000Z", "run": "", "began": "1970-01-01T00:00:01.000Z"});
    assert_eq!(next_arguments(&mut driver), expected);
    driver.now = Timestamp(60_000);
    driver.fail("b", 1, FailureKind::ToolError);
    driver.sleep();
    assert_eq!(next_arguments(&mut driver), expected);
    let sent = sent_calls(&driver.records).expect("a history");
    assert_eq!(
        sent.iter().map(|call| call.arguments.clone()).skip(1).collect::<Vec<_>>(),
        [expected.clone(), expected.clone()]
    );
    let (_, step) = resume(&driver.records, Timestamp(90_000), Timestamp(60_000));
    let mut resumed = Driver { run: Run::fold(&driver.records).expect("a history"), ..driver };
    resumed.records.extend(step.records.clone());
    let run = Run::fold(&resumed.records).expect("a history");
    resumed = Driver { run, commands: step.commands, now: Timestamp(90_000), ..resumed };
    resumed.connect_all();
    if resumed.commands.is_empty() {
        resumed.sleep();
    }
    assert_eq!(next_arguments(&mut resumed), expected);
}

#[test]
fn run_has_its_id_and_its_environment() {
    let arguments = json!({"run": "${{ run.id }}", "plan": "${{ plan.name }}", "region": "${{ env.REGION }}"});
    let mut plan = Plan::clone(&plan(vec![with_arguments(arguments, task("a", &[]))]));
    plan.env.insert("REGION".into(), "eu".into());
    let new_run = NewRun { id: Some("r1".into()), ..new_run(&Arc::new(plan), None) };
    let (run, step) = Run::start(new_run, Timestamp(1_000)).expect("a graph");
    let mut driver = Driver { run, records: step.records, commands: step.commands, now: Timestamp(1_000) };
    driver.connect_all();
    assert_eq!(next_arguments(&mut driver), json!({"run": "r1", "plan": "test", "region": "eu"}));
    assert_eq!(Run::fold(&driver.records).expect("a history"), driver.run);
}

#[test]
fn matrix_has_one_item_for_each_combination() {
    let matrix = json!({"os": ["linux", "mac"], "n": "${{ [1, 2, 3] }}"});
    let each = Foreach { items: Template(matrix), is_matrix: true, binding: "m".into(), max_parallel: None };
    let arguments = json!({"on": "${{ m.os }}-${{ m.n }}"});
    let each = with_arguments(arguments, Task { foreach: Some(Box::new(each)), ..task("each", &[]) });
    let mut plan = Plan::clone(&plan(vec![each]));
    plan.agents.values_mut().for_each(|agent| agent.max_concurrency = 8);
    let driver = Driver::connected(&Arc::new(plan));
    let sent = sent_calls(&driver.records).expect("a history");
    let order: Vec<_> = sent.iter().map(|call| call.arguments["on"].as_str().expect("text").to_owned()).collect();
    assert_eq!(order, ["linux-1", "linux-2", "linux-3", "mac-1", "mac-2", "mac-3"]);
}

#[test]
fn matrix_limits_are_checked_before_its_items_exist() {
    let matrix = |lists: Value| {
        let each = Foreach { items: Template(lists), is_matrix: true, binding: "m".into(), max_parallel: None };
        let driver = Driver::connected(&plan(vec![Task { foreach: Some(Box::new(each)), ..task("each", &[]) }]));
        (driver.outcome("each"), driver.ended())
    };
    let message = |lists| match matrix(lists) {
        (Some(Outcome::Failed(failure)), _) => failure.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(matrix(json!({"a": [1], "b": []})).1, Some((RunStatus::Succeeded, None)));
    assert_eq!(message(json!({"a": [1], "b": "x"})), "`b` of the `matrix` of `foreach` expects a list, but is text");
    let list = vec![0; 10_000];
    assert!(message(json!({"a": list, "b": list, "c": list})).ends_with("` has 1000000000000"));
    let page = "x".repeat(1024 * 1024);
    let many = message(json!({"a": vec![0; 1_000], "b": [page]}));
    assert!(many.contains("at most 33554432 bytes in total, but the 1000 of"), "{many}");
}

#[test]
fn condition_narrows_retries() {
    let mut driver = Driver::connected(&plan(vec![conditional("error.attempt < 2", task("a", &[]))]));
    driver.drain_calls();
    driver.fail("a", 1, FailureKind::ToolError);
    driver.sleep();
    assert_eq!(driver.drain_call_names(), ["a#2@a"]);
    driver.fail("a", 2, FailureKind::ToolError);
    let Some(Outcome::Failed(failure)) = driver.outcome("a") else { panic!("not failed") };
    let help = "not retried: `retry.when` is false for this failure";
    assert_eq!((failure.message.as_str(), failure.help.as_deref()), ("broke", Some(help)));
    assert_eq!(Run::fold(&driver.records).expect("a history"), driver.run);
}

#[test]
fn condition_sees_the_failure() {
    let condition =
        "error.kind == 'server_error' and error.message == 'broke' and error.agent == 'a' and error.tool == 'work'";
    let mut driver = Driver::connected(&plan(vec![conditional(condition, task("a", &[]))]));
    driver.drain_calls();
    driver.fail("a", 1, FailureKind::ServerError);
    assert!(driver.run.next_wakeup().is_some() && driver.outcome("a").is_none());
}

#[test]
fn condition_narrows_reroutes_but_never_widens_the_table() {
    let routes = vec![route("a", 0), route("b", 1)];
    let rerouted = |when: &str, kind: FailureKind| {
        let task = Task { retry: Retry { when: Some(Expression(when.into())), ..Retry::default() }, ..task("t", &[]) };
        let mut driver = Driver::connected(&plan(vec![with_routes(routes.clone(), task)]));
        driver.drain_calls();
        driver.fail("t", 1, kind);
        driver.connect_all();
        driver.drain_call_names()
    };
    assert_eq!(rerouted("true", FailureKind::ToolError), ["t#2@b"]);
    assert_eq!(rerouted("false", FailureKind::ToolError), [""; 0]);
    // Its effect is unknown, and the task is `at_most_once`.
    assert_eq!(rerouted("true", FailureKind::ConnectionLost), [""; 0]);
}

#[test]
fn failed_condition_fails_the_task_with_both_messages() {
    let mut driver = Driver::connected(&plan(vec![conditional("error.message + 1", task("a", &[]))]));
    driver.drain_calls();
    driver.fail("a", 1, FailureKind::ToolError);
    let Some(Outcome::Failed(failure)) = driver.outcome("a") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::ToolError);
    assert!(failure.message.starts_with("broke; `retry.when`: "), "{}", failure.message);
}

#[test]
fn condition_applies_to_model_requests() {
    let unavailable = || Err(ChatError::Unavailable { message: "busy".into(), status: None, retry_after: None });
    for (when, retried) in [("error.kind == 'model_failed'", true), ("error.kind == 'tool_error'", false)] {
        let mut driver = Driver::connected(&plan(vec![conditional(when, text_prompt(prompt("p", &[], None)))]));
        assert_eq!(driver.drain_model_requests().len(), 1);
        driver.reply("p", 1, unavailable());
        assert_eq!(driver.outcome("p").is_none(), retried, "{when}");
    }
}

/// Returns a plan with the secret input `token`, which a call sends.
fn plan_with_secret(approve: bool) -> Arc<Plan> {
    let mut task = with_arguments(json!({"key": "Bearer ${{ inputs.token }}", "n": 1}), task("a", &[]));
    task.approve = approve.then(|| Box::new(Template(json!("Send?"))));
    let mut plan = Plan::clone(&plan(vec![task]));
    let spec = json!({"kind": "secret", "required": true});
    plan.inputs.insert("token".into(), serde_json::from_value(spec).expect("an input"));
    Arc::new(plan)
}

fn start_with_secret(plan: &Arc<Plan>) -> Driver {
    let new_run = NewRun { inputs: Arc::new(json!({"token": "s3cret-value"})), ..new_run(plan, None) };
    let (run, step) = Run::start(new_run, Timestamp(1_000)).expect("a graph");
    let mut driver = Driver { run, records: step.records, commands: step.commands, now: Timestamp(1_000) };
    driver.connect_all();
    driver
}

#[test]
fn secrets_are_sent_but_never_recorded() {
    let mut driver = start_with_secret(&plan_with_secret(false));
    assert_eq!(next_arguments(&mut driver), json!({"key": "Bearer s3cret-value", "n": 1}));
    driver.end("a", 1, Ok(text("x")));
    assert_eq!(Run::fold(&driver.records).expect("a history"), driver.run);
    let journal = serde_json::to_string(&driver.records).expect("JSON");
    assert!(!journal.contains("s3cret") && journal.contains("\"token\":\"***\""), "{journal}");
    let sent = sent_calls(&driver.records).expect("a history");
    assert_eq!(sent[0].arguments, json!({"key": "Bearer ***", "n": 1}));
}

#[test]
fn resumed_run_needs_its_secrets() {
    let plan = plan_with_secret(true);
    let driver = start_with_secret(&plan);
    let question = driver.records.iter().find_map(|record| match &record.event {
        Event::QuestionAsked { question, .. } => Some(Arc::clone(question)),
        _ => None,
    });
    let question = question.expect("an approval");
    assert_eq!(question.call.as_ref().map(|call| call.arguments.clone()), Some(json!({"key": "Bearer ***", "n": 1})));
    // The person changes one argument, and keeps the masked one.
    let answer = Answer::Accept { content: Some(json!({"key": "Bearer ***", "n": 2})) };
    let resumed = |secrets: Value| {
        let mut run = Run::fold(&driver.records).expect("a history");
        assert_eq!(run.missing_secrets(), ["token"]);
        run.set_secrets(secrets.as_object().cloned().expect("an object"));
        let resumption = Resumption {
            run,
            last_event_at: Timestamp(2_000),
            checkpoints: HashMap::new(),
            accepts_changes: false,
            inputs: vec![Input::QuestionAnswered {
                question: question.id.clone(),
                answer: answer.clone(),
                by: "test".into(),
            }],
        };
        let (run, step) = Run::resume(resumption, Timestamp(3_000));
        let records = driver.records.iter().cloned().chain(step.records).collect();
        let mut resumed = Driver { run, records, commands: step.commands, now: Timestamp(3_000) };
        resumed.connect_all();
        resumed
    };
    assert_eq!(
        next_arguments(&mut resumed(json!({"token": "s3cret-value"}))),
        json!({"key": "Bearer s3cret-value", "n": 2})
    );
    let Some(Outcome::Failed(failure)) = resumed(json!({})).outcome("a") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Expression);
    assert!(failure.message.contains("secret input `token`"), "{}", failure.message);
}
