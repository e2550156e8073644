//! Runs that do a part of an earlier one again.

use super::*;
use crate::{engine::Rerun, model::RunId};

/// A driver of a run that does `driver`'s again from `from` on.
fn again(driver: &Driver, from: &str) -> Driver {
    let (of, from) = (RunId::from("earlier"), TaskId::from(from));
    let rerun = Rerun { of: &of, earlier: &driver.run, from: &from, seed: 7 };
    let (run, step) = Run::rerun(rerun, driver.now).expect("a task of the plan");
    let mut again = Driver { run, records: Vec::new(), orders: Vec::new(), now: driver.now };
    again.take(step);
    assert!(Run::fold(&again.records).expect("a history") == again.run);
    again
}

fn reused(driver: &Driver) -> Vec<String> {
    let reused = driver.records.iter().filter_map(|record| match &record.event {
        Event::TaskReused { task, .. } => Some(task.to_string()),
        _ => None,
    });
    reused.collect()
}

#[test]
fn results_before_the_task_are_taken_over_and_what_comes_after_it_is_done_again() {
    let each = Task {
        foreach: Some(Box::new(Foreach {
            items: Template(json!(["x", "y"])),
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

    let mut driver = again(&driver, "c");
    assert_eq!(reused(&driver), ["a", "each[0]", "each[1]", "each", "b"]);
    driver.connect_all();
    assert_eq!(driver.names(), ["c#1@a"]);
    driver.end("c", 1, Ok(text("7")));
    assert_eq!(driver.names(), ["d#1@a"]);
    driver.end("d", 1, Ok(text("8")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn what_has_no_result_is_done_again_wherever_it_stands() {
    let tasks = vec![task("a", &[]), task("b", &[]), task("c", &["b"]), task("d", &["a"])];
    let mut driver = Driver::connected(&plan(tasks));
    driver.end("a", 1, Ok(text("1")));
    driver.fail("b", 1, FailureKind::ToolError);
    driver.end("d", 1, Ok(text("2")));
    let mut driver = again(&driver, "d");
    assert_eq!(reused(&driver), ["a"]);
    driver.connect_all();
    assert_eq!(driver.names(), ["b#1@a", "d#1@a"]);
}

#[test]
fn a_task_that_the_plan_does_not_have_is_named_beside_those_that_it_has() {
    let driver = Driver::start(&plan(vec![task("a", &[]), task("b", &[])]));
    let (of, from) = (RunId::from("r"), TaskId::from("z"));
    let error = Run::rerun(Rerun { of: &of, earlier: &driver.run, from: &from, seed: 7 }, driver.now);
    let error = error.expect_err("no such task").to_string();
    assert_eq!(error, "the plan of run `r` has no task `z`; it has `a`, `b`");
}
