//! Separates reasoning from the answer in a model's text, and finds JSON in prose and code fences.

use std::collections::VecDeque;

use serde_json::Value;

use crate::model::text::floor_char_boundary;

/// The reasoning tags that models write if their server does not parse them.
const REASONING_TAGS: [(&str, &str); 3] =
    [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[think]", "[/think]")];

/// The maximum number of JSON candidates of an answer; the last ones are kept.
const MAX_CANDIDATES: usize = 16;

/// Splits a text into its reasoning and its answer.
///
/// Reasoning is the text in tags at the start; an unclosed tag extends to the end. Text before a closing tag without an
/// opening tag is reasoning too, since the opening tag may be part of the prompt. Tags within an answer are kept.
pub fn split_reasoning(text: &str) -> (String, &str) {
    let mut reasoning = Vec::new();
    let mut rest = text;
    while let Some((inside, close)) = strip_opening_tag(rest) {
        let end = find_closing_tag(inside, close);
        reasoning.push(inside[..end.unwrap_or(inside.len())].trim());
        rest = end.map_or("", |end| inside[end + close.len()..].trim_start());
    }
    if reasoning.is_empty()
        && let Some((end, after)) = find_unopened_closing_tag(text)
    {
        return (text[..end].trim().to_owned(), text[after..].trim_start());
    }
    (reasoning.join("\n\n"), rest)
}

/// Returns the text after an opening tag at the start, and the matching closing tag.
fn strip_opening_tag(text: &str) -> Option<(&str, &'static str)> {
    let text = text.trim_start();
    REASONING_TAGS.iter().find_map(|(open, close)| starts_with_tag(text, open).then(|| (&text[open.len()..], *close)))
}

/// Returns the position of the closing tag, preferably outside code.
fn find_closing_tag(inside: &str, close: &str) -> Option<usize> {
    occurrences_outside_code(inside, close).next().or_else(|| occurrences(inside, close).next())
}

/// Returns the end of reasoning without an opening tag, and the start of the answer after it.
fn find_unopened_closing_tag(text: &str) -> Option<(usize, usize)> {
    REASONING_TAGS.iter().find_map(|(open, close)| {
        let at = occurrences_outside_code(text, close).next()?;
        let after = at + close.len();
        let line_before = text[..at].rsplit('\n').next().unwrap_or_default();
        let line_after = text[after..].split('\n').next().unwrap_or_default();
        let is_edge = line_before.trim().is_empty() || line_after.trim().is_empty();
        let is_quotation = line_before.trim_start().starts_with('>');
        let was_opened = occurrences(&text[..at], open).next().is_some();
        (is_edge && !is_quotation && !was_opened).then_some((at, after))
    })
}

fn starts_with_tag(text: &str, tag: &str) -> bool {
    text.as_bytes().get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag.as_bytes()))
}

fn occurrences<'t>(text: &'t str, tag: &'t str) -> impl Iterator<Item = usize> + 't {
    let starts = text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'<' | b'['));
    starts.map(|(at, _)| at).filter(|at| starts_with_tag(&text[*at..], tag))
}

/// Returns the occurrences of a tag outside code fences and inline code.
fn occurrences_outside_code<'t>(text: &'t str, tag: &'t str) -> impl Iterator<Item = usize> + 't {
    let mut fences = CodeFences::default();
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line, fences.is_code(line))
    });
    lines.filter(|(_, _, is_code)| !is_code).flat_map(move |(start, line, _)| {
        let outside = move |at: &usize| line[..*at].bytes().filter(|byte| *byte == b'`').count() % 2 == 0;
        occurrences(line, tag).filter(outside).map(move |at| start + at)
    })
}

/// Tracks the code fences of a Markdown text line by line.
#[derive(Debug, Default)]
struct CodeFences {
    /// The character and the length of the open fence.
    open_fence: Option<(char, usize)>,
}

impl CodeFences {
    /// Returns whether the next line belongs to a code block, including its fences.
    fn is_code(&mut self, line: &str) -> bool {
        let line = line.trim();
        let fence = line.chars().next().filter(|first| matches!(first, '`' | '~'));
        let length = fence.map_or(0, |fence| line.chars().take_while(|c| *c == fence).count());
        match self.open_fence {
            Some((open, at_least)) => {
                if fence == Some(open) && length >= at_least && line.chars().count() == length {
                    self.open_fence = None;
                }
                true
            }
            // Inline code can start a line too, but it ends in the same line.
            None if length >= 3 && !line[length..].contains('`') => {
                self.open_fence = fence.map(|fence| (fence, length));
                true
            }
            None => false,
        }
    }
}

/// Removes the reasoning from a text that arrives in pieces, as [`split_reasoning`] does for a whole text.
///
/// Reasoning without an opening tag is not removed, since nothing marks it before its end.
#[derive(Debug, Default)]
pub struct ReasoningFilter {
    buffer: String,
    state: State,
    /// True if reasoning was removed, so that whitespace before the answer is dropped.
    has_reasoning: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is unknown whether the text starts with a tag.
    #[default]
    Start,
    Reasoning(&'static str),
    Answer,
}

impl ReasoningFilter {
    /// Accepts the next piece and returns the new part of the answer.
    pub fn push(&mut self, delta: &str) -> String {
        let before = self.buffer.len();
        self.buffer.push_str(delta);
        if let State::Reasoning(close) = self.state {
            // Do not search long reasoning again for each piece.
            let from = floor_char_boundary(&self.buffer, before.saturating_sub(close.len()));
            if occurrences(&self.buffer[from..], close).next().is_none() {
                return String::new();
            }
        }
        self.advance(|inside, close| occurrences_outside_code(inside, close).next())
    }

    /// Returns the text that was held back, once the input has ended.
    pub fn finish(&mut self) -> String {
        let shown = self.advance(find_closing_tag);
        match self.state {
            State::Start => std::mem::take(&mut self.buffer),
            State::Reasoning(_) | State::Answer => shown,
        }
    }

    fn advance(&mut self, closing: impl Fn(&str, &str) -> Option<usize>) -> String {
        loop {
            match self.state {
                State::Answer => return std::mem::take(&mut self.buffer),
                State::Start => {
                    if self.has_reasoning {
                        self.buffer = self.buffer.trim_start().to_owned();
                    }
                    if let Some((inside, close)) = strip_opening_tag(&self.buffer) {
                        (self.buffer, self.state) = (inside.to_owned(), State::Reasoning(close));
                        self.has_reasoning = true;
                    } else if can_start_tag(self.buffer.trim_start()) {
                        return String::new();
                    } else {
                        self.state = State::Answer;
                    }
                }
                State::Reasoning(close) => {
                    let Some(end) = closing(&self.buffer, close) else { return String::new() };
                    self.buffer = self.buffer[end + close.len()..].to_owned();
                    self.state = State::Start;
                }
            }
        }
    }
}

/// Returns whether a text may be the beginning of a tag.
fn can_start_tag(text: &str) -> bool {
    REASONING_TAGS.iter().any(|(open, _)| open.get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text)))
}

/// The markup of tool calls that models write if their server does not parse it.
const TOOL_CALL_MARKUP: [&str; 7] =
    ["<tool_call>", "<tool_calls>", "<|tool_call|>", "<function_call>", "<function=", "[TOOL_CALLS]", "<|python_tag|>"];

/// Returns the markup of a tool call in the text of an answer, at the start of a line and outside code.
pub fn tool_call_markup(answer: &str) -> Option<&'static str> {
    TOOL_CALL_MARKUP.into_iter().find(|markup| {
        occurrences_outside_code(answer, markup).any(|at| {
            let before = answer[..at].rsplit('\n').next().unwrap_or_default();
            before.trim().is_empty()
        })
    })
}

/// Returns the JSON values of an answer, the most likely first: the whole text, the contents of code fences, then
/// objects and arrays in prose. The last of several comes first, since models draft before they decide.
///
/// Parts of a broken or truncated value are not returned.
pub fn json_candidates(answer: &str) -> Vec<Value> {
    let answer = answer.trim().trim_start_matches('\u{feff}');
    match serde_json::from_str::<Value>(answer) {
        Ok(Value::String(text)) => {
            // Some models encode their JSON twice.
            let inner = serde_json::from_str::<Value>(text.trim()).ok();
            let inner = inner.filter(|inner| inner.is_object() || inner.is_array());
            return std::iter::once(Value::String(text)).chain(inner).collect();
        }
        Ok(value) => return vec![value],
        Err(_) => {}
    }
    let fenced = fenced_json(answer).into_iter().rev();
    let all = fenced.chain(embedded_json(answer).into_iter().rev());
    let mut candidates: Vec<Value> = Vec::new();
    for value in all {
        if !candidates.contains(&value) {
            candidates.push(value);
        }
    }
    candidates
}

/// Returns the JSON values that fill a code fence, in order.
fn fenced_json(answer: &str) -> VecDeque<Value> {
    let mut values = VecDeque::new();
    let mut fences = CodeFences::default();
    let mut block: Option<String> = None;
    for line in answer.split_inclusive('\n').chain(std::iter::once("")) {
        let was_open = fences.open_fence.is_some();
        let is_code = !line.is_empty() && fences.is_code(line);
        let is_open = fences.open_fence.is_some() && !line.is_empty();
        match (was_open, is_open) {
            (false, true) => block = Some(String::new()),
            (true, true) if is_code => block.get_or_insert_default().push_str(line),
            (true, _) => {
                let value = block.take().and_then(|block| serde_json::from_str(&block).ok());
                value.into_iter().for_each(|value| push_bounded(&mut values, value));
            }
            _ => {}
        }
    }
    values
}

/// Returns the objects and arrays in prose, in order.
fn embedded_json(answer: &str) -> VecDeque<Value> {
    let mut values = VecDeque::new();
    let mut rest = answer;
    while let Some(start) = rest.find(['{', '[']) {
        rest = &rest[start..];
        let mut parser = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match parser.next() {
            Some(Ok(value)) => {
                push_bounded(&mut values, value);
                rest = &rest[parser.byte_offset()..];
            }
            // The rest belongs to a truncated value.
            Some(Err(error)) if error.is_eof() => break,
            _ if is_json_start(rest) => match end_of_brackets(rest) {
                Some(end) => rest = &rest[end..],
                None => break,
            },
            _ => rest = &rest[1..],
        }
    }
    values
}

fn push_bounded(values: &mut VecDeque<Value>, value: Value) {
    if values.len() == MAX_CANDIDATES {
        values.pop_front();
    }
    values.push_back(value);
}

/// Returns whether a bracket starts a JSON value rather than prose.
fn is_json_start(text: &str) -> bool {
    let mut characters = text.chars().filter(|c| !c.is_whitespace());
    matches!(
        (characters.next(), characters.next()),
        (Some('{'), Some('"' | '\'' | '}')) | (Some('['), Some('{' | '[' | '"' | '\''))
    )
}

/// Returns the position of the matching closing bracket, ignoring strings.
fn end_of_brackets(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn splits_reasoning_from_answer() {
        for (text, reasoning, answer) in [
            ("Final", "", "Final"),
            ("  Final\n", "", "  Final\n"),
            ("<think>\nhmm\n</think>\n\nFinal", "hmm", "Final"),
            ("\n<THINK>hmm</Think>Final", "hmm", "Final"),
            ("<thinking>a</thinking>\n<think>b</think>\nFinal", "a\n\nb", "Final"),
            ("[THINK]a[/THINK]Final", "a", "Final"),
            ("<think></think>\n\nFinal", "", "Final"),
            ("<think>it never ends", "it never ends", ""),
            ("The user wants a title.\n</think>\n\nFinal", "The user wants a title.", "Final"),
            ("A title.</thinking>\nFinal", "A title.", "Final"),
            ("<think>is `</think>` a tag?</think>Final", "is `</think>` a tag?", "Final"),
            ("<think>```\n</think>\nFinal", "```", "Final"),
        ] {
            assert_eq!(split_reasoning(text), (reasoning.to_owned(), answer), "{text}");
        }
    }

    #[test]
    fn keeps_tags_inside_answers() {
        for text in [
            "Use it like this:\n```\n<think>\nhmm\n</think>\n```\nDone.",
            "The tag `</think>`\nends reasoning.",
            "A model writes <think>a</think>\nbefore it answers.",
            "> quoted </think>\n\nThat was a quotation.",
            "{\"html\": \"</think>\"}",
            "Close it with </think> and go on.",
            "~~~\n</think>\n~~~",
        ] {
            assert_eq!(split_reasoning(text), (String::new(), text));
        }
    }

    #[test]
    fn streaming_filter_matches_complete_text() {
        for text in [
            "Final",
            "<think>\nhmm\n</think>\n\nFinal <think> is a tag",
            "<thinking>ä</thinking> <think>`</think>`b</think>\nFinal",
            "<think>it never ends",
            "<thin ice",
            "<",
            " [THINK]a[/THINK]Final",
            "",
        ] {
            let characters: Vec<String> = text.chars().map(String::from).collect();
            for pieces in [vec![text.to_owned()], characters] {
                let mut filter = ReasoningFilter::default();
                let shown: String = pieces.iter().map(|piece| filter.push(piece)).collect();
                assert_eq!(shown + &filter.finish(), split_reasoning(text).1, "{text}");
            }
        }
    }

    #[test]
    fn detects_tool_call_markup_outside_code() {
        for (answer, markup) in [
            ("<tool_call>{\"name\": \"echo\"}</tool_call>", Some("<tool_call>")),
            ("Let me look.\n\n  <tool_call>\n{}", Some("<tool_call>")),
            ("[TOOL_CALLS][{\"name\": \"echo\"}]", Some("[TOOL_CALLS]")),
            ("<function=echo>{}</function>", Some("<function=")),
            ("The tag <tool_call> begins a call.", None),
            ("```\n<tool_call>\n```", None),
            ("Done.", None),
        ] {
            assert_eq!(tool_call_markup(answer), markup, "{answer}");
        }
    }

    #[test]
    fn finds_json_in_fences_and_prose_last_first() {
        for (answer, expected) in [
            (r#"{"a": 1}"#, vec![json!({"a": 1})]),
            (" \u{feff}[1]\n", vec![json!([1])]),
            ("7", vec![json!(7)]),
            (r#""{\"a\": 1}""#, vec![json!("{\"a\": 1}"), json!({"a": 1})]),
            (r#""word""#, vec![json!("word")]),
            ("```JSON\n{\"a\": 1}\n```", vec![json!({"a": 1})]),
            ("```json\n\"word\"\n```\nThere.", vec![json!("word")]),
            ("Here:\n~~~~\n{\"a\": \"```\"}\n~~~~\nIt is {\"b\": 2}.", vec![json!({"a": "```"}), json!({"b": 2})]),
            ("```json\n{\"a\": 1}", vec![json!({"a": 1})]),
            ("A draft: {\"a\": 1}. Better: {\"a\": 2}!", vec![json!({"a": 2}), json!({"a": 1})]),
            ("{curly} [words] {\"a\": [1, {\"b\": 2}]}", vec![json!({"a": [1, {"b": 2}]})]),
            ("no JSON", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(json_candidates(answer), expected, "{answer}");
        }
    }

    #[test]
    fn ignores_parts_of_broken_json() {
        for answer in [
            r#"{"items": [{"title": "a"}, {"ti"#,
            r#"{"items": [{"title": "a"}], oops}"#,
            r#"[{"title": "a"}, {"title": }]"#,
            r#"{"items": [{"title": "a"}, nothing"#,
            "{\"a\": 1, // a comment\n\"b\": {\"c\": 2}}",
        ] {
            assert_eq!(json_candidates(answer), Vec::<Value>::new(), "{answer}");
        }
    }

    #[test]
    fn bounds_values_and_brackets() {
        let many: String = (0..1_000).map(|number| format!("{{\"a\": {number}}} and ")).collect();
        let values = json_candidates(&many);
        assert_eq!((values.len(), &values[0]), (MAX_CANDIDATES, &json!({"a": 999})));
        assert_eq!(json_candidates(&"[".repeat(100_000)), Vec::<Value>::new());
        assert_eq!(json_candidates(&"{".repeat(100_000)), Vec::<Value>::new());
    }
}
