//! The spans of a run for OpenTelemetry, made from its events. Pure.

mod conventions;
mod fold;
mod span;

pub use fold::SpanFold;
pub use span::{AttributeValue, RunSpan, SpanEvent};
