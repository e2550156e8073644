//! The keys of the answers file.

use super::common::key;
use crate::config::schema::table::{TableSchema, ValueType};

/// The answers file.
pub(crate) static ANSWERS: TableSchema = TableSchema {
    title: "an answers file",
    definition: "answers",
    description: "Rules that answer the questions of a run.",
    required: &["answers"],
    keys: &[key("answers", ValueType::TableList(&RULE), "The rules. The first matching rule answers.")],
};

static RULE: TableSchema = TableSchema {
    title: "a rule",
    definition: "rule",
    description: "An answer and its conditions.",
    required: &[],
    keys: &[
        key("agent", ValueType::Text, "The agent that asks or will be called."),
        key("tool", ValueType::Text, "The tool of the call."),
        key("task", ValueType::Text, "The task or item."),
        key("message", ValueType::Text, "A part of the message, ignoring case."),
        key("accept", ValueType::Any, "`true`, or the values of the fields."),
        key("decline", ValueType::Boolean, "`true` declines."),
        key("cancel", ValueType::Boolean, "`true` dismisses the question."),
    ],
};
