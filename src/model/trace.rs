//! The trace context of a run (W3C Trace Context), which agents get in the `_meta` of each request.

use super::fnv::{FNV_OFFSET, fnv1a};
use super::{JsonObject, RunId};

/// The `_meta` keys, as the MCP specification reserves them.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// The length of a trace ID and of a span ID in hexadecimal digits.
const TRACE_ID_DIGITS: usize = 32;
const SPAN_ID_DIGITS: usize = 16;

/// The trace that the requests of a run belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The text before the span ID: the version and the trace ID.
    before_span: String,
    /// The span ID of the calling program, if it has one.
    caller_span: Option<u64>,
    /// The text after the span ID: the flags.
    after_span: String,
    /// The state of other tracing systems, passed on unchanged.
    state: Option<String>,
}

impl TraceContext {
    /// Returns a new trace for `run`. Its ID is that of the run, if it is a UUID, and otherwise computed from it. The
    /// trace is marked as sampled, so that agents record it.
    pub fn of_run(run: &RunId) -> Self {
        let digits: String = run.as_str().chars().filter(char::is_ascii_hexdigit).collect();
        let trace_id = match digits.len() == TRACE_ID_DIGITS {
            true => digits.to_ascii_lowercase(),
            false => format!("{:016x}{:016x}", hash(&[run.as_str()]), hash(&[run.as_str(), "trace"])),
        };
        Self { before_span: format!("00-{trace_id}-"), caller_span: None, after_span: "-01".to_owned(), state: None }
    }

    /// Parses a `traceparent` and the optional `tracestate` of a calling program. Returns `None` if `traceparent` is not
    /// valid.
    pub fn parse(traceparent: &str, state: Option<String>) -> Option<Self> {
        let traceparent = traceparent.trim();
        let mut parts = traceparent.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_id = |text: &str, digits| is_hex(text, digits) && text.bytes().any(|digit| digit != b'0');
        // Later versions may have more parts, and are passed on as the version that this host writes.
        let is_complete = parts.next().is_none() || version != "00";
        let is_valid = is_hex(version, 2)
            && version != "ff"
            && is_id(trace_id, TRACE_ID_DIGITS)
            && is_id(span_id, SPAN_ID_DIGITS)
            && is_hex(flags, 2)
            && is_complete;
        let state = state.filter(|state| !state.trim().is_empty());
        let context = || Self {
            before_span: format!("00-{trace_id}-"),
            caller_span: u64::from_str_radix(span_id, 16).ok(),
            after_span: format!("-{flags}"),
            state,
        };
        is_valid.then(context)
    }

    /// Adds the context of one request to its `_meta`. Equal `span` parts give the same span ID in a run.
    pub fn add_to(&self, meta: &mut JsonObject, span: &[&str]) {
        let mut text = String::with_capacity(self.before_span.len() + SPAN_ID_DIGITS + self.after_span.len());
        text.push_str(&self.before_span);
        text.extend(
            span_id(span).to_be_bytes().into_iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 0xf)]),
        );
        text.push_str(&self.after_span);
        meta.insert(TRACEPARENT.to_owned(), text.into());
        if let Some(state) = &self.state {
            meta.insert(TRACESTATE.to_owned(), state.as_str().into());
        }
    }

    /// Returns the trace ID.
    #[cfg(feature = "otel")]
    pub fn trace_id(&self) -> u128 {
        u128::from_str_radix(&self.before_span[3..3 + TRACE_ID_DIGITS], 16).unwrap_or(1)
    }

    /// Returns the span ID of the calling program, if it has one.
    #[cfg(feature = "otel")]
    pub fn caller_span(&self) -> Option<u64> {
        self.caller_span
    }

    /// Returns whether the calling program wants the trace to be recorded.
    #[cfg(feature = "otel")]
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(self.after_span.trim_start_matches('-'), 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// Returns the ID of the span that [`Self::add_to`] names for these parts.
    #[cfg(feature = "otel")]
    pub fn span_id(&self, span: &[&str]) -> u64 {
        span_id(span)
    }
}

/// Returns the ID of a span. Zero is not a valid one.
fn span_id(parts: &[&str]) -> u64 {
    hash(parts).max(1)
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(value)])
}

/// Returns a hash of the parts. IDs of traces need to differ, not to be secret.
fn hash(parts: &[&str]) -> u64 {
    fnv1a(FNV_OFFSET, parts.iter().flat_map(|part| part.bytes().chain([0])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn traceparent(context: &TraceContext, span: &[&str]) -> String {
        let mut meta = JsonObject::new();
        context.add_to(&mut meta, span);
        meta[TRACEPARENT].as_str().expect("text").to_owned()
    }

    #[test]
    fn trace_id_is_the_id_of_the_run() {
        let context = TraceContext::of_run(&RunId::from("01a2b3c4-d5e6-7f80-91a2-b3c4d5e6f708"));
        let first = traceparent(&context, &["find", "1"]);
        assert!(first.starts_with("00-01a2b3c4d5e67f8091a2b3c4d5e6f708-") && first.ends_with("-01"), "{first}");
        assert_eq!(first, traceparent(&context, &["find", "1"]));
        for other in [["find", "2"], ["fin", "d1"], ["find1", ""]] {
            assert_ne!(first, traceparent(&context, &other));
        }
        assert!(TraceContext::parse(&first, None).is_some());
        let named = TraceContext::of_run(&RunId::from("nightly"));
        assert_ne!(traceparent(&named, &[]), traceparent(&TraceContext::of_run(&RunId::from("weekly")), &[]));
        assert!(TraceContext::parse(&traceparent(&named, &[]), None).is_some());
    }

    #[test]
    fn context_of_the_caller_is_continued() {
        let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace_id}-00f067aa0ba902b7-00");
        let context = TraceContext::parse(&parent, Some("vendor=1".to_owned())).expect("is valid");
        let mut meta = JsonObject::new();
        context.add_to(&mut meta, &["find"]);
        let written = meta[TRACEPARENT].as_str().expect("text");
        assert!(written.starts_with(&format!("00-{trace_id}-")) && written.ends_with("-00"), "{written}");
        assert_ne!(written, parent);
        assert_eq!(meta[TRACESTATE], json!("vendor=1"));
        let zero = "0".repeat(32);
        for invalid in [
            "",
            "00",
            &format!("00-{trace_id}-00f067aa0ba902b7"),
            &format!("00-{zero}-00f067aa0ba902b7-01"),
            &format!("00-{trace_id}-0000000000000000-01"),
            &format!("ff-{trace_id}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", trace_id.to_uppercase()),
            &format!("{parent}-more"),
        ] {
            assert_eq!(TraceContext::parse(invalid, None), None, "{invalid}");
        }
        assert_eq!(TraceContext::parse(&format!("01{}-more", &parent[2..]), None).map(|it| it.state), Some(None));
    }
}
