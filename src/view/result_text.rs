//! Formats the result of a run as plain text for people and pipes. Tasks without an answer are always included.

use std::borrow::Cow;

use serde_json::Value;

use super::text::bytes_text;
use super::{ResultFile, RunResult, TaskResult, TaskStatus};
use crate::model::{TaskId, ToolOutput};

/// The part of a result that is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultScope {
    /// Also the tasks that failed, with the reasons.
    Everything,
    /// Only answers, because the failures are on the screen already.
    Answers,
}

/// Returns the plan's outputs, or else the synthesis, or else the answers that no other task uses, each under the title
/// of its task, in plan order, with the tasks that failed. A single output has no heading, so that it can be piped; nor
/// has the answer of the only task.
///
/// The text of agents is not escaped; callers that print it on a terminal must remove control characters. Ends with a
/// line break, unless empty.
pub fn result_text(result: &RunResult) -> String {
    scoped_result_text(result, ResultScope::Everything)
}

/// Returns the part of [`result_text`] within `scope`.
pub fn scoped_result_text(result: &RunResult, scope: ResultScope) -> String {
    let is_everything = scope == ResultScope::Everything;
    let RunResult { outputs, output_errors, tasks, .. } = result;
    let written = result.synthesis.as_ref().and_then(|id| tasks.get(id)?.output.as_ref());
    let sections: Vec<String> = match (outputs.len(), output_errors.len(), written) {
        (0, 0, Some(written)) => vec![value_text(&written.value()).into_owned()],
        (0, 0, None) => {
            let is_final = |id: &TaskId, task: &TaskResult| !task.is_needed && !id.is_resource_read();
            let shown =
                tasks.iter().filter(|(_, task)| !task.is_untriggered_hook()).filter(|(id, task)| match task.status {
                    TaskStatus::Succeeded => is_final(id, task),
                    // A task that failed explains why a later one is missing.
                    TaskStatus::Failed => is_everything,
                    _ => is_everything && is_final(id, task),
                });
            let shown: Vec<_> = shown.collect();
            match shown.as_slice() {
                [(id, task)] if task.status == TaskStatus::Succeeded => vec![task_body(id, task, scope)],
                shown => shown.iter().map(|(id, task)| section(id, task, scope)).collect(),
            }
        }
        (1, 0, _) => outputs.values().map(|output| value_text(output).into_owned()).collect(),
        _ => {
            let no_value = |(name, reason): (&String, &String)| with_heading(name, &format!("no value: {reason}"));
            // An output without a value is null in `outputs`.
            let values = outputs.iter().map(|(name, output)| match output_errors.get(name) {
                Some(reason) => no_value((name, reason)),
                None => with_heading(name, &value_text(output)),
            });
            let errors = output_errors.iter().filter(|(name, _)| !outputs.contains_key(*name)).map(no_value);
            // The cause of a missing value is among the tasks without an answer.
            let causes =
                tasks.iter().filter(|(_, task)| !output_errors.is_empty() && task.status != TaskStatus::Succeeded);
            let causes = causes.filter(|_| is_everything);
            values.chain(errors).chain(causes.map(|(id, task)| section(id, task, scope))).collect()
        }
    };
    let parts: Vec<_> =
        sections.iter().map(|section| section.trim_end()).filter(|section| !section.is_empty()).collect();
    match parts.is_empty() {
        true => String::new(),
        false => parts.join("\n\n") + "\n",
    }
}

fn with_heading(title: &str, body: &str) -> String {
    format!("## {title}\n\n{body}")
}

/// Returns the answer of a task, or the reason for its absence, and the same for each item under its ID. As
/// [`result_text`], it is not escaped, and ends with a line break unless empty.
pub fn task_text(id: &TaskId, task: &TaskResult) -> String {
    let body = task_body(id, task, ResultScope::Everything);
    match body.trim_end() {
        "" => String::new(),
        body => format!("{body}\n"),
    }
}

/// Returns a task under its title, followed by its items.
fn section(id: &TaskId, task: &TaskResult, scope: ResultScope) -> String {
    let title = task.title.as_deref().unwrap_or(id.as_str());
    with_heading(title, &task_body(id, task, scope))
}

fn task_body(id: &TaskId, task: &TaskResult, scope: ResultScope) -> String {
    let items = task.items.iter().flatten().enumerate();
    let items = items.filter(|(_, item)| scope == ResultScope::Everything || item.status == TaskStatus::Succeeded);
    let items = items.map(|(index, item)| format!("### {}\n\n{}", id.item(index), status_text(item)));
    let parts: Vec<String> = std::iter::once(status_text(task)).chain(items).filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

/// Returns the answer, or the reason for its absence.
fn status_text(task: &TaskResult) -> String {
    match (&task.output, &task.error, &task.skipped_because) {
        (Some(output), ..) => output_text(output, task),
        (_, Some(failure), _) => match &failure.help {
            Some(help) => format!("failed: {failure}\nhelp: {help}"),
            None => format!("failed: {failure}"),
        },
        (.., Some(reason)) => format!("skipped: {reason}"),
        // The answers of a `foreach` task are those of its items.
        _ if task.status == TaskStatus::Succeeded => match &task.items {
            Some(items) if items.is_empty() => "no items".to_owned(),
            _ => String::new(),
        },
        _ => task.status.to_string(),
    }
}

/// Returns the value of a task's output, and a summary of its non-text content.
fn output_text(output: &ToolOutput, task: &TaskResult) -> String {
    let value = output.value();
    let mut text = value_text(&value).into_owned();
    for line in content_lines(task) {
        if !repeats(&text, &line) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        }
    }
    text
}

/// Returns whether a line about a content says what the text says already: the same line, or the same address.
fn repeats(text: &str, line: &str) -> bool {
    let address = line.rsplit(' ').next().unwrap_or(line);
    let is_delimiter =
        |rest: &str| rest.chars().next().is_none_or(|next| next.is_whitespace() || "\"',;)>]".contains(next));
    let has_address = || text.match_indices(address).any(|(at, _)| is_delimiter(&text[at + address.len()..]));
    text.lines().any(|known| known.trim() == line) || address.contains("://") && has_address()
}

/// Returns a line for each content of a task's output that is not printed as text: the path, type, and size of a file, the
/// URI of a resource, or the kind of data.
pub fn content_lines(task: &TaskResult) -> Vec<String> {
    let mut files = task.files.iter();
    let blocks = task.output.iter().flat_map(|output| &output.content);
    let lines = blocks.filter_map(|block| match (block.saved_file(), block.text()) {
        (Some(saved), Some(_)) if !saved.is_text => {
            files.next();
            None
        }
        (Some(saved), _) => Some(match files.next() {
            Some(ResultFile { path, mime_type, bytes, .. }) => {
                let media = mime_type.as_deref().map(|media| format!("{media}, ")).unwrap_or_default();
                format!("{} ({media}{})", path.display(), bytes_text(*bytes))
            }
            None => saved.name,
        }),
        (None, _) => block.summary(),
    });
    lines.collect()
}

/// Returns text unchanged, and other JSON pretty-printed.
fn value_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(format!("{other:#}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use indexmap::IndexMap;
    use serde_json::json;

    use super::*;
    use crate::journal::samples;
    use crate::model::{ContentBlock, RunId, RunStatus, SavedFile};
    use crate::view::run_result;

    fn result(outputs: Value, output_errors: Value) -> RunResult {
        RunResult {
            outputs: serde_json::from_value(outputs).expect("an object"),
            output_errors: serde_json::from_value(output_errors).expect("an object"),
            ..run_result(&samples::sample_run_id(), &samples::sample_run())
        }
    }

    #[test]
    fn result_without_outputs_lists_tasks() {
        assert_eq!(
            result_text(&result(json!({}), json!({}))),
            "## Book a hotel\n\n{\n  \"id\": 7\n}\n\n\
            ## read\n\nfailed: 1 of 2 items failed\nhelp: `on_failure: continue` goes on\n\n\
            ### read[0]\n\nfailed: no such page\n\n### read[1]\n\nsecond page\n\n\
            ## file\n\nskipped: its condition `false` is false\n\n## post\n\ncancelled\n"
        );
    }

    #[test]
    fn single_output_has_no_heading() {
        assert_eq!(result_text(&result(json!({"brief": "# Brief\n"}), json!({}))), "# Brief\n");
        assert_eq!(result_text(&result(json!({"brief": {"a": [1]}}), json!({}))), "{\n  \"a\": [\n    1\n  ]\n}\n");
        assert_eq!(result_text(&result(json!({"brief": ""}), json!({}))), "");
    }

    #[test]
    fn multiple_outputs_have_headings() {
        assert_eq!(
            result_text(&result(json!({"hotel": "Lapa", "price": 420}), json!({}))),
            "## hotel\n\nLapa\n\n## price\n\n420\n"
        );
    }

    #[test]
    fn missing_output_lists_unsuccessful_tasks() {
        assert_eq!(
            result_text(&result(json!({"hotel": "Lapa"}), json!({"pages": "`read` failed"}))),
            "## hotel\n\nLapa\n\n## pages\n\nno value: `read` failed\n\n\
            ## read\n\nfailed: 1 of 2 items failed\nhelp: `on_failure: continue` goes on\n\n\
            ### read[0]\n\nfailed: no such page\n\n### read[1]\n\nsecond page\n\n\
            ## file\n\nskipped: its condition `false` is false\n\n## post\n\ncancelled\n"
        );
    }

    #[test]
    fn missing_output_is_printed_once() {
        let result = result(json!({"pages": null, "hotel": "Lapa", "none": null}), json!({"pages": "`read` failed"}));
        let text = result_text(&result);
        let start = "## pages\n\nno value: `read` failed\n\n## hotel\n\nLapa\n\n## none\n\nnull\n\n## read\n";
        assert!(text.starts_with(start), "{text}");
        let result = RunResult { outputs: IndexMap::from([("pages".to_owned(), Value::Null)]), ..result };
        assert!(super::result_text(&result).starts_with("## pages\n\nno value: `read` failed\n\n## read\n"));
    }

    #[test]
    fn run_without_tasks_prints_nothing() {
        let result = run_result(&RunId::from("run"), &[]);
        assert_eq!((result_text(&result), result.status), (String::new(), RunStatus::Running));
    }

    /// Returns the text of a task with this output, whose files are in `/files`.
    fn content_text(output: ToolOutput) -> String {
        let task = TaskResult { output: Some(output.into()), ..TaskResult::default() };
        let mut result = RunResult::default();
        result.tasks.insert("t".into(), task);
        result.locate_files(|name| Path::new("/files").join(name));
        status_text(&result.tasks["t"])
    }

    #[test]
    fn saved_content_is_described_by_its_file() {
        let file = |name: &str| {
            SavedFile { name: name.to_owned(), bytes: 1_536, sha256: "0".repeat(64), is_text: false }.reference()
        };
        let output: ToolOutput = serde_json::from_value(json!({"content": [
            {"type": "image", "mimeType": "image/png", "data": file("a-1.png")},
            {"type": "image", "mimeType": "image/png", "data": "AAAA"},
            {"type": "resource", "resource": {"uri": "archive://3", "blob": file("a-2.bin")}},
        ]}))
        .expect("an output");
        assert_eq!(
            content_text(output),
            "/files/a-1.png (image/png, 1.5 KiB)\n(image, image/png)\n/files/a-2.bin (1.5 KiB)"
        );
    }

    #[test]
    fn large_texts_are_described_by_their_files() {
        let file = SavedFile { name: "t-1.txt".to_owned(), bytes: 1_536, sha256: "0".repeat(64), is_text: true };
        let output = ToolOutput::new([ContentBlock::text_in_file(file.clone(), None)], Some(json!({"exit_code": 0})));
        assert_eq!(content_text(output.clone()), "{\n  \"exit_code\": 0\n}\n/files/t-1.txt (text/plain, 1.5 KiB)");
        let item = TaskResult { output: Some(output.into()), ..TaskResult::default() };
        let task = TaskResult { items: Some(vec![item]), ..TaskResult::default() };
        let mut result = RunResult::default();
        result.tasks.insert("t".into(), task);
        result.locate_files(|name| Path::new("/files").join(name));
        assert_eq!(result.large_texts(), [(&file, Path::new("/files/t-1.txt"))]);
    }

    #[test]
    fn repeated_links_are_printed_once() {
        let output: ToolOutput = serde_json::from_value(json!({
            "content": [
                {"type": "resource_link", "name": "brief", "uri": "archive://1"},
                {"type": "resource_link", "name": "notes", "uri": "archive://12"},
                {"type": "resource_link", "name": "notes", "uri": "archive://12"},
            ],
            "structured": {"uri": "archive://1"},
        }))
        .expect("an output");
        assert_eq!(content_text(output), "{\n  \"uri\": \"archive://1\"\n}\nnotes: archive://12");
    }

    #[test]
    fn answers_that_other_tasks_use_are_omitted() {
        let mut result = result(json!({}), json!({}));
        result.tasks["book"].is_needed = true;
        assert_eq!(scoped_result_text(&result, ResultScope::Answers), "");
        let all = result_text(&result);
        assert!(all.starts_with("## read\n\nfailed: 1 of 2 items failed\n"), "{all}");
        result.tasks["book"].is_needed = false;
        assert_eq!(scoped_result_text(&result, ResultScope::Answers), "{\n  \"id\": 7\n}\n");
    }

    #[test]
    fn non_text_content_is_described() {
        let output: ToolOutput = serde_json::from_value(json!({"content": [
            {"type": "text", "text": "stored"},
            {"type": "resource_link", "name": "brief", "uri": "archive://1"},
            {"type": "resource_link", "uri": "archive://2"},
            {"type": "resource", "resource": {"uri": "archive://3", "text": "…"}},
            {"type": "image", "mimeType": "image/png", "data": "AAAA"},
            {"type": "hologram"},
            {"no": "type"},
        ]}))
        .expect("an output");
        assert_eq!(
            content_text(output),
            "stored\nbrief: archive://1\narchive://2\narchive://3\n(image, image/png)\n(hologram)"
        );
    }
}
