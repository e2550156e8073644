//! Tests of `foreach` tasks: concurrency limits and the selection of items.

use crate::engine::tests::*;

#[test]
fn foreach_runs_items_within_its_limit() {
    let last = with_arguments(json!({"all": "${{ tasks.each.outputs }}"}), task("z", &["each"]));
    let mut driver = Driver::connected(&plan(vec![foreach_task(json!([1, 2, 3]), Some(1)), last]));
    assert_eq!(driver.drain_call_names(), ["each[0]#1@a"]);
    driver.end("each[0]", 1, Ok(text("p")));
    assert_eq!(driver.drain_call_names(), ["each[1]#1@a"]);
    driver.end("each[1]", 1, Ok(text("q")));
    assert_eq!(driver.drain_call_names(), ["each[2]#1@a"]);
    driver.end("each[2]", 1, Ok(text("r")));
    let Some(Command::StartAttempt(call)) = driver.commands.pop() else { panic!("no call") };
    assert_eq!(Value::Object(call.arguments), json!({"all": ["p", "q", "r"]}));
}

#[test]
fn foreach_accepts_empty_list_and_rejects_non_list() {
    let driver = Driver::connected(&plan(vec![foreach_task(json!([]), None)]));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    let driver = Driver::connected(&plan(vec![foreach_task(json!({"a": 1}), None)]));
    let Some(Outcome::Failed(failure)) = driver.outcome("each") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Expression);
}

#[test]
fn item_condition_is_evaluated_per_item() {
    let each = Task { condition: Some(Expression("item > 1".into())), ..foreach_task(json!([1, 2]), None) };
    let mut driver = Driver::connected(&plan(vec![each]));
    assert_eq!(driver.drain_call_names(), ["each[1]#1@a"]);
    driver.end("each[1]", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn skipped_item_does_not_block_others() {
    let each = with_arguments(json!({"v": "${{ item.name }}"}), foreach_task(json!([1, 2, {"name": "n"}]), Some(1)));
    let mut driver = Driver::connected(&plan(vec![each]));
    assert_eq!(driver.drain_call_names(), ["each[2]#1@a"]);
}

#[test]
fn foreach_with_too_many_items_fails() {
    let driver = Driver::connected(&plan(vec![foreach_task(json!(vec![0; 100_001]), None)]));
    let Some(Outcome::Failed(failure)) = driver.outcome("each") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Expression);
    assert!(failure.message.starts_with("`foreach` supports at most 100000 items, but `"), "{}", failure.message);
    assert!(failure.message.ends_with("` has 100001"), "{}", failure.message);
}

#[test]
fn foreach_over_items_that_are_too_large_together_fails_by_name() {
    let page = "x".repeat(1024 * 1024);
    let driver = Driver::connected(&plan(vec![foreach_task(json!(vec![json!({"page": page}); 33]), None)]));
    let Some(Outcome::Failed(failure)) = driver.outcome("each") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Expression);
    let message = "the items of `foreach` can have at most 33554432 bytes in total, but the 33 of `";
    assert!(failure.message.starts_with(message), "{}", failure.message);
    let mut driver = Driver::connected(&plan(vec![foreach_task(json!([{"page": page}]), None)]));
    assert_eq!(driver.drain_call_names(), ["each[0]#1@a"]);
}
