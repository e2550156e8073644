//! Compares two runs, task by task. Durations do not count as differences.

use std::fmt::Write as _;
use std::time::Duration;

use indexmap::{IndexMap, IndexSet};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::run_details::RunDetails;
use crate::model::{AgentId, RunId, RunStatus, TaskId};
use crate::ui::text_table::{TableRow, TextTable};
use crate::view::text::{format_elapsed, truncated};
use crate::view::{TaskResult, TaskStatus};

/// The maximum length of a value that is shown, in characters.
const MAX_EXCERPT_CHARS: usize = 60;

/// A comparison of two runs.
///
/// Serializes to the object that `--output json` prints. Each pair holds the value of the first and of the second run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunsDiff {
    runs: [RunId; 2],
    /// Set if the runs differ in nothing but time.
    same: bool,
    status: [RunStatus; 2],
    same_plan: bool,
    same_inputs: bool,
    tasks: Vec<TaskDiff>,
}

/// A comparison of one task in two runs; `None` if a run does not have the task.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct TaskDiff {
    task: TaskId,
    same: bool,
    status: [Option<TaskStatus>; 2],
    /// Set if one of the results is from an earlier run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reused: bool,
    attempts: [u32; 2],
    agent: [Option<AgentId>; 2],
    /// The first difference of the outputs.
    output: Option<Difference>,
    #[serde(rename = "took_ms", serialize_with = "in_milliseconds")]
    durations: [Option<Duration>; 2],
}

/// Two values at one path.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Difference {
    /// The path in the syntax of expressions, such as `hits[2].title`; empty for the whole output.
    at: String,
    /// The values, or `None` if absent.
    values: [Option<Value>; 2],
}

impl RunsDiff {
    /// Compares two runs.
    pub fn new(runs: [&RunDetails; 2]) -> Self {
        let tasks = runs.map(|run| tasks_with_items(run).into_iter().collect::<IndexMap<TaskId, &TaskResult>>());
        let ids: IndexSet<&TaskId> = tasks.iter().flat_map(IndexMap::keys).collect();
        let diff = |id: &&TaskId| {
            let results = tasks.each_ref().map(|tasks| tasks.get(*id).copied());
            TaskDiff::new((*id).clone(), results, runs.map(|run| run.duration(id)))
        };
        let tasks: Vec<TaskDiff> = ids.iter().map(diff).collect();
        let status = runs.map(RunDetails::status);
        let [started, other] = runs.map(|run| run.view.start());
        let same_plan = started.map(|(plan, _)| plan) == other.map(|(plan, _)| plan);
        let same_inputs = started.map(|(_, inputs)| inputs) == other.map(|(_, inputs)| inputs);
        let same = status[0] == status[1] && same_plan && same_inputs && tasks.iter().all(|task| task.same);
        Self { runs: runs.map(|run| run.view.run().clone()), same, status, same_plan, same_inputs, tasks }
    }

    /// Returns whether the runs differ in nothing but time.
    pub fn is_same(&self) -> bool {
        self.same
    }

    /// Formats the comparison as text.
    pub fn text(&self) -> String {
        let mut head = TextTable::default();
        for (run, status) in self.runs.iter().zip(self.status) {
            head.push(TableRow::new(["run", run.short(), status.as_str()]));
        }
        let word = |same| if same { "same" } else { "different" };
        head.push(TableRow::new(["plan", word(self.same_plan)]));
        head.push(TableRow::new(["inputs", word(self.same_inputs)]));
        let mut tasks = TextTable::default();
        for task in &self.tasks {
            let durations = task.durations.map(|duration| duration.map_or_else(|| "-".to_owned(), format_elapsed));
            let result = if task.same && task.reused { "same (reused)" } else { word(task.same) };
            let row = TableRow::new([task.task.as_str(), result, &durations.join(" / ")]);
            tasks.push(task.difference_lines().into_iter().fold(row, TableRow::with_detail));
        }
        let mut text = head.to_string();
        if !tasks.is_empty() {
            let _ = write!(text, "\ntasks\n{tasks}");
        }
        text
    }
}

impl TaskDiff {
    fn new(task: TaskId, results: [Option<&TaskResult>; 2], durations: [Option<Duration>; 2]) -> Self {
        let status = results.map(|result| result.map(|result| result.status));
        let attempts = results.map(|result| result.map_or(0, |result| result.attempts));
        let agent = results.map(|result| result.and_then(|result| result.agent.clone()));
        let outputs = results.map(|result| result.and_then(|result| Some(result.output.as_ref()?.value())));
        let output = first_difference(outputs.each_ref().map(Option::as_deref), String::new());
        let reused = results.iter().flatten().any(|result| result.reused);
        // A reused result has no attempts of its own.
        let same_attempts = reused || attempts[0] == attempts[1];
        let same = status[0] == status[1] && same_attempts && agent[0] == agent[1] && output.is_none();
        Self { task, same, status, reused, attempts, agent, output, durations }
    }

    /// Returns the differences of a task, one line each.
    fn difference_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |what: &str, values: [String; 2]| {
            if values[0] != values[1] {
                lines.push(format!("{what}: {}", values.join(" / ")));
            }
        };
        compare(
            "status",
            self.status.map(|status| status.map_or_else(|| "no such task".to_owned(), |status| status.to_string())),
        );
        if !self.reused {
            compare("attempts", self.attempts.map(|attempts| attempts.to_string()));
        }
        let name = |agent: &Option<AgentId>| agent.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        compare("agent", self.agent.each_ref().map(name));
        if let Some(Difference { at, values }) = &self.output {
            let place = if at.is_empty() { String::new() } else { format!(" at `{}`", truncated(at)) };
            lines.push(format!("output{place}: {}", excerpts(values.each_ref().map(Option::as_ref)).join(" / ")));
        }
        lines
    }
}

/// Returns the tasks of a run, each `foreach` task followed by its items.
fn tasks_with_items(run: &RunDetails) -> Vec<(TaskId, &TaskResult)> {
    let mut all = Vec::new();
    for (id, task) in &run.view.result().tasks {
        all.push((id.clone(), task));
        all.extend(task.items.iter().flatten().enumerate().map(|(index, item)| (id.item(index), item)));
    }
    all
}

/// Returns the first path, in the order of the values, at which the values differ.
fn first_difference(values: [Option<&Value>; 2], at: String) -> Option<Difference> {
    match values {
        _ if values[0] == values[1] => None,
        [Some(Value::Object(first)), Some(Value::Object(second))] => {
            let keys: IndexSet<&String> = first.keys().chain(second.keys()).collect();
            let dot = if at.is_empty() { "" } else { "." };
            keys.into_iter()
                .find_map(|key| first_difference([first.get(key), second.get(key)], format!("{at}{dot}{key}")))
        }
        [Some(Value::Array(first)), Some(Value::Array(second))] => (0..first.len().max(second.len()))
            .find_map(|index| first_difference([first.get(index), second.get(index)], format!("{at}[{index}]"))),
        values => Some(Difference { at, values: values.map(|value| value.cloned()) }),
    }
}

/// Returns an excerpt of each value around the first difference.
fn excerpts(values: [Option<&Value>; 2]) -> [String; 2] {
    let texts = values.map(|value| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "nothing".to_owned(),
    });
    let common = texts[0].chars().zip(texts[1].chars()).take_while(|(first, second)| first == second).count();
    // Some common text before the difference shows where it is.
    let from = common.saturating_sub(MAX_EXCERPT_CHARS / 3);
    texts.map(|text| {
        let length = text.chars().count();
        let cut: String = text.chars().skip(from).take(MAX_EXCERPT_CHARS).collect();
        let before = if from > 0 { "…" } else { "" };
        let after = if length > from + MAX_EXCERPT_CHARS { "…" } else { "" };
        format!("{before}{}{after}", truncated(&cut))
    })
}

fn in_milliseconds<S: Serializer>(durations: &[Option<Duration>; 2], serializer: S) -> Result<S::Ok, S::Error> {
    durations.map(|duration| duration.map(|duration| duration.as_millis())).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::samples;
    use crate::model::{Event, Record, Timestamp};

    fn details(run: &str, events: &[Record]) -> RunDetails {
        let mut details = RunDetails::new(&run.into(), None);
        events.iter().for_each(|record| details.apply(record));
        details
    }

    /// Returns the records of the sample run, slower, with another booking, and with a task that failed at first.
    fn other_sample_run() -> Vec<Record> {
        let mut events = samples::sample_run();
        for record in &mut events {
            record.at = Timestamp(record.at.0 + record.seq * 500);
            if let Event::AttemptSucceeded { attempt, output } = &mut record.event
                && attempt.task.as_str() == "book"
            {
                *output = serde_json::from_value(json!({"content": [], "structured": {"id": 8, "late": true}}))
                    .expect("an output");
            }
            if let Event::AttemptStarted { attempt, agent, .. } = &mut record.event
                && attempt.task.as_str() == "read[1]"
            {
                *agent = "archive".into();
            }
        }
        events
    }

    #[test]
    fn durations_are_not_differences() {
        let mut slower = samples::sample_run();
        slower.iter_mut().for_each(|record| record.at = Timestamp(record.at.0 + record.seq * 500));
        let diff = RunsDiff::new([&details("a", &samples::sample_run()), &details("b", &slower)]);
        assert!(diff.is_same());
        insta::assert_snapshot!(diff.text(), @r"
        run     a     cancelled
        run     b     cancelled
        plan    same
        inputs  same

        tasks
        book     same  9.0s / 13.5s
        read     same  8.0s / 12.0s
        read[0]  same  2.0s / 3.0s
        read[1]  same  3.0s / 4.5s
        file     same  - / -
        post     same  - / -
        ");
    }

    #[test]
    fn lists_differences_by_task() {
        let diff = RunsDiff::new([&details("a", &samples::sample_run()), &details("b", &other_sample_run())]);
        assert!(!diff.is_same());
        insta::assert_snapshot!(diff.text(), @r"
        run     a     cancelled
        run     b     cancelled
        plan    same
        inputs  same

        tasks
        book     different  9.0s / 13.5s
            output at `id`: 7 / 8
        read     same       8.0s / 12.0s
        read[0]  same       2.0s / 3.0s
        read[1]  different  3.0s / 4.5s
            agent: research / archive
        file     same       - / -
        post     same       - / -
        ");
        let json = serde_json::to_value(&diff).expect("serializes");
        assert_eq!(json["runs"], json!(["a", "b"]));
        assert_eq!(
            json["tasks"][0],
            json!({
                "task": "book", "same": false, "status": ["succeeded", "succeeded"], "attempts": [2, 2],
                "agent": ["travel", "travel"], "output": {"at": "id", "values": [7, 8]}, "took_ms": [9000, 13500],
            })
        );
    }

    #[test]
    fn missing_task_is_a_difference() {
        let diff = RunsDiff::new([&details("a", &samples::sample_run()), &details("b", &samples::sample_run()[..1])]);
        let json = serde_json::to_value(&diff).expect("serializes");
        assert_eq!(json["tasks"][2]["status"], json!(["failed", null]));
        assert!(diff.text().contains("status: failed / no such task"), "{}", diff.text());
    }

    #[test]
    fn long_values_are_truncated_around_the_difference() {
        let text = |end: &str| json!("same ".repeat(100) + end + &" rest".repeat(100));
        let [first, second] = excerpts([Some(&text("one")), Some(&text("two"))]);
        assert!(first.starts_with("…") && first.contains("same one rest") && first.ends_with('…'), "{first}");
        assert!(second.contains("same two rest") && second.chars().count() <= MAX_EXCERPT_CHARS + 2, "{second}");
        assert_eq!(excerpts([Some(&json!({"a": 1})), None]), ["{\"a\":1}", "nothing"]);
    }
}
