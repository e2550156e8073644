//! Masks configured secrets in data from agents, before it is processed, stored, or displayed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use parking_lot::RwLock;
use serde_json::Value;

use super::{AgentInfo, ChatPart, ContentBlock, Failure, Form, Input, JsonObject, ToolOutput};

/// The replacement for a secret.
const MASK: &str = "***";

/// The minimum length of a masked value. Shorter values would mask ordinary words.
const MIN_SECRET_LENGTH: usize = 6;

/// The secret values of an agents file, and the tokens that were obtained since. Clones share them. Debug output omits
/// them.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Locked only to look for values, or to add one: a token is obtained while a run uses the others.
    known: Arc<RwLock<SecretValues>>,
}

#[derive(Default)]
struct SecretValues {
    /// The values, sorted.
    values: Vec<String>,
    matcher: Option<AhoCorasick>,
}

impl SecretValues {
    /// Moves the bytes before `end` to `masked`, with the secrets that start there.
    fn mask_bytes(&self, bytes: &mut Vec<u8>, end: usize, masked: &mut Vec<u8>) {
        let mut moved = 0;
        for found in self.matcher.iter().flat_map(|finder| finder.find_iter(&*bytes)) {
            if found.start() >= end {
                break;
            }
            masked.extend_from_slice(&bytes[moved..found.start()]);
            masked.extend_from_slice(MASK.as_bytes());
            moved = found.end();
        }
        let end = end.max(moved);
        masked.extend_from_slice(&bytes[moved..end]);
        bytes.drain(..end);
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("count", &self.known.read().values.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known) || self.known.read().values == other.known.read().values
    }
}

impl Secrets {
    /// Returns a masker for these values. Each line of a multi-line value is masked separately.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let secrets = Self::default();
        secrets.add(values);
        secrets
    }

    /// Masks these values from now on, too, in all clones.
    pub fn add(&self, values: impl IntoIterator<Item = String>) {
        let lines = values.into_iter().flat_map(|value| value.lines().map(str::to_owned).collect::<Vec<_>>());
        let lines = lines.map(|line| line.trim().to_owned()).filter(|line| line.len() >= MIN_SECRET_LENGTH);
        let mut known = self.known.write();
        known.values.extend(lines);
        known.values.sort_unstable();
        known.values.dedup();
        // The patterns are literal and few, so building cannot exceed a limit. Without a matcher nothing is masked.
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.values).ok();
        known.matcher = finder.filter(|_| !known.values.is_empty());
    }

    /// Masks the values of `other` from now on, too, in all clones.
    pub fn add_all(&self, other: &Self) {
        if !Arc::ptr_eq(&self.known, &other.known) {
            let values = other.known.read().values.clone();
            self.add(values);
        }
    }

    /// Returns the text with every secret replaced by `MASK`.
    pub fn mask_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let known = self.known.read();
        match &known.matcher {
            Some(finder) if finder.is_match(text) => {
                Cow::Owned(finder.replace_all(text, &vec![MASK; known.values.len()]))
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// Masks the beginning of a stream: moves `pending` to `masked`, except an end that may be the beginning of a secret.
    pub fn mask_chunk(&self, pending: &mut Vec<u8>, masked: &mut Vec<u8>) {
        let known = self.known.read();
        let max_length = known.values.iter().map(String::len).max().unwrap_or(1);
        // A secret that starts before this position also ends within the bytes.
        let end = (pending.len() + 1).saturating_sub(max_length);
        known.mask_bytes(pending, end, masked);
    }

    /// Masks the end of a stream: moves `pending` to `masked`.
    pub fn mask_last_chunk(&self, pending: &mut Vec<u8>, masked: &mut Vec<u8>) {
        let end = pending.len();
        self.known.read().mask_bytes(pending, end, masked);
    }

    /// Masks an observation, except data that only the agent reads, such as the opaque state of a request.
    pub fn mask_input(&self, input: &mut Input) {
        if self.known.read().matcher.is_none() {
            return;
        }
        match input {
            Input::AgentConnected { info, .. } => self.mask_info(info),
            Input::AgentUnavailable { failure, .. } => self.mask_failure(failure),
            Input::AttemptEnded { result: Ok(output), .. } | Input::WatchEnded { result: Ok(output), .. } => {
                self.mask_output(output);
            }
            Input::AttemptEnded { result: Err(failure), .. } | Input::WatchEnded { result: Err(failure), .. } => {
                self.mask_failure(failure);
            }
            Input::AttemptProgressed { progress, .. } => progress.message.iter_mut().for_each(|text| self.mask(text)),
            Input::InputRequired { requests, .. } => self.mask_value(requests),
            Input::ElicitationRequested { elicitation, .. } => {
                self.mask(&mut elicitation.message);
                if let Form::Fields { schema } = &mut elicitation.form {
                    self.mask_members(schema);
                }
            }
            Input::SamplingRequested { chat, .. } => {
                let parts = chat.messages.iter().flat_map(|message| &message.parts);
                let texts = parts.filter_map(|part| if let ChatPart::Text { text } = part { Some(text) } else { None });
                if texts.chain(&chat.system).any(|text| self.contains_secret(text)) {
                    let chat = Arc::make_mut(chat);
                    chat.system.iter_mut().for_each(|text| self.mask(text));
                    for part in chat.messages.iter_mut().flat_map(|message| &mut Arc::make_mut(message).parts) {
                        if let ChatPart::Text { text } = part {
                            self.mask(text);
                        }
                    }
                }
            }
            Input::AgentLogged { message, .. } => {
                message.logger.iter_mut().for_each(|text| self.mask(text));
                self.mask_value(&mut message.data);
            }
            Input::SignalReceived { data, .. } => self.mask_value(data),
            Input::PageCompleted { .. }
            | Input::SamplingFinished { .. }
            | Input::ModelReplied { .. }
            | Input::Replanned { .. }
            | Input::AnswerSaved { .. }
            | Input::QuestionAnswered { .. }
            | Input::RestApproved { .. }
            | Input::QuestionDeferred { .. }
            | Input::RequestRefused { .. }
            | Input::InterruptRequested
            | Input::CancelRequested { .. }
            | Input::WatchBaselineObserved { .. }
            | Input::TimeReached => {}
        }
    }

    /// Masks the self-description of a server and the warnings about it.
    pub fn mask_info(&self, info: &mut Arc<AgentInfo>) {
        let mut texts = info.server.iter().chain(&info.instructions).chain(&info.warnings);
        if texts.any(|text| self.contains_secret(text)) {
            let info = Arc::make_mut(info);
            let texts = info.server.iter_mut().chain(&mut info.instructions).chain(&mut info.warnings);
            texts.for_each(|text| self.mask(text));
        }
    }

    /// Masks the texts of a failure.
    pub fn mask_failure(&self, failure: &mut Failure) {
        self.mask(&mut failure.message);
        failure.help.iter_mut().for_each(|help| self.mask(help));
    }

    /// Masks a result. Contents with a secret are no longer those of a file.
    pub(crate) fn mask_output(&self, output: &mut Arc<ToolOutput>) {
        let has_secret = |block: &ContentBlock| match block {
            ContentBlock::Text(text) => self.contains_secret(text),
            other => other.as_non_text().is_some_and(|value| self.value_contains_secret(value)),
        };
        let in_content = output.content.iter().any(has_secret);
        let in_warning = output.warning.as_ref().is_some_and(|warning| self.contains_secret(warning));
        let in_structured = output.structured.as_ref().is_some_and(|value| self.value_contains_secret(value));
        if !in_content && !in_warning && !in_structured {
            return;
        }
        let output = Arc::make_mut(output);
        for block in output.content.iter_mut().filter(|block| has_secret(block)) {
            match block {
                ContentBlock::Text(text) => self.mask(text),
                ContentBlock::Other(value) => self.mask_value(value),
                ContentBlock::Saved(_) => {
                    let mut value = block.to_json().into_owned();
                    self.mask_value(&mut value);
                    *block = value.into();
                }
            }
        }
        if in_structured {
            output.structured_file = None;
        }
        output.structured.iter_mut().for_each(|value| self.mask_value(value));
        output.warning = output.warning.as_deref().map(|warning| self.mask_text(warning).into());
    }

    fn mask(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.mask_text(text) {
            *text = masked;
        }
    }

    /// Masks all strings of a value, including keys.
    pub fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.mask(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.mask_value(value)),
            Value::Object(members) => self.mask_members(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn mask_members(&self, members: &mut JsonObject) {
        if members.keys().any(|name| self.contains_secret(name)) {
            let renamed = std::mem::take(members).into_iter();
            members.extend(renamed.map(|(name, value)| (self.mask_text(&name).into_owned(), value)));
        }
        members.values_mut().for_each(|value| self.mask_value(value));
    }

    fn contains_secret(&self, text: &str) -> bool {
        self.known.read().matcher.as_ref().is_some_and(|finder| finder.is_match(text))
    }

    fn value_contains_secret(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.contains_secret(text),
            Value::Array(values) => values.iter().any(|value| self.value_contains_secret(value)),
            Value::Object(members) => {
                members.iter().any(|(name, value)| self.contains_secret(name) || self.value_contains_secret(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{AttemptId, FailureKind, TaskId};

    fn secrets() -> Secrets {
        Secrets::new([
            "sk-12345".to_owned(),
            "sk-12345-long".to_owned(),
            "short".to_owned(),
            "line one\nline two".to_owned(),
        ])
    }

    #[test]
    fn masks_the_larger_match_and_ignores_short_values() {
        assert_eq!(secrets().mask_text("a sk-12345-long, sk-12345. short"), "a ***, ***. short");
        assert_eq!(secrets().mask_text("- line two\n- line one"), "- ***\n- ***");
        assert_eq!(Secrets::default().mask_text("sk-12345"), "sk-12345");
        assert_eq!(format!("{:?}", secrets()), "Secrets { count: 4, .. }");
    }

    #[test]
    fn streams_are_masked_across_the_borders_of_chunks() {
        let text = "a sk-12345-long, sk-12345. short line one sk-123 sk-12345-lon";
        let expected = secrets().mask_text(text).into_owned();
        for size in 1..=text.len() {
            let (mut pending, mut masked) = (Vec::new(), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                pending.extend_from_slice(chunk);
                secrets().mask_chunk(&mut pending, &mut masked);
                assert!(pending.len() < "sk-12345-long".len(), "only the end waits");
            }
            secrets().mask_last_chunk(&mut pending, &mut masked);
            assert_eq!(String::from_utf8(masked).expect("UTF-8"), expected, "chunks of {size} bytes");
        }
        let (mut pending, mut masked) = (b"sk-12345".to_vec(), Vec::new());
        Secrets::default().mask_chunk(&mut pending, &mut masked);
        assert_eq!((pending.as_slice(), masked.as_slice()), (&b""[..], &b"sk-12345"[..]));
    }

    #[test]
    fn values_that_are_added_later_are_masked_in_all_clones() {
        let secrets = secrets();
        let earlier = secrets.clone();
        secrets.add(["access-1".to_owned(), "x".to_owned()]);
        assert_eq!(earlier.mask_text("x: access-1, sk-12345"), "x: ***, ***");
        assert_eq!(earlier, secrets);
        assert_ne!(Secrets::default(), secrets);
    }

    #[test]
    fn masks_results_and_failures() {
        let attempt = AttemptId { task: TaskId::from("t"), number: 1 };
        let structured = json!({"sk-12345": [{"key": "x sk-12345"}], "n": 1});
        let blocks = [json!({"type": "text", "text": "sk-12345"}), json!({"type": "resource", "uri": "k:sk-12345"})];
        let output = Arc::new(ToolOutput::new(blocks, Some(structured)));
        let mut input = Input::AttemptEnded { attempt: attempt.clone(), result: Ok(output) };
        secrets().mask_input(&mut input);
        let blocks = [json!({"type": "text", "text": "***"}), json!({"type": "resource", "uri": "k:***"})];
        let masked = Arc::new(ToolOutput::new(blocks, Some(json!({"***": [{"key": "x ***"}], "n": 1}))));
        assert_eq!(input, Input::AttemptEnded { attempt: attempt.clone(), result: Ok(masked) });

        let failure = Failure::new(FailureKind::ToolError, "401 for sk-12345").with_help("check sk-12345");
        let mut input = Input::AttemptEnded { attempt: attempt.clone(), result: Err(failure) };
        secrets().mask_input(&mut input);
        let masked = Failure::new(FailureKind::ToolError, "401 for ***").with_help("check ***");
        assert_eq!(input, Input::AttemptEnded { attempt, result: Err(masked) });
    }
}
