//! Tests of budgets: reservations, charges, and refusals.

use crate::engine::tests::*;

fn plan_with_budget(budget: Budget, tasks: Vec<Task>) -> Arc<Plan> {
    Arc::new(Plan { budget, ..(*plan(tasks)).clone() })
}

/// Replies to model requests with this many tokens each until none remain. Returns the maximum number of concurrent
/// requests.
fn reply_to_all(driver: &mut Driver, tokens: u64) -> usize {
    let mut max_open = 0;
    let mut open: Vec<String> = Vec::new();
    loop {
        open.extend(driver.drain_model_requests().into_iter().map(|(attempt, _)| attempt));
        max_open = max_open.max(open.len());
        if open.is_empty() {
            return max_open;
        }
        let (task, number) =
            open.remove(0).split_once('#').map(|(task, number)| (task.to_owned(), number.parse().unwrap())).unwrap();
        driver.reply(&task, number, reply_using(tokens));
        assert!(Run::fold(&driver.records).expect("a run") == driver.run, "fold(events) differs from the live run");
    }
}

#[test]
fn reserved_tokens_delay_prompts() {
    let prompts: Vec<Task> = (0..64).map(|number| text_prompt(prompt(&format!("p{number}"), &[], None))).collect();
    let budget = Budget { tokens: Some(500), ..Budget::default() };
    let mut driver =
        Driver::start(&Arc::new(Plan { max_parallel: 64, ..(*plan_with_budget(budget, prompts)).clone() }));
    // Each request may use 101 tokens: 100 for the reply, and one for the 4 bytes of the question. Four requests fit,
    // and each uses 50.
    assert_eq!(reply_to_all(&mut driver, 50), 4);
    let cause = EndCause::BudgetSpent { what: "tokens (500 of 500)".into() };
    assert_eq!(driver.ended(), Some((RunStatus::Partial, Some(cause))));
    let done = (0..64).filter(|number| matches!(driver.outcome(&format!("p{number}")), Some(Outcome::Succeeded(_))));
    assert_eq!(done.count(), 10, "all that the budget pays for");
    assert_eq!(driver.outcome("p63"), Some(Outcome::Cancelled));
}

#[test]
fn sufficient_budget_never_ends_the_run() {
    let prompts: Vec<Task> = (0..9).map(|number| text_prompt(prompt(&format!("p{number}"), &[], None))).collect();
    let budget = Budget { tokens: Some(500), ..Budget::default() };
    let mut driver = Driver::start(&plan_with_budget(budget, prompts));
    assert_eq!(reply_to_all(&mut driver, 50), 4);
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn task_budget_delays_only_its_own_prompts() {
    let items = Template(json!([1, 2, 3, 4]));
    let each = Task {
        foreach: Some(Box::new(Foreach { items, is_matrix: false, binding: "item".into(), max_parallel: None })),
        budget: Budget { tokens: Some(210), ..Budget::default() },
        ..text_prompt(prompt("each", &[], None))
    };
    let mut driver = Driver::start(&plan(vec![each, text_prompt(prompt("other", &[], None))]));
    let attempts: Vec<String> = driver.drain_model_requests().into_iter().map(|(attempt, _)| attempt).collect();
    assert_eq!(attempts, ["other#1", "each[0]#1", "each[1]#1"]);
    driver.reply("each[0]", 1, reply_using(50));
    assert_eq!(driver.drain_model_requests().len(), 0, "50 are spent and 101 reserved");
    driver.reply("each[1]", 1, reply_using(50));
    assert_eq!(reply_to_all(&mut driver, 50), 1, "one at a time, since 110 are left");
    driver.reply("other", 1, reply_using(50));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn oversized_request_fails_its_task() {
    for (run, own, whose) in [(Some(90), None, "run"), (None, Some(90), "task"), (Some(500), Some(90), "task")] {
        let asked = text_prompt(prompt("p", &[], None));
        let asked = Task { budget: Budget { tokens: own, ..Budget::default() }, ..asked };
        let mut driver = Driver::connected(&plan_with_budget(
            Budget { tokens: run, ..Budget::default() },
            vec![asked, task("t", &[])],
        ));
        assert_eq!(driver.drain_model_requests().len(), 0);
        let Some(Outcome::Failed(failure)) = driver.outcome("p") else { panic!("not failed") };
        let message = format!("a request can use up to 101 tokens, more than the {whose}'s budget of 90");
        assert_eq!((failure.kind, failure.message), (FailureKind::BudgetSpent, message));
        assert!(failure.help.is_some_and(|help| help.contains("max_tokens")));
        driver.end("t", 1, Ok(text("x")));
        assert_eq!(driver.ended(), Some((RunStatus::Failed, None)), "other tasks are done");
    }
}

#[test]
fn agent_sampling_waits_for_reserved_tokens() {
    let budget = Budget { tokens: Some(150), ..Budget::default() };
    let mut driver = Driver::connected(&plan_with_budget(budget, vec![task("t", &[])]));
    let request_sampling = |driver: &mut Driver, request: &str, max_tokens| {
        let attempt = Some(AttemptId { task: "t".into(), number: 1 });
        let origin = SamplingOrigin::Agent(Origin { agent: "a".into(), attempt, key: None });
        let chat = Arc::new(ChatRequest { max_tokens, ..ChatRequest::default() });
        driver.send_input(Input::SamplingRequested { request: request.into(), origin, chat });
    };
    let asked = |driver: &mut Driver| {
        driver.drain_commands(|order| match order {
            Command::RequestSampling { request, .. } => Some(request.to_string()),
            _ => None,
        })
    };
    let refused = |driver: &mut Driver| {
        driver.drain_commands(|order| match order {
            Command::AnswerSampling { request, result: Err(error) } => Some((request.to_string(), error.to_string())),
            _ => None,
        })
    };
    for request in ["a/1", "a/2", "a/3"] {
        request_sampling(&mut driver, request, 100);
    }
    request_sampling(&mut driver, "a/4", 200);
    assert_eq!(asked(&mut driver), ["a/1"]);
    let message = "a request can use up to 200 tokens, more than the run's budget of 150";
    assert_eq!(refused(&mut driver), [("a/4".to_owned(), message.to_owned())]);
    driver.send_input(Input::SamplingFinished { request: "a/1".into(), result: reply_using(20) });
    assert_eq!(asked(&mut driver), ["a/2"]);
    driver.send_input(Input::SamplingFinished { request: "a/2".into(), result: reply_using(130) });
    let message = "the budget is exhausted: tokens (150 of 150)";
    assert_eq!(refused(&mut driver), [("a/3".to_owned(), message.to_owned())]);
    driver.end("t", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn every_exhausted_budget_ends_the_run() {
    let one = |budget: Budget, task: fn(&str) -> Task| {
        let (first, second) = (task("t0"), Task { needs: vec!["t0".into()], ..task("t1") });
        Driver::connected(&plan_with_budget(budget, vec![first, second]))
    };
    let ask: fn(&str) -> Task = |id| text_prompt(prompt(id, &[], None));
    let work: fn(&str) -> Task = |id| task(id, &[]);
    let unlimited = Budget::default();
    for (budget, task, what) in [
        (Budget { llm_calls: Some(1), ..unlimited }, ask, "language model requests (1 of 1)"),
        (Budget { cost_usd: Some(0.01), ..unlimited }, ask, "cost (0.01 of 0.01 US dollars)"),
        (Budget { tool_calls: Some(1), ..unlimited }, work, "tool calls (1 of 1)"),
    ] {
        let mut driver = one(budget, task);
        driver.reply("t0", 1, reply_using(1));
        driver.end("t0", 1, Ok(text("x")));
        let cause = EndCause::BudgetSpent { what: what.into() };
        assert_eq!(driver.ended(), Some((RunStatus::Partial, Some(cause))), "{budget:?}");
    }
}

#[test]
fn time_budget_cancels_running_calls() {
    let budget = Budget { time: Some(HumanDuration(Duration::from_secs(9))), ..Budget::default() };
    let mut driver = Driver::connected(&plan_with_budget(budget, vec![task("t", &[])]));
    assert_eq!(driver.run.next_wakeup(), Some(Timestamp(10_000)));
    driver.sleep();
    let attempt = AttemptId { task: "t".into(), number: 1 };
    assert!(driver.commands.contains(&Command::CancelAttempt { attempt }));
    assert_eq!(driver.run.next_wakeup(), None, "there is nothing more to wake up for");
    driver.fail("t", 1, FailureKind::Cancelled);
    let cause = EndCause::BudgetSpent { what: "time (9s)".into() };
    assert_eq!(driver.ended(), Some((RunStatus::Failed, Some(cause))));
}

#[test]
fn task_budget_is_shared_by_items() {
    let each =
        Task { budget: Budget { tool_calls: Some(2), ..Budget::default() }, ..foreach_task(json!([1, 2, 3]), Some(1)) };
    let mut driver = Driver::connected(&plan(vec![each, task("other", &[])]));
    driver.end("each[0]", 1, Ok(text("x")));
    driver.end("each[1]", 1, Ok(text("x")));
    let Some(Outcome::Failed(failure)) = driver.outcome("each[2]") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::BudgetSpent);
    driver.end("other", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn exhausted_budget_rejects_sampling() {
    let budget = Budget { llm_calls: Some(0), ..Budget::default() };
    let mut driver = Driver::connected(&plan_with_budget(budget, vec![task("t", &[])]));
    let attempt = Some(AttemptId { task: "t".into(), number: 1 });
    let origin = SamplingOrigin::Agent(Origin { agent: "a".into(), attempt, key: None });
    driver.send_input(Input::SamplingRequested { request: "a/1".into(), origin, chat: Arc::default() });
    let refused = driver.drain_commands(|order| match order {
        Command::AnswerSampling { result: Err(error), .. } => Some(error.to_string()),
        _ => None,
    });
    assert_eq!(refused, ["the budget is exhausted: language model requests (0 of 0)"]);
    assert_eq!(spent_totals(&driver.run), (0, 1, 0, MicroDollars::default()));
    driver.end("t", 1, Ok(text("done without")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn planning_is_charged_to_the_run() {
    let usage = Usage { input_tokens: 30, output_tokens: 20 };
    let unlimited = Budget::default();
    for (budget, planning, what) in [
        (Budget { llm_calls: Some(2), ..unlimited }, planning(2, None), "language model requests (2 of 2)"),
        (Budget { tokens: Some(100), ..unlimited }, planning(2, Some(usage)), "tokens (100 of 100)"),
        (Budget { tokens: Some(100), ..unlimited }, planning(2, None), "tokens (180 of 100)"),
        (Budget { cost_usd: Some(0.02), ..unlimited }, planning(2, None), "cost (0.02 of 0.02 US dollars)"),
        // The sum of ten floating-point cents is less than a tenth of a dollar.
        (Budget { cost_usd: Some(0.1), ..unlimited }, planning(10, None), "cost (0.1 of 0.1 US dollars)"),
    ] {
        let plan = plan_with_budget(budget, vec![text_prompt(prompt("p", &[], None))]);
        let mut driver = Driver::start_planned(&plan, Some(&planning));
        assert_eq!(driver.records[1].event, Event::GoalPlanned(planning.clone()));
        let cause = EndCause::BudgetSpent { what: what.into() };
        assert_eq!(
            (driver.drain_model_requests().len(), driver.ended()),
            (0, Some((RunStatus::Failed, Some(cause)))),
            "{budget:?}"
        );
    }
    let plan = plan_with_budget(Budget { llm_calls: Some(3), ..unlimited }, vec![text_prompt(prompt("p", &[], None))]);
    assert_eq!(
        Driver::start_planned(&plan, Some(&planning(2, None))).drain_model_requests().len(),
        1,
        "one call is left"
    );
}

#[test]
fn discarded_calls_are_charged_to_the_run() {
    for (discarded, started) in [(0, 1), (1, 1), (2, 0)] {
        let budget = Budget { tool_calls: Some(2), ..Budget::default() };
        let plan = plan_with_budget(budget, vec![task("a", &[])]);
        let planning = GoalPlanning { discarded_calls: vec![discarded_call(); discarded], ..planning(1, None) };
        let mut driver = Driver::start_planned(&plan, Some(&planning));
        driver.connect_all();
        let calls = driver.records.iter().filter(|record| matches!(record.event, Event::AttemptStarted { .. }));
        let cause = EndCause::BudgetSpent { what: "tool calls (2 of 2)".into() };
        let ended = (started == 0).then_some((RunStatus::Failed, Some(cause)));
        assert_eq!((calls.count(), driver.ended()), (started, ended), "{discarded}");
    }
}

#[test]
fn fold_of_any_prefix_reproduces_spending() {
    let asked = text_prompt(prompt("p", &["a"], None));
    let budget = Budget { tokens: Some(10_000), tool_calls: Some(9), ..Budget::default() };
    let bounded_task = Task { budget: Budget { tokens: Some(500), ..Budget::default() }, ..asked };
    let plan = plan_with_budget(budget, vec![bounded_task, task("t", &[])]);
    let planned = planning(3, Some(Usage { input_tokens: 7, output_tokens: 2 }));
    let mut driver = Driver::start_planned(&plan, Some(&planned));
    let mut accounts = vec![(driver.records.len(), driver.run.ledger.clone())];
    let mut record_account = |driver: &Driver| accounts.push((driver.records.len(), driver.run.ledger.clone()));
    driver.connect_all();
    record_account(&driver);
    driver.reply("p", 1, tool_use_reply(&[("c1", "a.work")]));
    record_account(&driver);
    let attempt = Some(AttemptId { task: "p/1".into(), number: 1 });
    let origin = SamplingOrigin::Agent(Origin { agent: "a".into(), attempt, key: None });
    let chat = Arc::new(ChatRequest { max_tokens: 40, ..ChatRequest::default() });
    driver.send_input(Input::SamplingRequested { request: "a/1".into(), origin, chat });
    record_account(&driver);
    driver.send_input(Input::SamplingFinished { request: "a/1".into(), result: reply_using(12) });
    record_account(&driver);
    driver.end("p/1", 1, Ok(text("x")));
    record_account(&driver);
    driver.reply("p", 2, reply_using(30));
    record_account(&driver);
    for (until, accounts) in accounts {
        let folded = Run::fold(&driver.records[..until]).expect("a run");
        assert_eq!(folded.ledger, accounts, "after {until} events");
    }
    // The first reply did not report its usage, so its whole reservation is charged.
    let spent = spent_totals(&driver.run);
    let first = 104;
    assert_eq!(spent, (6, 2, 27 + first + 12 + 30, MicroDollars::from_usd(0.05)));
}
