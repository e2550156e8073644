//! Every key of the answers file.
//! Never says what follows from a value.

use super::key;
use crate::config::shape::{Section, Shape};

/// The answers file.
pub(in crate::config) static ANSWERS: Section = Section {
    title: "an answers file",
    definition: "answers",
    about: "Answers to the questions of a run, by rule.",
    required: &["answers"],
    keys: &[key("answers", Shape::Sections(&RULE), "The rules; the first one that holds answers.")],
};

static RULE: Section = Section {
    title: "a rule",
    definition: "rule",
    about: "An answer, and the conditions under which it is given.",
    required: &[],
    keys: &[
        key("agent", Shape::Text, "The agent that asks or is about to be called."),
        key("tool", Shape::Text, "The tool that is being called."),
        key("task", Shape::Text, "The task that is being run, or the one item of it."),
        key("message", Shape::Text, "A part of the message, in any case."),
        key("accept", Shape::Any, "`true`, or the fields of the answer."),
        key("decline", Shape::Flag, "`true` says no."),
        key("cancel", Shape::Flag, "`true` dismisses the question."),
    ],
};
