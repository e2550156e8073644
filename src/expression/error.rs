//! The reason why an expression has no value.

use std::ops::Range;

/// The reason why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// The kind of problem.
    pub kind: ExpressionErrorKind,
    /// The problem and its place in the expression: lowercase, no final period.
    pub message: String,
    /// A suggested fix.
    pub help: Option<String>,
    /// The range of the problem, in bytes of the expression or of the string that contains it.
    pub range: Option<Range<usize>>,
}

/// The kind of an [`ExpressionError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpressionErrorKind {
    /// The text is not an expression or a template.
    InvalidSyntax,
    /// A filter, test, or function does not exist.
    UnknownFunction,
    /// A name is not bound.
    UnknownName,
    /// The plan does not have the input.
    UnknownInput,
    /// The task does not exist, or has not ended.
    UnknownTask,
    /// A task, an object, or a value without members does not have the key.
    UnknownKey,
    /// A list does not have the index.
    IndexOutOfRange,
    /// The task has no output.
    NoOutput,
    /// A part of the expression has no value.
    Undefined,
    /// An operation does not support its operands, or its result is not JSON.
    InvalidOperation,
    /// The expression or its value exceeds a limit.
    LimitExceeded,
}

impl ExpressionError {
    pub(super) fn new(kind: ExpressionErrorKind, message: impl Into<String>, range: Range<usize>) -> Self {
        Self { kind, message: message.into(), help: None, range: Some(range) }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn with_help_if_known(self, help: Option<impl Into<String>>) -> Self {
        match help {
            Some(help) => self.with_help(help),
            None => self,
        }
    }

    /// Returns the same error for a text that contains the expression at byte `offset`.
    pub(super) fn shifted_by(mut self, offset: usize) -> Self {
        self.range = self.range.map(|range| range.start + offset..range.end + offset);
        self
    }
}
