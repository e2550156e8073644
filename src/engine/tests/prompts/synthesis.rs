//! Tests of syntheses: their sources, and the checks of their answers.

use crate::engine::tests::*;

fn start_synthesis(ends: [bool; 2]) -> Driver {
    let tasks = vec![
        Task { title: Some("The first".into()), ..task("a", &[]) },
        Task { on_failure: OnFailure::SkipDependents, ..task("b", &[]) },
        task("c", &["b"]),
        synthesis(None, &["a", "b", "c"]),
    ];
    let mut driver = Driver::connected(&plan(tasks));
    for (id, ends_well) in ["a", "b"].into_iter().zip(ends) {
        driver.end(
            id,
            1,
            if ends_well { Ok(text("it is green")) } else { Err(Failure::new(FailureKind::ToolError, "away")) },
        );
    }
    driver
}

#[test]
fn synthesis_quotes_results_and_checks_citations() {
    let mut driver = start_synthesis([true, false]);
    let question = driver.drain_model_requests().remove(0).1.messages[0].text_content();
    let shown = "<result task=\"a\" title=\"The first\" status=\"succeeded\">\nit is green\n</result>";
    assert!(question.starts_with("Why?\n") && question.contains(shown), "{question}");
    assert!(question.contains("<result task=\"c\" status=\"has no result\">\nskipped: it needs `b`"), "{question}");
    driver.reply("answer", 1, reply_text("It is green [z]; b failed, so c was skipped."));
    let repair = driver.drain_model_requests().remove(0).1.messages.pop().expect("a message").text_content();
    assert!(repair.contains("it cites no task"), "{repair}");
    driver.reply("answer", 2, reply_text("It is green [a]; b failed, so c was skipped."));
    let Some(Outcome::Succeeded(output)) = driver.outcome("answer") else { panic!("not answered") };
    let expected =
        "It is green [a]; b failed, so c was skipped.\n\nNot done: b failed: away; c was skipped: it needs `b`";
    assert!(output.text().starts_with(expected), "{}", output.text());
    assert_eq!(driver.ended(), Some((RunStatus::Partial, None)));
}

#[test]
fn unfaithful_answer_carries_a_warning() {
    let mut driver = start_synthesis([true, false]);
    driver.reply("answer", 1, reply_text("It is red."));
    driver.reply("answer", 2, reply_text("It is red [a]."));
    let Some(Outcome::Succeeded(output)) = driver.outcome("answer") else { panic!("not answered") };
    assert!(output.text().contains("(Not verified: it does not name the task `b`"), "{}", output.text());
}

#[test]
fn synthesis_without_results_is_skipped() {
    let mut driver = start_synthesis([false, false]);
    assert_eq!(driver.drain_model_requests(), []);
    assert_eq!(driver.outcome("answer"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "a".into() })));
}
