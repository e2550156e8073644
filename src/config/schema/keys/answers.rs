//! The keys of the answers file.

use super::common::key;
use crate::config::schema::table::{TableSchema, ValueType};

/// The answers file.
pub(crate) static ANSWERS: TableSchema = TableSchema {
    title: "an answers file",
    definition: "answers",
    description: "Answers to the questions of a run, by rule.",
    required: &["answers"],
    keys: &[key("answers", ValueType::TableList(&RULE), "The rules; the first one that holds answers.")],
};

static RULE: TableSchema = TableSchema {
    title: "a rule",
    definition: "rule",
    description: "An answer, and the conditions under which it is given.",
    required: &[],
    keys: &[
        key("agent", ValueType::Text, "The agent that asks or is about to be called."),
        key("tool", ValueType::Text, "The tool that is being called."),
        key("task", ValueType::Text, "The task that is being run, or the one item of it."),
        key("message", ValueType::Text, "A part of the message, in any case."),
        key("accept", ValueType::Any, "`true`, or the fields of the answer."),
        key("decline", ValueType::Boolean, "`true` says no."),
        key("cancel", ValueType::Boolean, "`true` dismisses the question."),
    ],
};
