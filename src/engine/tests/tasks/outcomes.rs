//! Tests of run outcomes: cancellation and outputs.

use crate::engine::tests::*;

#[test]
fn cancellation_stops_calls_and_starts_none() {
    let mut driver =
        Driver::connected(&plan(vec![task("t", &[]), task("u", &["t"]), foreach_task(json!([1, 2, 3]), Some(1))]));
    driver.drain_calls();
    driver.send_input(Input::CancelRequested { by: "p".into() });
    let cancelled = driver.drain_commands(|order| matches!(order, Command::CancelAttempt { .. }).then_some(()));
    assert_eq!(cancelled.len(), 2);
    driver.end("t", 1, Ok(text("it was faster")));
    driver.fail("each[0]", 1, FailureKind::Cancelled);
    assert_eq!(driver.drain_calls(), []);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
    assert_eq!(driver.outcome("u"), Some(Outcome::Cancelled));
    assert_eq!(driver.outcome("each"), Some(Outcome::Cancelled));
}

#[test]
fn outputs_are_evaluated_at_the_end() {
    let mut with_outputs = (*plan(vec![task("t", &[])])).clone();
    with_outputs.outputs = Some(IndexMap::from([
        ("good".to_owned(), Template(json!("${{ tasks.t.output }}"))),
        ("bad".to_owned(), Template(json!("${{ tasks.t.output.missing }}"))),
    ]));
    let mut driver = Driver::connected(&Arc::new(with_outputs));
    driver.end("t", 1, Ok(text("x")));
    let Some(Event::RunEnded { status, outputs: Some(outputs), output_errors, .. }) =
        driver.records.last().map(|record| &record.event)
    else {
        panic!("not ended")
    };
    assert_eq!(*status, RunStatus::Partial);
    assert_eq!(outputs["good"], json!("x"));
    assert_eq!(outputs["bad"], Value::Null);
    assert!(output_errors.contains_key("bad"));
}
