//! The result of a run, which is the object that `--output json` prints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::engine::SpendingTotals;
use crate::engine::synthesis::unfinished::UnfinishedTask;
use crate::model::{AgentId, EndCause, Failure, IdMap, RunId, RunStatus, SavedFile, SkipReason, TaskId, ToolOutput};

/// The result of a run: the object that `--output json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunResult {
    /// The run.
    pub run: RunId,
    /// The final status, or `running`.
    pub status: RunStatus,
    /// The cause, unless the status is self-explanatory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<EndCause>,
    /// The plan's `outputs` by name; empty if it has none.
    pub outputs: IndexMap<String, Value>,
    /// The outputs that could not be evaluated, each with the reason.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub output_errors: IndexMap<String, String>,
    /// The other tasks without a result, in a run that ends in a synthesis.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_done: Vec<UnfinishedTask>,
    /// The part of the goal that the run did not reach, if its plan or a replan names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Whether the synthesized answer agrees with the results; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// The disagreements between the synthesized answer and the results.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The total spending of the run.
    pub spent: SpendingTotals,
    /// The task that synthesizes one answer from all others, if any.
    #[serde(skip)]
    pub synthesis: Option<TaskId>,
    /// The plan's tasks, in its order.
    pub tasks: IdMap<TaskId, TaskResult>,
}

impl RunResult {
    /// Sets the files of all tasks. `locate` returns the path of a file by its name within the run.
    pub fn locate_files(&mut self, locate: impl Fn(&str) -> PathBuf) {
        self.tasks.values_mut().for_each(|task| task.locate_files(&locate));
    }

    /// Returns the result of a task of the plan, of an item such as `read[2]`, or of a task in a group such as
    /// `each[2].get`.
    pub fn task(&self, id: &TaskId) -> Option<&TaskResult> {
        let (mut tasks, mut found) = (Some(&self.tasks), None);
        for part in id.as_str().split('.') {
            let mut names = part.split('[');
            let mut task = tasks?.get(names.next()?)?;
            for index in names {
                task = task.items.as_ref()?.get(index.strip_suffix(']')?.parse::<usize>().ok()?)?;
            }
            (tasks, found) = (task.tasks.as_ref(), Some(task));
        }
        found
    }

    /// Returns the large texts of its tasks, to which its outputs can refer, with their paths.
    pub fn large_texts(&self) -> Vec<(&SavedFile, &Path)> {
        let mut texts = Vec::new();
        self.tasks.values().for_each(|task| task.add_large_texts(&mut texts));
        texts
    }

    /// Returns whether the answer of the run is JSON from its synthesis.
    pub fn has_structured_synthesis(&self) -> bool {
        let output = self.synthesis.as_ref().and_then(|id| self.tasks.get(id)?.output.as_ref());
        output.is_some_and(|output| output.structured.is_some())
    }
}

/// The result of a task, or of one item of a `foreach` task.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TaskResult {
    /// The heading of its answer; the ID is used if absent.
    #[serde(skip)]
    pub title: Option<String>,
    /// Set if another task of the plan uses its result, apart from a synthesis.
    #[serde(skip)]
    pub is_needed: bool,
    /// The status.
    pub status: TaskStatus,
    /// The agent of its latest attempt; absent without an attempt, and for a `foreach` task.
    pub agent: Option<AgentId>,
    /// The tool of its latest attempt.
    pub tool: Option<Arc<str>>,
    /// The number of attempts; for a `foreach` task, those of all its items.
    pub attempts: u32,
    /// True if the answer is from an earlier run, and this run made no attempt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    /// The answer, if it succeeded; serialized as the value of `tasks.X.output`.
    #[serde(serialize_with = "serialize_value")]
    pub output: Option<Arc<ToolOutput>>,
    /// The files that hold its binary and large contents; empty until [`RunResult::locate_files`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ResultFile>,
    /// The violation of the tool's output schema, if the agents file accepts such results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<Box<str>>,
    /// The failure, if it failed.
    pub error: Option<Box<Failure>>,
    /// The reason for skipping, if it was skipped.
    #[serde(serialize_with = "serialize_reason")]
    pub skipped_because: Option<SkipReason>,
    /// The number of the replan that its failure triggered, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replanned: Option<u32>,
    /// The items of a `foreach` task, or the iterations of a `repeat` task, in order; absent for any other task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<TaskResult>>,
    /// The tasks of a group that has started, in order; absent for any other task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<IdMap<TaskId, TaskResult>>,
}

/// A file with binary or large contents of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResultFile {
    /// The path.
    pub path: PathBuf,
    /// The MIME type, if the agent stated it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The size in bytes.
    pub bytes: u64,
    /// The name under which the plan saves it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_as: Option<String>,
}

impl TaskResult {
    /// Returns whether it is a hook, and what it waits for did not happen.
    pub fn is_untriggered_hook(&self) -> bool {
        self.skipped_because == Some(SkipReason::NotTriggered)
    }

    fn add_large_texts<'r>(&'r self, texts: &mut Vec<(&'r SavedFile, &'r Path)>) {
        let blocks = self.output.iter().flat_map(|output| &output.content);
        let in_files = blocks.filter(|block| block.saved_file().is_some());
        texts.extend(in_files.zip(&self.files).filter_map(|(block, file)| Some((block.file_of_text()?, &*file.path))));
        let tasks = self.tasks.iter().flat_map(IdMap::values);
        self.items.iter().flatten().chain(tasks).for_each(|task| task.add_large_texts(texts));
    }

    fn locate_files(&mut self, locate: &impl Fn(&str) -> PathBuf) {
        let blocks = self.output.iter().flat_map(|output| &output.content);
        let files = blocks.filter_map(|block| {
            let SavedFile { name, bytes, .. } = block.saved_file()?;
            let mime_type = block.mime_type().map(str::to_owned);
            Some(ResultFile { path: locate(&name), mime_type, bytes, saved_as: None })
        });
        let structured = self.output.iter().filter_map(|output| output.structured_file.as_deref()).map(|file| {
            let mime_type = Some("application/json".to_owned());
            ResultFile { path: locate(&file.name), mime_type, bytes: file.bytes, saved_as: None }
        });
        let saved = self.output.iter().filter_map(|output| output.saved.as_deref()).map(|saved| {
            let path = locate(&format!("saved/{}", saved.name));
            ResultFile { path, mime_type: None, bytes: saved.bytes, saved_as: Some(saved.name.clone()) }
        });
        self.files = files.chain(structured).chain(saved).collect();
        self.items.iter_mut().flatten().for_each(|item| item.locate_files(locate));
        self.tasks.iter_mut().flatten().for_each(|(_, task)| task.locate_files(locate));
    }
}

/// The status of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TaskStatus {
    /// No attempt is in progress: it waits for other tasks, for its next attempt, or for a person.
    #[default]
    Waiting,
    /// An attempt is in progress.
    Running,
    /// It has an answer.
    Succeeded,
    /// It failed.
    Failed,
    /// It never started.
    Skipped,
    /// The run was cancelled before it ended.
    Cancelled,
}

/// Serializes [`ToolOutput::value`] without copying it.
fn serialize_value<S: Serializer>(output: &Option<Arc<ToolOutput>>, serializer: S) -> Result<S::Ok, S::Error> {
    match output {
        None => serializer.serialize_none(),
        Some(output) => match &output.structured {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(&output.text()),
        },
    }
}

fn serialize_reason<S: Serializer>(reason: &Option<SkipReason>, serializer: S) -> Result<S::Ok, S::Error> {
    match reason {
        None => serializer.serialize_none(),
        Some(reason) => serializer.collect_str(reason),
    }
}
