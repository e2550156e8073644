//! Tests of tasks that read resources.

use crate::engine::tests::*;

fn read_task(id: &str, parameters: Value) -> Task {
    Task { work: read(vec![route("a", 0), route("b", 1)], parameters), ..task(id, &[]) }
}

fn drain_requests(driver: &mut Driver) -> Vec<(Operation, Arc<str>, Value)> {
    driver.drain_commands(|order| match order {
        Command::StartAttempt(call) => {
            Some((call.operation, Arc::clone(&call.tool), Value::Object(call.arguments.clone())))
        }
        _ => None,
    })
}

#[test]
fn reads_have_the_rendered_uri() {
    let parameters = json!({"uri": "note://${{ 1 + 1 }}"});
    let template = json!({"template": "note://{folder}{?q}", "with": {"folder": "a b", "q": null}});
    for (parameters, uri) in [(parameters, "note://2"), (template, "note://a%20b")] {
        let mut driver = Driver::connected(&plan(vec![read_task("r", parameters)]));
        let expected = (Operation::ReadResource, "resources/read".into(), json!({"uri": uri}));
        assert_eq!(drain_requests(&mut driver), [expected]);
        driver.end("r", 1, Ok(text("milk")));
        assert_eq!(driver.outcome("r"), Some(Outcome::Succeeded(text("milk"))));
    }
}

#[test]
fn invalid_uris_fail_the_task_before_a_call() {
    for parameters in [
        json!({"uri": "${{ 7 }}"}),
        json!({"uri": "${{ '' }}"}),
        json!({"template": "note://{x", "with": {}}),
        json!({"template": "note://{x}", "with": {"x": [[1]]}}),
    ] {
        let mut driver = Driver::connected(&plan(vec![read_task("r", parameters)]));
        assert_eq!(drain_requests(&mut driver), []);
        let Some(Outcome::Failed(failure)) = driver.outcome("r") else { panic!("the task has not failed") };
        assert_eq!(failure.kind, FailureKind::Expression);
    }
}

#[test]
fn reads_are_always_read_only() {
    let task = Task {
        effect: Some(Effect::AtMostOnce),
        retry: Retry { max_attempts: 2, ..Retry::default() },
        ..read_task("r", json!({"uri": "note://1"}))
    };
    let mut driver = Driver::connected(&plan(vec![task]));
    assert_eq!(driver.drain_call_names(), ["r#1@a"]);
    driver.fail("r", 1, FailureKind::ConnectionLost);
    driver.sleep();
    assert_eq!(driver.drain_call_names(), ["r#2@a"]);
    // A read in flight is repeated without a question.
    let mut driver = driver.restart();
    driver.connect_all();
    assert_eq!(driver.questions(), []);
    assert_eq!(driver.drain_call_names(), ["r#3@a"]);
    driver.fail("r", 3, FailureKind::Refused);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["r#4@b"]);
}

#[test]
fn expressions_wait_for_the_resources_that_they_read() {
    let id = TaskId::resource_read("a", "'note://1'");
    let source = Task { id: id.clone(), ..read_task("r", json!({"uri": "note://1"})) };
    let arguments =
        json!({"text": "${{ resource('a', 'note://1').items[0] }}", "again": "${{ resource(\"a\", 'note://1') }}"});
    let user = with_arguments(arguments, Task { needs: vec![id.clone()], ..task("u", &[]) });
    let mut driver = Driver::connected(&plan(vec![source, user]));
    assert_eq!(drain_requests(&mut driver).len(), 1);
    let output = ToolOutput { structured: Some(json!({"items": ["milk"]})), ..ToolOutput::default() };
    driver.end(id.as_str(), 1, Ok(Arc::new(output)));
    let expected = json!({"text": "milk", "again": {"items": ["milk"]}});
    assert_eq!(drain_requests(&mut driver), [(Operation::CallTool, "work".into(), expected)]);
}
