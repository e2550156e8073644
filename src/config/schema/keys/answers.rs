//! The keys of the answers file.

use super::common::table;
use crate::config::schema::table::ValueType::{Any, Boolean, TableList, Text};

table! {
    /// The answers file.
    ANSWERS: AnswersKeys = "an answers file", required [answers], "Rules that answer the questions of a run.";
    answers: TableList(&RULE.table), "The rules. The first matching rule answers.";
}

table! {
    /// A rule.
    RULE: RuleKeys = "a rule", required [], "An answer and its conditions.";
    agent: Text, "The agent that asks or will be called.";
    tool: Text, "The tool of the call.";
    task: Text, "The task or item.";
    message: Text, "A part of the message, ignoring case.";
    accept: Any, "`true`, or the values of the fields.";
    decline: Boolean, "`true` declines.";
    cancel: Boolean, "`true` dismisses the question.";
}
