//! Approvals and questions: what waits for them, and what becomes of those that nobody answers.

use super::*;

#[test]
fn an_approval_is_asked_first_and_a_no_is_a_denial() {
    let asked = Task { approve: Some(Box::new(Template(json!("Do it?")))), ..task("t", &[]) };
    for (answer, calls, ended) in [
        (Answer::Accept { content: None }, 1, None),
        (Answer::Decline, 0, Some((RunStatus::Failed, Some(EndCause::Denied)))),
    ] {
        let mut driver = Driver::connected(&plan(vec![asked.clone()]));
        assert_eq!(driver.calls(), []);
        driver.feed(Input::QuestionAnswered { question: "q1".into(), answer, by: "person".into() });
        assert_eq!((driver.calls().len(), driver.ended()), (calls, ended));
    }
}

#[test]
fn a_question_that_nobody_can_answer_pauses_the_run_when_all_else_is_done() {
    let asked = Task { approve: Some(Box::new(Template(json!("Do it?")))), ..task("t", &[]) };
    let mut driver = Driver::connected(&plan(vec![asked, task("u", &[]), task("v", &["t"])]));
    driver.feed(Input::QuestionLeftOpen { question: "q1".into(), reason: "no terminal".into() });
    assert_eq!(driver.ended(), None);
    driver.end("u", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Paused, None)));
}

#[test]
fn an_approval_belongs_to_its_task() {
    let asked = Task { approve: Some(Box::new(Template(json!("Send to ${{ inputs.who }}?")))), ..task("t", &[]) };
    let plan = plan(vec![asked]);
    let inputs = Arc::new(json!({"who": "Ada"}));
    let beginning = Beginning { plan: &plan, inputs: &inputs, seed: 7, planning: None, source: None };
    let (_, step) = Run::start(beginning, Timestamp(0)).expect("a graph");
    let question = step.commands.iter().find_map(|order| match order {
        Command::Ask { question } => Some(question),
        _ => None,
    });
    let question = question.expect("a question");
    assert_eq!(question.asker, Asker::Plan { task: "t".into() });
    assert_eq!(question.message, "Send to Ada?");
}

#[test]
fn a_question_that_nobody_answers_in_time_gets_its_default() {
    let asking = |default, message: &str| Task {
        approve: Some(Box::new(Template(json!(message)))),
        questions: Some(QuestionPolicy { timeout: Span(Duration::from_secs(60)), default }),
        ..task(message, &[])
    };
    let tasks = vec![asking(DefaultAnswer::Accept, "yes"), asking(DefaultAnswer::Decline, "no")];
    let mut driver = Driver::connected(&plan(tasks));
    driver.feed(Input::QuestionLeftOpen { question: "q1".into(), reason: "nobody".into() });
    driver.feed(Input::QuestionLeftOpen { question: "q2".into(), reason: "nobody".into() });
    assert_eq!(driver.ended(), None, "the deadline will answer");
    driver.sleep();
    assert_eq!(driver.now, Timestamp(61_000));
    assert_eq!(driver.names(), ["yes#1@a"]);
    let Some(Outcome::Failed(failure)) = driver.outcome("no") else { panic!("not failed") };
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Denied, "not approved (answered by its deadline)"));
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}
