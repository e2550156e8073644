//! Syntheses: what they are shown, and how their answers are checked.

use super::*;

fn synthesized(ends: [bool; 2]) -> Driver {
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
fn a_synthesis_sees_every_result_as_quoted_data_and_its_citations_are_checked() {
    let mut driver = synthesized([true, false]);
    let question = driver.turns().remove(0).1.messages[0].all_text();
    let shown = "<result task=\"a\" title=\"The first\" status=\"succeeded\">\nit is green\n</result>";
    assert!(question.starts_with("Why?\n") && question.contains(shown), "{question}");
    assert!(question.contains("<result task=\"c\" status=\"has no result\">\nskipped: it needs `b`"), "{question}");
    driver.reply("answer", 1, says_text("It is green [z]; b failed, so c was skipped."));
    let again = driver.turns().remove(0).1.messages.pop().expect("a message").all_text();
    assert!(again.contains("it cites no task"), "{again}");
    driver.reply("answer", 2, says_text("It is green [a]; b failed, so c was skipped."));
    let Some(Outcome::Succeeded(output)) = driver.outcome("answer") else { panic!("not answered") };
    let expected =
        "It is green [a]; b failed, so c was skipped.\n\nNot done: b failed: away; c was skipped: it needs `b`";
    assert!(output.text().starts_with(expected), "{}", output.text());
    assert_eq!(driver.ended(), Some((RunStatus::Partial, None)));
}

#[test]
fn an_answer_that_still_does_not_keep_to_the_results_says_so() {
    let mut driver = synthesized([true, false]);
    driver.reply("answer", 1, says_text("It is red."));
    driver.reply("answer", 2, says_text("It is red [a]."));
    let Some(Outcome::Succeeded(output)) = driver.outcome("answer") else { panic!("not answered") };
    assert!(output.text().contains("(Not verified: it does not name the task `b`"), "{}", output.text());
}

#[test]
fn without_any_result_there_is_nothing_to_synthesize() {
    let mut driver = synthesized([false, false]);
    assert_eq!(driver.turns(), []);
    assert_eq!(driver.outcome("answer"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "a".into() })));
}
