//! Tests of failed model requests, and of the state shared by the exchanges of a prompt.

use std::time::Duration;

use crate::engine::tests::*;

fn retrying(max_attempts: u32) -> Task {
    let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
    Task { retry: Retry { max_attempts, backoff, when: None }, ..text_prompt(prompt("p", &["a"], None)) }
}

/// Returns a transient failure with the delay in seconds that the endpoint requests.
fn busy(seconds: Option<u64>) -> Result<ChatReply, ChatError> {
    let retry_after = seconds.map(|seconds| HumanDuration(Duration::from_secs(seconds)));
    Err(ChatError::Unavailable { message: "busy".into(), status: Some(429), retry_after })
}

fn driver(task: Task) -> Driver {
    Driver::connected(&plan(vec![task]))
}

/// Returns the delay before the next request, in milliseconds.
fn retry_delay(driver: &Driver) -> Option<u64> {
    assert_eq!(Run::fold(&driver.records).expect("a run"), driver.run);
    driver.run.next_wakeup().map(|due| u64::try_from(due.since(driver.now).as_millis()).expect("not long"))
}

fn failed(driver: &Driver) -> (String, String) {
    let Some(Outcome::Failed(failure)) = driver.outcome("p") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::ModelFailed);
    (failure.message, failure.help.unwrap_or_default())
}

#[test]
fn failed_request_is_retried_up_to_max_attempts() {
    let mut driver = driver(retrying(3));
    let (first, chat) = driver.drain_model_requests().remove(0);
    assert_eq!((first.as_str(), chat.single_try), ("p#1", true));
    driver.reply("p", 1, busy(None));
    assert_eq!(retry_delay(&driver), Some(1_000));
    driver.sleep();
    assert_eq!(driver.drain_model_requests(), [("p#2".to_owned(), chat.clone())], "the same request");
    driver.reply("p", 2, busy(Some(5)));
    assert_eq!(retry_delay(&driver), Some(5_000), "the endpoint asks for more than the backoff of two seconds");
    driver.sleep();
    assert_eq!(driver.drain_model_requests(), [("p#3".to_owned(), chat)]);
    driver.reply("p", 3, busy(None));
    assert_eq!((retry_delay(&driver), failed(&driver)), (None, ("busy".to_owned(), String::new())));
}

#[test]
fn each_request_has_all_attempts() {
    let mut driver = driver(retrying(2));
    driver.reply("p", 1, busy(None));
    driver.sleep();
    driver.reply("p", 2, tool_use_reply(&[("c", "a.none")]));
    driver.reply("p", 3, busy(None));
    assert_eq!(retry_delay(&driver), Some(1_000));
    driver.sleep();
    driver.reply("p", 4, reply_text("Done."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Done."))));
}

#[test]
fn permanent_errors_are_not_retried() {
    let final_failure = || Err(ChatError::Endpoint { message: "no such model".into(), status: Some(404) });
    let cut_off = || reply_text("One. Tw").map(|reply| ChatReply { stop_reason: "maxTokens".into(), ..reply });
    for (reply, message) in [
        (final_failure(), "no such model"),
        (cut_off(), "the model's answer was truncated at 100 tokens (`max_tokens`)"),
    ] {
        let mut driver = driver(retrying(3));
        driver.reply("p", 1, reply);
        assert_eq!((retry_delay(&driver), failed(&driver).0.as_str()), (None, message));
    }
    let mut driver = driver(retrying(1));
    assert!(
        !driver.drain_model_requests().remove(0).1.single_try,
        "without a retry of the task, the client's own tries count"
    );
    driver.reply("p", 1, busy(Some(1)));
    assert_eq!((retry_delay(&driver), failed(&driver).0.as_str()), (None, "busy"));
}

#[test]
fn a_wait_beyond_the_deadline_or_an_hour_fails_with_the_reason() {
    let bounded = Task { deadline: Some(HumanDuration(Duration::from_secs(60))), ..retrying(3) };
    for (task, seconds, help) in [
        (bounded.clone(), 90, "the next attempt would be in 1m30s, after the task's `deadline`"),
        (retrying(3), 3_601, "a task without a `deadline` waits at most 1h"),
    ] {
        let mut driver = driver(task);
        driver.reply("p", 1, busy(Some(seconds)));
        let (message, shown) = failed(&driver);
        assert!(message == "busy" && shown.contains(help), "{shown}");
    }
    let mut driver = driver(bounded);
    driver.reply("p", 1, busy(Some(20)));
    driver.sleep();
    let deadline = driver.drain_model_requests().pop().and_then(|(_, chat)| chat.deadline);
    assert_eq!(deadline, Some(HumanDuration(Duration::from_secs(40))), "the deadline covers all tries");
}

#[test]
fn stopping_run_retries_nothing() {
    let mut driver = driver(retrying(3));
    driver.send_input(Input::CancelRequested { by: "p".into() });
    driver.reply("p", 1, busy(None));
    assert_eq!((retry_delay(&driver), driver.outcome("p")), (None, Some(Outcome::Cancelled)));
}

#[test]
fn requests_share_the_conversation() {
    let mut driver = driver(text_prompt(prompt("p", &["a"], None)));
    let first = driver.drain_model_requests().remove(0).1.messages;
    driver.reply("p", 1, tool_use_reply(&[("c", "a.none")]));
    let second = driver.drain_model_requests().remove(0).1.messages;
    driver.reply("p", 2, tool_use_reply(&[("c", "a.none")]));
    let third = driver.drain_model_requests().remove(0).1.messages;
    assert_eq!((first.len(), second.len(), third.len()), (1, 3, 5));
    assert!(first.iter().zip(&second).all(|(before, after)| Arc::ptr_eq(before, after)));
    assert!(second.iter().zip(&third).all(|(before, after)| Arc::ptr_eq(before, after)));
}

#[test]
fn the_items_of_a_task_share_one_compiled_schema() {
    let schema = json!({"type": "object", "required": ["n"]});
    let items = Template(json!([1, 2]));
    let each = Task {
        foreach: Some(Box::new(Foreach { items, is_matrix: false, binding: "item".into(), max_parallel: None })),
        ..text_prompt(prompt("each", &[], Some(schema.clone())))
    };
    let mut driver = Driver::connected(&plan(vec![each, text_prompt(prompt("p", &[], Some(schema)))]));
    for task in ["each[0]", "each[1]", "p"] {
        driver.reply(task, 1, reply_text("{}"));
        driver.reply(task, 2, reply_text("{\"n\": 1}"));
    }
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    assert_eq!(driver.run.schemas.len(), 2);
}
