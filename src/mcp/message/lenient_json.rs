//! Parses the malformed JSON of some servers if its meaning is unambiguous: invalid UTF-8, lone surrogates, `NaN`, raw
//! control characters, and text around a message on its line.
//! Never guesses: all other malformed JSON is an error.

use std::borrow::{Borrow, Cow};

use indexmap::IndexMap;
use rmcp::model::RequestId;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::model::text::truncate_bytes;

/// The number of positions in a line at which a message behind other text is searched for.
const MAX_MESSAGE_STARTS: usize = 64;
/// The length of the excerpt of unreadable text in an error, in bytes.
const MAX_EXCERPT_BYTES: usize = 160;

/// Returns the text of `bytes` without a byte order mark. Replaces invalid UTF-8 with U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(strip_bom(text)),
        Cow::Owned(text) => Cow::Owned(strip_bom(&text).to_owned()),
    }
}

/// Returns `text` without a byte order mark and surrounding whitespace.
pub(crate) fn strip_bom(text: &str) -> &str {
    text.trim_start_matches('\u{FEFF}').trim()
}

/// Parses a JSON value, and repairs defects that are unambiguous.
///
/// # Errors
/// Returns the error of the JSON parser.
pub(crate) fn parse_value(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match repair(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(text) => serde_json::from_str(&text),
    })
}

/// Returns the JSON objects and arrays in a text, and drops the text between them. The elements of an array are
/// returned one by one.
pub(crate) fn json_values(text: &str) -> Vec<&RawValue> {
    let mut documents = Vec::new();
    let mut rest = text;
    for _ in 0..MAX_MESSAGE_STARTS {
        let Some(start) = rest.find(['{', '[']) else { break };
        let candidate = &rest[start..];
        let mut values = serde_json::Deserializer::from_str(candidate).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(value)) => {
                match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
                    Ok(elements) => documents.extend(elements),
                    Err(_) => documents.push(value),
                }
                rest = &candidate[values.byte_offset()..];
            }
            _ => rest = &candidate[1..],
        }
    }
    documents
}

/// Repairs unambiguous defects of `text`. Numbers that JSON cannot represent become `null`, raw control characters in
/// strings are escaped, and lone surrogates become U+FFFD.
pub(crate) fn repair(text: &str) -> Cow<'_, str> {
    let mut repaired = String::new();
    // The end of the part of `text` that `repaired` already contains.
    let mut copied = 0;
    let mut at = 0;
    let bytes = text.as_bytes();
    let mut replace = |from: usize, to: usize, with: &str| {
        repaired.push_str(&text[copied..from]);
        repaired.push_str(with);
        copied = to;
    };
    let mut in_string = false;
    while let Some(&byte) = bytes.get(at) {
        match (in_string, byte) {
            (_, b'"') => {
                in_string = !in_string;
                at += 1;
            }
            (true, b'\\') if bytes.get(at + 1) == Some(&b'u') => {
                let (length, is_whole) = unicode_escape(&bytes[at..]);
                if !is_whole {
                    replace(at, at + length, "\u{FFFD}");
                }
                at += length;
            }
            (true, b'\\') => at += 2,
            (true, ..0x20) => {
                replace(at, at + 1, &format!("\\u{byte:04x}"));
                at += 1;
            }
            (false, b'-' | b'+' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                if !is_valid_token(&text[at..at + length]) {
                    replace(at, at + length, "null");
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    repaired.push_str(&text[copied..]);
    Cow::Owned(repaired)
}

/// Returns the length of the Unicode escape at the start of `bytes`, and whether it denotes a character.
fn unicode_escape(bytes: &[u8]) -> (usize, bool) {
    let unit = |from: usize| {
        let digits = std::str::from_utf8(bytes.get(from..from + 6)?).ok()?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    match unit(0) {
        Some(0xD800..0xDC00) => match unit(6) {
            Some(0xDC00..0xE000) => (12, true),
            _ => (6, false),
        },
        Some(0xDC00..0xE000) => (6, false),
        Some(_) => (6, true),
        // Invalid escapes are reported by the parser.
        None => (2, true),
    }
}

/// Returns whether `token` is a finite number, or not a number at all.
fn is_valid_token(token: &str) -> bool {
    let plain = token.trim_start_matches(['-', '+']);
    if ["nan", "inf", "infinity"].iter().any(|name| plain.eq_ignore_ascii_case(name)) {
        return false;
    }
    !plain.starts_with(|c: char| c.is_ascii_digit()) || token.parse::<f64>().map_or(true, f64::is_finite)
}

/// Returns the ID of the response at the start of `text`, which is not valid JSON as a whole.
pub(crate) fn response_id(text: &str) -> Option<RequestId> {
    let text = &text[text.find('{')?..];
    let mut scan = JsonScanner { bytes: text.as_bytes(), position: 0 };
    let mut id = None;
    let mut depth = 0_usize;
    while let Some(&byte) = scan.bytes.get(scan.position) {
        match byte {
            b'"' if depth == 1 => {
                let key = scan.read_string();
                if !scan.skip_colon() {
                    continue;
                }
                match key {
                    b"\"method\"" => return None,
                    b"\"id\"" => id = id.or(scan.read_id()),
                    _ => {}
                }
            }
            b'"' => drop(scan.read_string()),
            b'{' | b'[' => {
                depth += 1;
                scan.position += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                scan.position += 1;
            }
            _ => scan.position += 1,
        }
    }
    // The broken part may have ended the object too early.
    id.or_else(|| {
        let mut scan = JsonScanner { bytes: text.as_bytes(), position: text.rfind("\"id\"")? + 4 };
        scan.skip_colon().then(|| scan.read_id())?
    })
}

/// A position in a text that is not JSON as a whole.
struct JsonScanner<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> JsonScanner<'a> {
    /// Reads a string with its quotes.
    fn read_string(&mut self) -> &'a [u8] {
        let start = self.position;
        self.position += 1;
        while let Some(&byte) = self.bytes.get(self.position) {
            match byte {
                b'\\' => self.position += 2,
                b'"' => {
                    self.position += 1;
                    break;
                }
                _ => self.position += 1,
            }
        }
        self.position = self.position.min(self.bytes.len());
        &self.bytes[start..self.position]
    }

    fn skip_space(&mut self) {
        self.position += self.bytes[self.position..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    fn skip_colon(&mut self) -> bool {
        self.skip_space();
        let is_colon = self.bytes.get(self.position) == Some(&b':');
        if is_colon {
            self.position += 1;
            self.skip_space();
        }
        is_colon
    }

    fn read_id(&mut self) -> Option<RequestId> {
        let token = match self.bytes.get(self.position)? {
            b'"' => self.read_string(),
            _ => {
                let length =
                    self.bytes[self.position..].iter().take_while(|byte| b"0123456789.+-eE".contains(byte)).count();
                let token = &self.bytes[self.position..self.position + length];
                self.position += length;
                token
            }
        };
        serde_json::from_slice(token).ok()
    }
}

/// Describes unreadable text: the reason and the start of the text.
pub(crate) fn describe_unreadable(why: impl std::fmt::Display, text: &str) -> String {
    let mut excerpt = text.split_whitespace().collect::<Vec<_>>().join(" ");
    truncate_bytes(&mut excerpt, MAX_EXCERPT_BYTES);
    if excerpt.is_empty() { why.to_string() } else { format!("{why}; it starts with `{excerpt}`") }
}

/// Describes why a text is not valid JSON.
pub(crate) fn describe_invalid_json(error: &serde_json::Error) -> String {
    format!("invalid JSON: {error}")
}

/// Returns the elements of a list. `null` is an empty list. An object with only numeric keys is a list too, because
/// some languages encode sparse lists this way.
pub(crate) fn list_elements(list: Value) -> Option<Vec<Value>> {
    match list {
        Value::Null => Some(Vec::new()),
        Value::Array(elements) => Some(elements),
        Value::Object(members) if members.keys().all(|key| key.bytes().all(|byte| byte.is_ascii_digit())) => {
            Some(members.into_iter().map(|(_, value)| value).collect())
        }
        _ => None,
    }
}

/// The members of an object, in their order and unparsed. The last of several members with the same key counts.
#[derive(Default, Deserialize)]
pub(crate) struct RawMembers<'a>(#[serde(borrow)] pub(crate) IndexMap<MemberKey<'a>, &'a RawValue>);

/// The key of a member, borrowed if it has no escapes.
#[derive(PartialEq, Eq, Hash, Deserialize)]
pub(crate) struct MemberKey<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrow<str> for MemberKey<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'a> RawMembers<'a> {
    /// Returns the JSON of a member. `null` is absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(|value| value.get()).filter(|value| *value != "null")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn repairable_json_is_parsed() {
        for (text, expected) in [
            (
                r#"{"a": NaN, "b": [-Infinity, Infinity, nan, -inf], "c": "NaN"}"#,
                json!({"a": null, "b": [null, null, null, null], "c": "NaN"}),
            ),
            (r#"[1e999, -1e999, 1e9, -0.5, true, null]"#, json!([null, null, 1e9, -0.5, true, null])),
            ("{\"a\": \"x\ty\nz\u{1b}[0m\"}", json!({"a": "x\ty\nz\u{1b}[0m"})),
            (
                r#"["\ud800", "a\udc00b", "\ud83d\ude00", "\ud83d\u0041", "\\ud800", "\ud800\ud800"]"#,
                json!(["\u{FFFD}", "a\u{FFFD}b", "😀", "\u{FFFD}A", "\\ud800", "\u{FFFD}\u{FFFD}"]),
            ),
            (r#"{"a": 1, "a": 2}"#, json!({"a": 2})),
            (r#"{"é": "\"NaN\"", "NaN": NaN}"#, json!({"é": "\"NaN\"", "NaN": null})),
        ] {
            assert_eq!(parse_value(text).unwrap(), expected, "{text}");
        }
        for text in ["", "{", r#"{"a": "#, r#"{"a": "\u12"}"#, "{a: 1}", r#"{"a": "b" "c"}"#] {
            assert!(parse_value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        assert_eq!(decode(b"\xEF\xBB\xBF{\"a\": \"caf\xe9\"}\r\n"), "{\"a\": \"caf\u{FFFD}\"}");
        assert_eq!(decode(b" {} "), "{}");
    }

    #[test]
    fn json_is_found_in_other_text() {
        let documents = |text: &str| json_values(text).iter().map(|value| value.get().to_owned()).collect::<Vec<_>>();
        assert_eq!(documents("\u{1b}[32m{\"a\": 1}\u{1b}[0m"), ["{\"a\": 1}"]);
        assert_eq!(documents("[####] 50% {\"a\": [1]} done {\"b\": 2}"), ["{\"a\": [1]}", "{\"b\": 2}"]);
        assert_eq!(documents("[{\"a\": 1}, {\"b\": 2}]"), ["{\"a\": 1}", "{\"b\": 2}"]);
        assert_eq!(documents("{\"a\": {\"b\": 1}"), ["{\"b\": 1}"]);
        assert_eq!(documents(&"{".repeat(100_000)), Vec::<String>::new());
    }

    #[test]
    fn id_of_a_broken_response_is_found() {
        let number = |id| Some(RequestId::Number(id));
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"te"#, number(7)),
            (r#"{"result":{"id":1,"text":"a"},"id": 7, oops}"#, number(7)),
            (r#"{"result":{"text":"a "quoted" word"}, "id":"7"}"#, Some(RequestId::String("7".into()))),
            (r#"log {"id" : 7.0, "error": oops"#, number(7)),
            (r#"{"id":7,"method":"ping","params":oops}"#, None),
            (r#"{"result":{"id":1}, oops}"#, number(1)),
            ("no object", None),
            (r#"{"id":"#, None),
        ] {
            assert_eq!(response_id(text), expected, "{text}");
        }
    }
}
