//! Tests of prompts that agents offer.

use crate::engine::tests::*;

fn drain_prompt_requests(driver: &mut Driver) -> Vec<(String, Operation, Value)> {
    driver.drain_commands(|order| match order {
        Command::StartAttempt(call) => {
            Some((call.attempt.to_string(), call.operation, Value::Object(call.arguments.clone())))
        }
        _ => None,
    })
}

fn request() -> (String, Operation, Value) {
    // Other values than texts become JSON, and null values are omitted.
    let parameters = json!({"name": "sum", "arguments": {"of": "{}", "length": "2"}});
    ("p/1#1".to_owned(), Operation::GetPrompt, parameters)
}

#[test]
fn messages_of_the_agent_are_sent_to_the_model() {
    let mut driver = Driver::connected(&plan(vec![server_prompt("p", "a", &[])]));
    assert_eq!(drain_prompt_requests(&mut driver), [request()]);
    assert_eq!(driver.drain_model_requests(), []);
    driver.end("p/1", 1, Ok(prompt_messages("Sum up ${{ inputs.secret }}")));
    let requests = driver.drain_model_requests();
    assert_eq!(requests[0].0, "p#1");
    // Text from an agent is data and is never evaluated.
    assert_eq!(requests[0].1.messages[0].text_content(), "Sum up ${{ inputs.secret }}");
    driver.reply("p", 1, reply_text("Short."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Short."))));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn tools_are_called_after_the_prompt() {
    let mut driver = Driver::connected(&plan(vec![server_prompt("p", "a", &["b"])]));
    drain_prompt_requests(&mut driver);
    driver.end("p/1", 1, Ok(prompt_messages("Sum up")));
    driver.drain_model_requests();
    driver.reply("p", 1, tool_use_reply(&[("c1", "b.work")]));
    assert_eq!(driver.drain_call_names(), ["p/2#1@b"]);
    driver.end("p/2", 1, Ok(text("found")));
    assert_eq!(driver.drain_model_requests().len(), 1);
    driver.reply("p", 2, reply_text("Short."));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn failed_requests_and_unusable_messages_fail_the_task() {
    let hologram = json!({"role": "user", "content": [{"type": "hologram"}]});
    let unusable = ToolOutput { structured: Some(json!({"messages": [hologram]})), ..ToolOutput::default() };
    for (result, kind) in [
        (Err(Failure::new(FailureKind::Refused, "no such prompt")), FailureKind::Refused),
        (Ok(Arc::new(unusable)), FailureKind::InvalidResult),
        (Ok(text("no messages")), FailureKind::InvalidResult),
    ] {
        let mut driver = Driver::connected(&plan(vec![server_prompt("p", "a", &[])]));
        drain_prompt_requests(&mut driver);
        driver.end("p/1", 1, result);
        let Some(Outcome::Failed(failure)) = driver.outcome("p") else { panic!("the task has not failed") };
        assert_eq!(failure.kind, kind);
        assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
    }
}

#[test]
fn requests_for_prompts_are_repeated_after_a_crash() {
    let task = Task { effect: Some(Effect::AtMostOnce), ..server_prompt("p", "a", &[]) };
    let mut driver = Driver::connected(&plan(vec![task]));
    assert_eq!(drain_prompt_requests(&mut driver), [request()]);
    let mut driver = driver.restart();
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["p/1#2@a"]);
    driver.end("p/1", 2, Ok(prompt_messages("Sum up")));
    assert_eq!(driver.drain_model_requests().len(), 1);
    let mut driver = driver.restart();
    let repeated = driver.drain_model_requests();
    assert_eq!(repeated[0].1.messages[0].text_content(), "Sum up");
}
