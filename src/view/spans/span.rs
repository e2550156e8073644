//! One span, independent of the library that exports it.

use crate::model::Timestamp;

/// A part of a run with a start and an end.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpan {
    /// The ID, derived from the run and the part, so that a resumed run continues its trace.
    pub id: u64,
    /// The span that it is a part of; absent for a run without a calling program.
    pub parent: Option<u64>,
    /// The name.
    pub name: String,
    /// Set for requests to agents and models.
    pub is_client: bool,
    /// The start.
    pub started_at: Timestamp,
    /// The end.
    pub ended_at: Timestamp,
    /// The attributes.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// What happened in it.
    pub events: Vec<SpanEvent>,
    /// The error that it ended with.
    pub error: Option<String>,
}

/// A moment within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanEvent {
    /// The time.
    pub at: Timestamp,
    /// The name.
    pub name: &'static str,
    /// The attributes.
    pub attributes: Vec<(&'static str, AttributeValue)>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A count.
    Count(u64),
    /// An amount.
    Amount(f64),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for AttributeValue {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl RunSpan {
    /// Adds an attribute.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<AttributeValue>) {
        self.attributes.push((name, value.into()));
    }
}
