//! Invariants of all histories.

use crate::engine::tests::*;

/// Checks the invariants that hold for every history.
pub(crate) fn check_invariants(plan: &Plan, records: &[Record]) -> Result<(), TestCaseError> {
    let base = |id: &TaskId| TaskId::planned_task_name(id.as_str()).to_owned();
    let mut tasks: HashMap<String, &Arc<Task>> = plan.tasks.iter().map(|task| (task.id.to_string(), task)).collect();
    let mut agents = plan.agents.clone();
    let mut replanning = false;
    let mut interrupted = false;
    let mut replans = 0;
    let mut started: HashSet<String> = HashSet::new();
    let mut ended: HashSet<String> = HashSet::new();
    let mut expected: HashSet<String> = tasks.keys().cloned().collect();
    let mut running: HashMap<AttemptId, AgentId> = HashMap::new();
    let mut tries: HashMap<(String, AgentId), u32> = HashMap::new();
    let mut done_for: HashSet<String> = HashSet::new();
    let mut calls = 0;
    let mut group_calls: HashMap<String, u64> = HashMap::new();
    let mut over_time: HashSet<String> = HashSet::new();
    // Attempts of other operations than a tool.
    let mut reads: HashSet<AttemptId> = HashSet::new();
    for record in records {
        match &record.event {
            Event::TasksAdded { parent, items } => {
                prop_assert!(!replanning || items.is_empty(), "`{parent}` began during a replan");
                started.insert(parent.to_string());
                expected.extend((0..items.len()).map(|index| parent.item(index).to_string()));
            }
            Event::GroupStarted { task, .. } => {
                let is_new = started.insert(base(task));
                prop_assert!(!replanning || !is_new, "`{task}` began during a replan");
                let members = definition(&tasks, task).members();
                expected.extend(members.iter().map(|member| task.member(&member.id).to_string()));
            }
            Event::IterationAdded { parent, .. } => {
                let is_new = started.insert(base(parent));
                prop_assert!(!replanning || !is_new, "`{parent}` began during a replan");
                let earlier = expected.iter().filter(|id| is_iteration_of(id, parent)).count();
                if let Some(last) = earlier.checked_sub(1) {
                    prop_assert!(ended.contains(parent.item(last).as_str()), "two iterations of `{parent}` at once");
                }
                let repeat = definition(&tasks, parent).repeat.as_ref();
                prop_assert!(repeat.is_some_and(|repeat| earlier < repeat.max as usize), "too many iterations");
                expected.insert(parent.item(earlier).to_string());
            }
            Event::TimerStarted { task, .. } | Event::SignalAwaited { task, .. } | Event::WatchStarted { task, .. } => {
                prop_assert!(!ended.contains(task.as_str()), "`{task}` waits after its end");
                let is_new = started.insert(base(task));
                prop_assert!(!replanning || !is_new, "`{task}` began during a replan");
            }
            Event::RunFinalizing { .. } => {
                let is_hook = |id: &String| definition(&tasks, &TaskId::from(id.as_str())).hook.is_some();
                let open = expected.iter().find(|id| !ended.contains(*id) && !is_hook(id));
                prop_assert!(interrupted || open.is_none(), "the hooks of the plan run before {open:?} has ended");
            }
            Event::PlanTimeSpent { task, .. } => {
                prop_assert!(over_time.insert(task.to_string()), "the time of `{task}` ended twice");
            }
            Event::InterruptRequested => interrupted = true,
            Event::RunResumed { .. } => interrupted = false,
            Event::ReplanStarted { number, .. } => {
                replans += 1;
                prop_assert!(!replanning && *number == replans, "replan {number} is out of turn");
                prop_assert!(plan.replan.is_some_and(|policy| replans <= policy.max_replans), "too many replans");
                replanning = true;
            }
            Event::Replanned { result, .. } => {
                prop_assert!(std::mem::take(&mut replanning), "a replan ended that had not begun");
                let Ok(patch) = result else { continue };
                for id in &patch.removed {
                    prop_assert!(!started.contains(id.as_str()), "`{id}` was left out after it had started");
                }
                for task in &patch.added {
                    prop_assert!(tasks.insert(task.id.to_string(), task).is_none(), "`{}` was there already", task.id);
                    expected.insert(task.id.to_string());
                }
                agents.extend(patch.agents.clone());
            }
            Event::QuestionAsked { question, .. } => {
                if let Asker::Plan { task } = &question.asker {
                    started.insert(base(task));
                }
            }
            Event::ToolCallsAdded { parent, calls } => {
                // The request for the prompt of an agent begins its task.
                let is_new = started.insert(base(parent));
                prop_assert!(!replanning || !is_new, "`{parent}` began during a replan");
                let earlier = expected.iter().filter(|id| id.starts_with(&format!("{parent}/"))).count();
                expected.extend((0..calls.len()).map(|index| parent.tool_call(earlier + index + 1).to_string()));
            }
            Event::ModelRequested { attempt, .. } => {
                let is_new = started.insert(base(&attempt.task));
                prop_assert!(!replanning || !is_new, "`{}` began during a replan", attempt.task);
                let prompt = AgentId::from("the model");
                prop_assert!(!ended.contains(attempt.task.as_str()), "`{}` was asked after its end", attempt.task);
                prop_assert!(attempt.number <= 4 * 3, "{attempt}: too many requests");
                prop_assert!(running.insert(attempt.clone(), prompt).is_none(), "{attempt} was asked twice");
                prop_assert!(running.len() <= plan.max_parallel, "more in flight than `max_parallel`");
            }
            Event::ModelReplied { attempt, .. } => {
                prop_assert!(running.remove(attempt).is_some(), "{attempt} was answered without having been asked");
            }
            Event::AttemptStarted { attempt, agent, tool } => {
                if **tool != *"work" {
                    reads.insert(attempt.clone());
                }
                let task = definition(&tasks, &attempt.task);
                let is_new = started.insert(base(&attempt.task));
                let is_hook = task.hook.is_some();
                prop_assert!(!replanning || !is_new || is_hook, "`{}` began during a replan", attempt.task);
                let scope = attempt.task.as_str().rsplit_once('.').map(|(group, _)| TaskId::from(group));
                for need in &task.needs {
                    let need = scope.as_ref().map_or_else(|| need.clone(), |group| group.member(need));
                    prop_assert!(ended.contains(need.as_str()), "`{}` started before `{need}` ended", attempt.task);
                }
                prop_assert!(!ended.contains(attempt.task.as_str()), "`{}` ran twice", attempt.task);
                prop_assert!(!done_for.contains(attempt.task.as_str()), "`{}` was repeated", attempt.task);
                prop_assert!(!running.keys().any(|other| other.task == attempt.task), "two attempts at once");
                prop_assert!(running.insert(attempt.clone(), agent.clone()).is_none(), "{attempt} started twice");
                let count = tries.entry((attempt.task.to_string(), agent.clone())).or_default();
                *count += 1;
                calls += u64::from(task.hook.is_none());
                if let Some((group, _)) = attempt.task.as_str().rsplit_once('.')
                    && task.hook.is_none()
                {
                    let group = TaskId::from(group);
                    *group_calls.entry(attempt.task.to_string()).or_default() += 1;
                    *group_calls.entry(group.to_string()).or_default() += 1;
                    let of_group = definition(&tasks, &group).group().and_then(|group| group.plan.as_deref());
                    let limits = [(group, of_group.map(|plan| plan.budget)), (attempt.task.clone(), Some(task.budget))];
                    for (id, budget) in limits {
                        let limit = budget.and_then(|budget| budget.tool_calls);
                        let made: u64 = group_calls[id.as_str()];
                        prop_assert!(limit.is_none_or(|limit| made <= limit), "`{id}` is over its budget");
                    }
                    let is_over = |id: &&str| over_time.contains(*id);
                    prop_assert!(attempt.task.enclosing_ids().find(is_over).is_none(), "{attempt} is too late");
                }
                prop_assert!(*count <= task.retry.max_attempts.max(2), "{attempt}: too many tries");
                // The model requests of an interrupted run are repeated, so hooks do not wait for them.
                let replies =
                    running.values().filter(|other| interrupted && **other == AgentId::from("the model")).count();
                prop_assert!(running.len() - replies <= plan.max_parallel, "more in flight than `max_parallel`");
                let on_agent = running.values().filter(|other| *other == agent).count();
                prop_assert!(on_agent <= agents[agent].max_concurrency, "agent `{agent}` is over its limit");
                if let Some(limit) = task.foreach.as_ref().and_then(|foreach| foreach.max_parallel) {
                    let of_a_prompt = !matches!(task.work, Work::Call(_));
                    let siblings = running.keys().filter(|other| base(&other.task) == base(&attempt.task)).count();
                    prop_assert!(of_a_prompt || siblings <= limit, "`foreach` is over its limit");
                }
            }
            Event::AttemptSucceeded { attempt, .. } => {
                prop_assert!(running.remove(attempt).is_some(), "{attempt} ended without having started");
                prop_assert!(ended.insert(attempt.task.to_string()), "`{}` ended twice", attempt.task);
            }
            Event::AttemptFailed { attempt, failure } => {
                let agent = running.remove(attempt);
                prop_assert!(agent.is_some(), "{attempt} ended without having started");
                if failure.kind == FailureKind::Interrupted {
                    let count = tries.get_mut(&(attempt.task.to_string(), agent.expect("looked at before")));
                    *count.expect("it was started") -= 1;
                }
                let effect = match reads.contains(attempt) {
                    true => Effect::ReadOnly,
                    false => definition(&tasks, &attempt.task).effect.unwrap_or(Effect::AtMostOnce),
                };
                let ambiguous = matches!(
                    failure.kind,
                    FailureKind::ConnectionLost | FailureKind::IdleTimeout | FailureKind::InvalidResult
                );
                if (ambiguous && effect == Effect::AtMostOnce) || failure.kind == FailureKind::Cancelled {
                    done_for.insert(attempt.task.to_string());
                }
            }
            Event::TaskEnded { task, .. } => {
                prop_assert!(ended.insert(task.to_string()), "`{task}` ended twice");
            }
            _ => {}
        }
    }
    prop_assert!(plan.budget.tool_calls.is_none_or(|limit| calls <= limit), "{calls} calls are over the budget");
    prop_assert!(running.is_empty(), "attempts without an end: {running:?}");
    let Some(Event::RunEnded { status, .. }) = records.last().map(|record| &record.event) else {
        return Err(TestCaseError::fail("the last event is not the end of the run"));
    };
    if *status != RunStatus::Paused {
        prop_assert_eq!(ended, expected, "tasks were lost");
    }
    check_spending(records)
}

/// Returns the definition of a task, of an item, or of a task in a group.
fn definition<'t>(tasks: &HashMap<String, &'t Arc<Task>>, id: &TaskId) -> &'t Task {
    let mut parts = id.as_str().split('.').map(TaskId::planned_task_name);
    let planned = &**tasks[parts.next().expect("a name")];
    parts.fold(planned, |group, name| {
        let mut members = group.members().iter();
        members.find(|member| member.id.as_str() == name).expect("a task of the group")
    })
}

/// Returns whether an ID is that of an iteration, and not of a part of one.
fn is_iteration_of(id: &str, parent: &TaskId) -> bool {
    let index = id.strip_prefix(parent.as_str()).and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'));
    index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Counts the spending of a run without the ledger. Replies that a killed process lost cannot be counted so.
fn check_spending(records: &[Record]) -> Result<(), TestCaseError> {
    let (mut llm_calls, mut tool_calls, mut tokens) = (0, 0, 0);
    let mut count_usage = |usage: Option<Usage>| {
        tokens += usage.map_or(0, |usage| usage.input_tokens + usage.output_tokens);
    };
    for record in records {
        match &record.event {
            Event::RunResumed { .. } => return Ok(()),
            Event::AttemptStarted { .. } => tool_calls += 1,
            Event::ModelRequested { .. } | Event::SamplingStarted { .. } => llm_calls += 1,
            Event::GoalPlanned(planning) => {
                llm_calls += planning.exchanges.len() as u64;
                tool_calls += planning.discarded_calls.len() as u64;
                planning.exchanges.iter().for_each(|exchange| count_usage(exchange.usage));
            }
            Event::ModelReplied { result, .. } | Event::SamplingFinished { result, .. } => match result {
                Ok(reply) => count_usage(reply.usage),
                // No model was asked.
                Err(ChatError::Unsupported { .. }) => llm_calls -= 1,
                Err(_) => {}
            },
            _ => {}
        }
    }
    let spent = crate::view::run_result(&"r".into(), records).spent;
    let shown = (spent.llm_calls, spent.tool_calls, spent.input_tokens + spent.output_tokens);
    prop_assert_eq!(shown, (llm_calls, tool_calls, tokens), "what is shown differs from what the events say");
    Ok(())
}
