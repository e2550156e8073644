//! Reads a reply while a model writes it: which tasks are complete, and whether the model only repeats itself.

use serde_json::Value;

/// The key of the list of tasks.
const TASKS_KEY: &str = "\"tasks\"";
/// The number of successive tasks that repeat earlier ones, from which on a reply only repeats itself. A goal can need the
/// same call a few times.
const MAX_REPEATED_TASKS: usize = 3;
/// The length of text that only repeats itself, and the maximum length of the repeated part.
const REPETITIVE_CHARS: usize = 600;
const MAX_PERIOD_CHARS: usize = 80;
/// The number of new bytes after which the text is checked again.
const CHECK_INTERVAL_BYTES: usize = 64;
/// The length from which on a task that has not ended never does.
const MAX_TASK_BYTES: usize = 8_000;

/// A reply in progress.
#[derive(Debug, Default)]
pub(in crate::planner) struct StreamedReply {
    text: String,
    scan: ScanState,
    /// The complete tasks.
    tasks: Vec<Value>,
    /// The number of last tasks that repeat earlier ones.
    repeated_tasks: usize,
    /// The length of the text at the last check.
    checked_bytes: usize,
    is_repetitive: bool,
}

/// What the scanner looks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ScanState {
    /// The list of tasks.
    #[default]
    List,
    /// The start of the next task, from this byte on.
    Task { at: usize },
    /// The end of a task.
    End { start: usize, at: usize, depth: usize, place: JsonPlace },
    /// Nothing: the list has ended.
    Done,
}

/// Where a byte of JSON is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonPlace {
    Outside,
    Text,
    /// After a backslash in a text.
    Escape,
}

impl StreamedReply {
    /// Adds a piece of the reply. Returns the number of tasks that were complete before it.
    pub(in crate::planner) fn push(&mut self, piece: &str) -> usize {
        let before = self.tasks.len();
        self.text.push_str(piece);
        while self.advance() {}
        if self.text.len() >= self.checked_bytes + CHECK_INTERVAL_BYTES {
            self.checked_bytes = self.text.len();
            self.is_repetitive |= ends_repetitively(&self.text);
        }
        before
    }

    /// Returns the text so far.
    pub(in crate::planner) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the complete tasks.
    pub(in crate::planner) fn tasks(&self) -> &[Value] {
        &self.tasks
    }

    /// Returns whether the last task repeats an earlier one.
    pub(in crate::planner) fn has_repeated_task(&self) -> bool {
        self.repeated_tasks > 0
    }

    /// Returns whether the model no longer writes anything new, or does not end a task.
    pub(in crate::planner) fn is_endless(&self) -> bool {
        let is_task_endless =
            matches!(self.scan, ScanState::End { start, .. } if self.text.len() - start > MAX_TASK_BYTES);
        is_task_endless || self.is_repetitive || self.repeated_tasks >= MAX_REPEATED_TASKS
    }

    /// Scans to the next event. Returns false if more text is needed.
    fn advance(&mut self) -> bool {
        match self.scan {
            ScanState::Done => false,
            ScanState::List => {
                let Some(key) = self.text.find(TASKS_KEY) else { return false };
                let rest = &self.text[key + TASKS_KEY.len()..];
                let list = rest.trim_start().strip_prefix(':').map(str::trim_start);
                match list {
                    None if rest.trim().is_empty() => false,
                    Some("") => false,
                    Some(list) if list.starts_with('[') => {
                        self.scan = ScanState::Task { at: self.text.len() - list.len() + 1 };
                        true
                    }
                    _ => {
                        self.scan = ScanState::Done;
                        false
                    }
                }
            }
            ScanState::Task { at } => {
                let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
                let rest = &self.text.as_bytes()[at..];
                let Some(skipped) = rest.iter().position(|byte| !is_between(byte)) else { return false };
                let start = at + skipped;
                self.scan = match rest[skipped] {
                    b'{' => ScanState::End { start, at: start, depth: 0, place: JsonPlace::Outside },
                    _ => ScanState::Done,
                };
                true
            }
            ScanState::End { start, at, depth, place } => self.find_end(start, (at, depth, place)),
        }
    }

    /// Looks for the end of the task that starts at `start`, from a byte at a depth and in a place.
    fn find_end(&mut self, start: usize, (at, mut depth, mut place): (usize, usize, JsonPlace)) -> bool {
        for (offset, byte) in self.text.as_bytes()[at..].iter().enumerate() {
            place = match (place, byte) {
                (JsonPlace::Escape, _) => JsonPlace::Text,
                (JsonPlace::Text, b'\\') => JsonPlace::Escape,
                (JsonPlace::Text, b'"') => JsonPlace::Outside,
                (JsonPlace::Text, _) => JsonPlace::Text,
                (JsonPlace::Outside, b'"') => JsonPlace::Text,
                (JsonPlace::Outside, b'{') => {
                    depth += 1;
                    JsonPlace::Outside
                }
                (JsonPlace::Outside, b'}') => {
                    depth = depth.saturating_sub(1);
                    JsonPlace::Outside
                }
                (JsonPlace::Outside, _) => JsonPlace::Outside,
            };
            if depth == 0 && place == JsonPlace::Outside {
                let end = at + offset + 1;
                self.scan = match serde_json::from_str::<Value>(&self.text[start..end]) {
                    Ok(task) => {
                        self.add(task);
                        ScanState::Task { at: end }
                    }
                    Err(_) => ScanState::Done,
                };
                return true;
            }
        }
        self.scan = ScanState::End { start, at: self.text.len(), depth, place };
        false
    }

    fn add(&mut self, task: Value) {
        match self.tasks.iter().any(|earlier| does_same(earlier, &task)) {
            true => self.repeated_tasks += 1,
            false => self.repeated_tasks = 0,
        }
        self.tasks.push(task);
    }
}

/// Returns the tasks before the first one that repeats an earlier one.
pub(in crate::planner) fn tasks_before_repetition(tasks: &[Value]) -> &[Value] {
    let is_repeated = |index: &usize| tasks[..*index].iter().any(|earlier| does_same(earlier, &tasks[*index]));
    let end = (0..tasks.len()).find(is_repeated);
    &tasks[..end.unwrap_or(tasks.len())]
}

/// Returns whether two tasks do the same, whatever their titles.
fn does_same(one: &Value, other: &Value) -> bool {
    let keys = ["tool", "args", "each", "if"];
    one.get("tool").is_some() && keys.iter().all(|key| one.get(key) == other.get(key))
}

/// Returns whether the text ends in a short part that is repeated many times.
fn ends_repetitively(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(start) = bytes.len().checked_sub(REPETITIVE_CHARS) else { return false };
    let tail = &bytes[start..];
    (1..=MAX_PERIOD_CHARS).any(|period| tail[period..] == tail[..tail.len() - period])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Returns the reply after all pieces.
    fn read(text: &str, piece_chars: usize) -> StreamedReply {
        let mut reply = StreamedReply::default();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(piece_chars.max(1)) {
            reply.push(&piece.iter().collect::<String>());
        }
        reply
    }

    fn task(tool: &str, argument: &str) -> Value {
        json!({"title": format!("{tool} \"{argument}\""), "tool": tool, "args": {"a": [argument, {"b": "}]\\"}]}})
    }

    #[test]
    fn tasks_are_known_when_they_are_complete() {
        let tasks = [task("box.find", "é"), task("box.store", "{")];
        let text = format!("Sure:\n```json\n{{\"missing\": null, {}", &json!({ "tasks": tasks }).to_string()[1..]);
        for piece_chars in [1, 2, 7, 1_000] {
            let reply = read(&text, piece_chars);
            assert_eq!(reply.tasks(), tasks);
            assert!(!reply.is_endless() && !reply.has_repeated_task());
        }
        let mut reply = StreamedReply::default();
        let end = text.find("box.store").expect("the second task");
        assert_eq!((reply.push(&text[..end]), reply.tasks().len()), (0, 1));
        assert_eq!((reply.push(&text[end..]), reply.tasks().len()), (1, 2));
        assert_eq!(reply.text(), text);
    }

    #[test]
    fn other_replies_have_no_tasks() {
        for text in ["", "no", r#"{"tasks": null}"#, r#"{"tasks": []}"#, r#"{"tasks": [5, {}]}"#, r#"{"tasks"x"#] {
            assert_eq!(read(text, 1).tasks().len(), 0, "{text}");
        }
    }

    #[test]
    fn repetition_is_noticed() {
        let (one, other) = (task("box.find", "x"), task("box.find", "y"));
        let text = |tasks: &[&Value]| json!({ "tasks": tasks }).to_string();
        let reply = read(&text(&[&one, &other, &one, &other]), 9);
        assert!(reply.has_repeated_task() && !reply.is_endless());
        let reply = read(&text(&[&one, &other, &one, &other, &one]), 9);
        assert!(reply.is_endless());
        let tasks = [one.clone(), other.clone(), one.clone()];
        assert_eq!(tasks_before_repetition(&tasks), &tasks[..2]);
        assert_eq!(tasks_before_repetition(&tasks[..2]), &tasks[..2]);
        let endless = format!("{{\"tasks\": [{{\"path\": \"{}", "example.com/".repeat(60));
        assert!(read(&endless, 5).is_endless());
        let long: String = (0..2_000).map(|number| format!("line {number}\n")).collect();
        assert!(!read(&long, 5).is_endless());
        assert!(read(&format!("{{\"tasks\": [{{\"text\": \"{long}"), 5).is_endless());
    }

    proptest! {
        #[test]
        fn any_text_is_read_the_same_in_any_pieces(text in r#"(\{|\}|\[|\]|"|\\|,|:|"tasks"|"tool"| |é){0,60}"#, size in 1..9_usize) {
            let (pieces, whole) = (read(&text, size), read(&text, 1_000));
            prop_assert_eq!(pieces.tasks(), whole.tasks());
        }
    }
}
