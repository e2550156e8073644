//! Compares the agents' record with the journal, and reports every difference.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use kapell::model::{
    Asker, AttemptId, Effect, Event, Operation, Outcome, Plan, Record, RunStatus, SavedFile, Task, TaskId, Work,
};
use kapell::runtime::ContentStore;
use serde_json::Value;

/// The output of each task, and of the run under [`RUN_KEY`]. A `foreach` task itself has no entry.
pub(crate) type Outputs = BTreeMap<String, Value>;

/// The key of the run, which cannot be the name of a task.
const RUN_KEY: &str = "(the run)";

/// The effects of the agents: the attempt of each, in order.
#[derive(Debug, PartialEq)]
pub(crate) struct Effects(Vec<AttemptId>);

impl Effects {
    /// Reads the agents' record of one run. An effect without a valid key is an error.
    pub(crate) fn read(file: &Path) -> Self {
        Self(attempts(file).into_iter().map(|(_, attempt)| attempt).collect())
    }

    /// Reads the agents' record of several runs, by the ID of each.
    pub(crate) fn by_run(file: &Path) -> HashMap<String, Self> {
        let mut runs: HashMap<String, Self> = HashMap::new();
        for (run, attempt) in attempts(file) {
            runs.entry(run).or_insert_with(|| Self(Vec::new())).0.push(attempt);
        }
        runs
    }

    /// Returns whether there are no effects.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the attempts with more than one effect: calls that were made twice.
    fn duplicates(&self) -> HashSet<&AttemptId> {
        let mut seen = HashSet::new();
        self.0.iter().filter(|attempt| !seen.insert(*attempt)).collect()
    }

    /// Returns the numbers of the attempts by which `task` took effect.
    pub(crate) fn attempts_of(&self, task: &TaskId) -> Vec<u32> {
        self.0.iter().filter(|attempt| attempt.task == *task).map(|attempt| attempt.number).collect()
    }
}

/// Returns the run and the attempt of each effect in the agents' record.
fn attempts(file: &Path) -> Vec<(String, AttemptId)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let attempt = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let key = line["idempotency_key"].as_str().expect("a key").to_owned();
        // RUN/TASK/ATTEMPT; neither a run ID nor a number contains a slash.
        let (run, rest) = key.split_once('/').expect("a run");
        let (task, number) = rest.rsplit_once('/').expect("a task and a number");
        (run.to_owned(), AttemptId { task: task.into(), number: number.parse().expect("a number") })
    };
    text.lines().map(attempt).collect()
}

/// Returns the output of each task and of the run.
pub(crate) fn outputs(records: &[Record]) -> Outputs {
    let output = |record: &Record| match &record.event {
        Event::AttemptSucceeded { attempt, output } => {
            Some((attempt.task.to_string(), serde_json::to_value(output).expect("JSON")))
        }
        Event::RunEnded { outputs: Some(outputs), .. } => {
            Some((RUN_KEY.to_owned(), serde_json::to_value(outputs).expect("JSON")))
        }
        _ => None,
    };
    records.iter().filter_map(output).collect()
}

/// The calls of a run, according to its journal.
#[derive(Default)]
struct CallHistory {
    started: HashSet<AttemptId>,
    /// Tasks with a result: `Ok` if a call returned it, `Err` if a person confirmed it.
    results: HashMap<TaskId, Result<(), ConfirmedByPerson>>,
    /// Tasks that were expanded, with the number of their items.
    expanded: HashMap<TaskId, usize>,
    ended: Option<RunStatus>,
    problems: Vec<String>,
}

/// The effect of a call, confirmed by a person.
struct ConfirmedByPerson;

impl CallHistory {
    fn read(records: &[Record]) -> Self {
        let mut story = Self::default();
        for record in records {
            story.apply_event(&record.event);
        }
        story
    }

    fn apply_event(&mut self, event: &Event) {
        if self.ended.is_some_and(|status| status != RunStatus::Paused) {
            self.problems.push(format!("{event:?} came after the end of the run"));
        }
        match event {
            Event::AttemptStarted { attempt, .. } => {
                if self.results.contains_key(&attempt.task) {
                    self.problems.push(format!("{attempt} was started after its task had a result"));
                }
                if !self.started.insert(attempt.clone()) {
                    self.problems.push(format!("{attempt} was started twice"));
                }
            }
            Event::AttemptSucceeded { attempt, .. } => self.record_result(&attempt.task, Ok(())),
            Event::TasksAdded { parent, items } => {
                self.expanded.insert(parent.clone(), items.len());
            }
            Event::IterationAdded { parent, .. } => *self.expanded.entry(parent.clone()).or_default() += 1,
            Event::GroupStarted { task, .. }
            | Event::TimerStarted { task, .. }
            | Event::SignalAwaited { task, .. }
            | Event::WatchStarted { task, .. } => {
                self.expanded.entry(task.clone()).or_default();
            }
            Event::QuestionAsked { question, .. } => {
                if let Asker::Plan { task } = &question.asker {
                    self.expanded.entry(task.clone()).or_default();
                }
            }
            Event::TaskEnded { task, outcome: Outcome::Succeeded(_) } if self.expanded.contains_key(task) => {}
            Event::TaskEnded { task, outcome: Outcome::Succeeded(_) } => {
                self.record_result(task, Err(ConfirmedByPerson))
            }
            Event::TaskEnded { task, outcome } => self.problems.push(format!("`{task}` ended as {outcome:?}")),
            Event::RunEnded { status, .. } => self.ended = Some(*status),
            Event::RunResumed { .. } => self.ended = None,
            _ => {}
        }
    }

    fn record_result(&mut self, task: &TaskId, result: Result<(), ConfirmedByPerson>) {
        if self.results.insert(task.clone(), result).is_some() {
            self.problems.push(format!("`{task}` has two results"));
        }
    }

    /// Returns the calls of the plan, with the effect of repeating each.
    fn calls(&self, plan: &Plan) -> Vec<(TaskId, Effect)> {
        let mut calls = Vec::new();
        plan.tasks.iter().for_each(|task| self.add_calls(task, &task.id, &mut calls));
        calls
    }

    /// Adds the calls of the task with this ID in the run.
    fn add_calls(&self, task: &Task, id: &TaskId, calls: &mut Vec<(TaskId, Effect)>) {
        let ids = match self.expanded.get(id) {
            Some(items) if task.foreach.is_some() || task.repeat.is_some() => {
                (0..*items).map(|index| id.item(index)).collect()
            }
            _ => vec![id.clone()],
        };
        for id in ids {
            match &task.work {
                Work::Group(group) => {
                    group.tasks.iter().for_each(|member| self.add_calls(member, &id.member(&member.id), calls));
                }
                Work::Wait(_) | Work::Ask(_) => {}
                // Reading changes nothing, so such a task has no `effect`.
                Work::Call(call) if call.operation == Operation::ReadResource => calls.push((id, Effect::ReadOnly)),
                _ => calls.push((id, task.effect.expect("the plan says so of every other task"))),
            }
        }
    }
}

/// Checks a run that has ended.
///
/// # Errors
/// Returns all problems that were found.
pub(crate) fn check_run(records: &[Record], effects: &Effects, expected: &Outputs) -> Result<(), Vec<String>> {
    let Some(Event::RunStarted { plan, .. }) = records.first().map(|record| &record.event) else {
        return Err(vec!["the journal does not begin with a run".to_owned()]);
    };
    let mut story = CallHistory::read(records);
    let mut problems = std::mem::take(&mut story.problems);
    if story.ended != Some(RunStatus::Succeeded) {
        problems.push(format!("the run ended as {:?}", story.ended));
    }
    problems.extend(
        effects
            .0
            .iter()
            .filter(|attempt| !story.started.contains(*attempt))
            .map(|attempt| format!("{attempt} took effect, and the journal does not know that it was started")),
    );
    problems.extend(effects.duplicates().into_iter().map(|attempt| format!("{attempt} took effect twice")));
    let calls = story.calls(plan);
    let known: HashSet<&TaskId> = calls.iter().map(|(task, _)| task).collect();
    problems.extend(
        effects
            .0
            .iter()
            .filter(|attempt| !known.contains(&attempt.task))
            .map(|attempt| format!("{attempt} took effect, but is not a call of the plan")),
    );
    let mut returned = outputs(records);
    for (task, effect) in &calls {
        let attempts = effects.attempts_of(task);
        match story.results.get(task) {
            None => problems.push(format!("`{task}` has no result")),
            // The output of a confirmed call is lost, so the expected one stands in for it.
            Some(Err(ConfirmedByPerson)) => {
                let lost = expected.get(task.as_str()).cloned().unwrap_or_default();
                returned.insert(task.to_string(), lost);
            }
            Some(Ok(())) => {}
        }
        match attempts.len() {
            0 => problems.push(format!("`{task}` has a result and never took effect")),
            1 => {}
            _ if *effect == Effect::AtMostOnce => {
                problems.push(format!("`{task}` ({effect:?}) took effect by the attempts {attempts:?}"));
            }
            _ => {}
        }
    }
    let both = expected.keys().chain(returned.keys()).collect::<HashSet<_>>();
    for task in both {
        let (expected, returned) = (expected.get(task), returned.get(task));
        if expected != returned {
            problems.push(format!("`{task}` returned {returned:?}, and without a kill {expected:?}"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Checks that each file that the journal refers to exists and has the contents of its hash.
///
/// # Errors
/// Returns the problems with all other references.
pub(crate) fn check_files(records: &[Record], files: &ContentStore) -> Result<(), Vec<String>> {
    let problem = |record: &Record| {
        let mut event = serde_json::to_value(&record.event).expect("JSON");
        match files.restore(&mut event) {
            Err(error) => Some(error.to_string()),
            // The reference to a file with other contents is not replaced.
            Ok(()) => {
                SavedFile::find(&event.to_string()).map(|(file, _)| format!("`{}` has other contents", file.name))
            }
        }
    };
    let problems: Vec<String> = records.iter().filter_map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}
