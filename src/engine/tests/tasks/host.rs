//! Tests of what the host does itself: commands and requests, the cache, and saved outputs.

use crate::engine::tests::*;
use crate::model::{CachePolicy, HOST_AGENT, ToolCall};

/// Returns a task that the host does itself.
fn host_task(operation: Operation, arguments: Value) -> Task {
    let routes = vec![route(HOST_AGENT, 0)];
    let routes = routes.into_iter().map(|route| Route { tool: operation.method().into(), ..route }).collect();
    let work = Work::Call(Call { operation, routes, arguments: Template(arguments), awaits: None });
    Task { work, ..task("x", &[]) }
}

/// Returns the calls that were started, with their parameters.
fn drain_started(driver: &mut Driver) -> Vec<ToolCall> {
    driver.drain_commands(|order| match order {
        Command::StartAttempt(call) => Some(call.clone()),
        _ => None,
    })
}

#[test]
fn host_needs_no_connection_also_after_resuming() {
    let command =
        json!({"command": "echo ${{ 'it\\'s' }} ${{ 1 + 1 }}", "env": {"A": "${{ [1] }}", "B": "${{ none }}"}});
    let plan = plan(vec![host_task(Operation::RunCommand, command)]);
    let mut driver = Driver::start(&plan);
    assert!(driver.drain_commands(|order| matches!(order, Command::ConnectAgent { .. }).then_some(())).is_empty());
    let calls = drain_started(&mut driver);
    let expected = json!({"command": r"echo 'it'\''s' '2'", "env": {"A": "[1]"}});
    assert_eq!((calls[0].operation, Value::Object(calls[0].arguments.clone())), (Operation::RunCommand, expected));

    // The effect of a command is unknown, so a person is asked before it is repeated.
    let (_, step) = resume(&driver.records, Timestamp(9_000), Timestamp(1_000));
    let asks = step.commands.iter().any(|command| matches!(command, Command::AskPerson { .. }));
    assert!(asks && !step.commands.iter().any(|command| matches!(command, Command::ConnectAgent { .. })));

    let mut safe = host_task(Operation::SendRequest, json!({"url": "http://a.example/"}));
    safe.effect = Some(Effect::ReadOnly);
    let driver = Driver::start(&super::super::plan(vec![safe]));
    let (_, step) = resume(&driver.records, Timestamp(9_000), Timestamp(1_000));
    assert!(step.commands.iter().any(|command| matches!(command, Command::StartAttempt(_))), "{:?}", step.commands);
}

#[test]
fn unusable_parameters_fail_the_task() {
    for (operation, parameters, problem) in [
        (
            Operation::RunCommand,
            json!({"command": "echo \"${{ 1 }}\""}),
            "`shell`: a value cannot be inserted inside quotes",
        ),
        (
            Operation::RunCommand,
            json!({"command": "x", "cwd": "${{ 1 }}"}),
            "`cwd` of `shell` expects a path, but is an integer",
        ),
        (Operation::SendRequest, json!({"url": "${{ [] }}"}), "`url` of `http` expects text, but is a list"),
        (
            Operation::SendRequest,
            json!({"url": "x", "headers": "${{ 1 }}"}),
            "`headers` of `http` expects a map, but is an integer",
        ),
    ] {
        let driver = Driver::start(&plan(vec![host_task(operation, parameters)]));
        let Some(Outcome::Failed(failure)) = driver.outcome("x") else { panic!("{problem}") };
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Expression, problem));
    }
}

#[test]
fn calls_have_their_cache_key_and_file() {
    let hour = Duration::from_secs(3_600);
    let with = |key: Option<Value>, save: &str| {
        let policy = CachePolicy { key: key.map(Template), ttl: HumanDuration(hour) };
        let save = Some(Box::new(Template(json!(save))));
        Task { cache: Some(Box::new(policy)), save, ..with_arguments(json!({"n": "${{ 1 + 1 }}"}), task("x", &[])) }
    };
    for (task, key) in
        [(with(None, "a-${{ 3 }}.txt"), json!({"n": 2})), (with(Some(json!("k${{ 1 }}")), "a-3.txt"), json!("k1"))]
    {
        let mut driver = Driver::connected(&plan(vec![task]));
        let call = drain_started(&mut driver).remove(0);
        assert_eq!(call.cache.map(|request| (request.key, request.ttl)), Some((key, hour)));
        assert_eq!(call.save.as_deref(), Some("a-3.txt"));
    }
    let driver = Driver::connected(&plan(vec![with(None, "${{ '..' }}/x")]));
    let Some(Outcome::Failed(failure)) = driver.outcome("x") else { panic!("no failure") };
    assert_eq!(failure.message, "`save`: the file name `../x` contains `..`");
}

#[test]
fn answers_are_saved_before_their_tasks_end() {
    let asked = Task { save: Some(Box::new(Template(json!("a.md")))), ..text_prompt(prompt("p", &[], None)) };
    let plan = plan(vec![asked, task("after", &["p"])]);
    let mut driver = Driver::connected(&plan);
    driver.drain_model_requests();
    driver.reply("p", 1, reply_text("Because."));
    let saves = |driver: &mut Driver| {
        driver.drain_commands(|order| match order {
            Command::SaveAnswer { task, name, output } => Some((task.to_string(), name.clone(), Arc::clone(output))),
            _ => None,
        })
    };
    let expected = [("p".to_owned(), "a.md".to_owned(), text("Because."))];
    assert_eq!(saves(&mut driver), expected);
    assert_eq!((driver.outcome("p"), driver.drain_call_names()), (None, Vec::new()));

    // A later process saves it again.
    let (mut run, step) = resume(&driver.records, Timestamp(9_000), Timestamp(1_000));
    assert!(step.commands.iter().any(|command| matches!(command, Command::SaveAnswer { .. })));
    let failure = Failure::new(FailureKind::InvalidResult, "no space");
    let step = run.handle([Input::AnswerSaved { task: "p".into(), result: Err(failure) }], Timestamp(9_001));
    assert!(
        step.records.iter().any(|record| matches!(&record.event, Event::TaskEnded { outcome: Outcome::Failed(_), .. }))
    );

    driver.send_input(Input::AnswerSaved { task: "p".into(), result: Ok(text("Because.")) });
    driver.send_input(Input::AnswerSaved { task: "p".into(), result: Ok(text("Late.")) });
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Because."))));
    assert_eq!(driver.drain_call_names(), ["after#1@a"]);
}
