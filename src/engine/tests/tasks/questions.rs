//! Tests of approvals and questions: what waits for them, and what happens without an answer.

use crate::engine::tests::*;
use crate::model::{Elicitation, Form};

#[test]
fn declined_approval_denies_the_call() {
    let asked = Task { approve: Some(Box::new(Template(json!("Do it?")))), ..task("t", &[]) };
    for (answer, calls, ended) in [
        (Answer::Accept { content: None }, 1, None),
        (Answer::Decline, 0, Some((RunStatus::Failed, Some(EndCause::Denied)))),
    ] {
        let mut driver = Driver::connected(&plan(vec![asked.clone()]));
        assert_eq!(driver.drain_calls(), []);
        driver.send_input(Input::QuestionAnswered { question: "q1".into(), answer, by: "person".into() });
        assert_eq!((driver.drain_calls().len(), driver.ended()), (calls, ended));
    }
}

#[test]
fn deferred_question_pauses_the_run() {
    let asked = Task { approve: Some(Box::new(Template(json!("Do it?")))), ..task("t", &[]) };
    let mut driver = Driver::connected(&plan(vec![asked, task("u", &[]), task("v", &["t"])]));
    driver.send_input(Input::QuestionDeferred { question: "q1".into(), reason: "no terminal".into() });
    assert_eq!(driver.ended(), None);
    driver.end("u", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Paused, None)));
}

#[test]
fn approval_applies_to_its_task_only() {
    let asked = Task { approve: Some(Box::new(Template(json!("Send to ${{ inputs.who }}?")))), ..task("t", &[]) };
    let plan = plan(vec![asked]);
    let with_input = NewRun { inputs: Arc::new(json!({"who": "Ada"})), ..new_run(&plan, None) };
    let (_, step) = Run::start(with_input, Timestamp(0)).expect("a graph");
    let question = step.commands.iter().find_map(|order| match order {
        Command::AskPerson { question } => Some(question),
        _ => None,
    });
    let question = question.expect("a question");
    assert_eq!(question.asker, Asker::Plan { task: "t".into() });
    assert_eq!(question.message, "Send to Ada?");
}

#[test]
fn overdue_question_gets_its_default() {
    let asking = |default, message: &str| Task {
        approve: Some(Box::new(Template(json!(message)))),
        questions: Some(QuestionPolicy { timeout: HumanDuration(Duration::from_secs(60)), default }),
        ..task(message, &[])
    };
    let tasks = vec![asking(DefaultAnswer::Accept, "yes"), asking(DefaultAnswer::Decline, "no")];
    let mut driver = Driver::connected(&plan(tasks));
    driver.send_input(Input::QuestionDeferred { question: "q1".into(), reason: "no person".into() });
    driver.send_input(Input::QuestionDeferred { question: "q2".into(), reason: "no person".into() });
    assert_eq!(driver.ended(), None, "the deadline will answer");
    driver.sleep();
    assert_eq!(driver.now, Timestamp(61_000));
    assert_eq!(driver.drain_call_names(), ["yes#1@a"]);
    let Some(Outcome::Failed(failure)) = driver.outcome("no") else { panic!("not failed") };
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Denied, "not approved (answered by its deadline)"));
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}

/// Returns a plan with a `foreach` task whose calls are approved one by one, and a second task of this kind.
fn approved_items() -> Arc<Plan> {
    let approve = || Some(Box::new(Template(json!("Store ${{ item }}?"))));
    let each = Task { approve: approve(), ..foreach_task(json!([1, 2, 3]), None) };
    let other =
        Task { approve: approve(), id: "other".into(), needs: vec!["each".into()], ..foreach_task(json!([4]), None) };
    plan(vec![each, other])
}

#[test]
fn approval_names_its_item() {
    let mut driver = Driver::connected(&approved_items());
    let items: Vec<_> = driver.questions().iter().map(|question| question.item).collect();
    assert_eq!(items, [1, 2, 3].map(|number| Some(ItemPlace { number, of: 3 })));
}

#[test]
fn approval_of_all_calls_covers_the_calls_of_its_tool() {
    let mut driver = Driver::connected(&approved_items());
    driver.send_input(Input::QuestionAnswered { question: "q1".into(), answer: Answer::Decline, by: "person".into() });
    driver.send_input(Input::RestApproved { question: "q2".into(), by: "person".into() });
    assert_eq!(driver.drain_call_names(), ["each[1]#1@a", "each[2]#1@a"]);
    let answers = driver.records.iter().filter_map(|record| match &record.event {
        Event::QuestionAnswered { question, by, .. } => Some(format!("{question} by {by}")),
        Event::ToolApproved { agent, tool, by } => Some(format!("{agent}.{tool} by {by}")),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers, ["q1 by person", "q2 by person", "q3 by person, for all of `a.work`", "a.work by person"]);
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}

#[test]
fn approval_of_a_tool_covers_other_tasks_but_not_other_tools() {
    let asked = |id: &str, tool: &str| {
        let mut asked = Task { approve: Some(Box::new(Template(json!("Do it?")))), ..task(id, &[]) };
        let Work::Call(call) = &mut asked.work else { panic!("a call") };
        call.routes[0].tool = tool.into();
        asked
    };
    let mut later = asked("later", "work");
    later.needs = vec!["first".into()];
    let mut driver = Driver::connected(&plan(vec![asked("first", "work"), asked("other", "other"), later]));
    driver.send_input(Input::RestApproved { question: "q1".into(), by: "person".into() });
    assert_eq!(driver.drain_call_names(), ["first#1@a"]);
    driver.end("first", 1, Ok(text("x")));
    assert_eq!(driver.drain_call_names(), ["later#1@a"]);
    assert_eq!(driver.ended(), None, "`other` still waits");
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}

#[test]
fn approval_of_all_calls_covers_later_items_after_resume() {
    let mut driver = Driver::connected(&approved_items());
    // The process ended after the first answer, before it asked about the other items.
    let asked = driver.records.iter().position(|record| matches!(record.event, Event::QuestionAsked { .. }));
    driver.records.truncate(asked.expect("a question") + 1);
    let yes = Answer::Accept { content: None };
    for event in [
        Event::QuestionAnswered { question: "q1".into(), answer: yes, by: "person".into() },
        Event::ToolApproved { agent: "a".into(), tool: "work".into(), by: "person".into() },
    ] {
        let seq = driver.records.len() as u64;
        driver.records.push(Record { seq, at: driver.now, event });
    }
    let mut driver = driver.restart_after(driver.records.len(), &|_| false);
    driver.connect_all();
    assert_eq!(driver.questions(), []);
    // The agent executes two calls at once.
    assert_eq!(driver.drain_call_names(), ["each[0]#1@a", "each[1]#1@a"]);
    driver.end("each[0]", 1, Ok(text("x")));
    assert_eq!(driver.drain_call_names(), ["each[2]#1@a"]);
}

#[test]
fn changed_arguments_are_called_even_after_resume() {
    let asked = Task { approve: Some(Box::new(Template(json!("Do it?")))), ..task("t", &[]) };
    let changed = json!({"title": "Other"});
    for restarts in [false, true] {
        let mut driver = Driver::connected(&plan(vec![asked.clone()]));
        let answer = Answer::Accept { content: Some(changed.clone()) };
        driver.send_input(Input::QuestionAnswered { question: "q1".into(), answer, by: "person".into() });
        if restarts {
            // The process ended before the call was sent.
            let answered =
                driver.records.iter().position(|record| matches!(record.event, Event::QuestionAnswered { .. }));
            let mut restarted = driver.restart_after(answered.expect("an answer") + 1, &|_| false);
            restarted.connect_all();
            driver = restarted;
        }
        let calls = driver.drain_commands(|order| match order {
            Command::StartAttempt(call) => Some(Value::Object(call.arguments.clone())),
            _ => None,
        });
        assert_eq!(calls, std::slice::from_ref(&changed), "restarts: {restarts}");
        assert!(Run::fold(&driver.records).expect("a history") == driver.run);
        let sent = crate::engine::sent_calls(&driver.records).expect("a history");
        assert_eq!(sent[0].arguments, changed);
    }
}

#[test]
fn approval_ignores_what_is_not_a_map_of_arguments() {
    let asked = Task { approve: Some(Box::new(Template(json!("Do it?")))), ..task("t", &[]) };
    let mut driver = Driver::connected(&plan(vec![asked]));
    let answer = Answer::Accept { content: Some(json!("delete everything")) };
    driver.send_input(Input::QuestionAnswered { question: "q1".into(), answer, by: "person".into() });
    let recorded = driver.records.iter().find_map(|record| match &record.event {
        Event::QuestionAnswered { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    assert_eq!(recorded, Some(Answer::Accept { content: None }));
    assert_eq!(driver.drain_call_names(), ["t#1@a"]);
}

#[test]
fn page_that_its_agent_reports_as_completed_is_accepted() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[])]));
    let attempt = AttemptId { task: "t".into(), number: 1 };
    let form = Form::Url { url: "https://a.test".into(), id: Some("e1".into()) };
    driver.send_input(Input::ElicitationRequested {
        request: "a/1".into(),
        origin: Origin { agent: "a".into(), attempt: Some(attempt), key: None },
        elicitation: Elicitation { message: "log in".into(), form },
    });
    driver.send_input(Input::QuestionDeferred { question: "q1".into(), reason: "no terminal".into() });
    driver.commands.clear();
    for (agent, id) in [("b", "e1"), ("a", "e2")] {
        driver.send_input(Input::PageCompleted { agent: agent.into(), id: id.into() });
    }
    assert_eq!(driver.commands, []);
    for _ in 0..2 {
        driver.send_input(Input::PageCompleted { agent: "a".into(), id: "e1".into() });
    }
    let answer = Answer::Accept { content: None };
    assert_eq!(driver.commands, [Command::AnswerElicitation { request: "a/1".into(), answer }]);
}
