//! What several files have in common.

use crate::config::schema::table::{KeySchema, ValueType};

pub(super) const fn key(name: &'static str, shape: ValueType, about: &'static str) -> KeySchema {
    KeySchema { name, aliases: &[], description: about, value_type: shape }
}

pub(super) const EFFECTS: ValueType = ValueType::Choice(&[
    ("read_only", "It changes nothing."),
    ("idempotent", "A second call adds nothing to the first."),
    ("at_most_once", "A second call may do the thing twice, so a call without an answer is never repeated."),
]);

pub(super) const CONCURRENCY: ValueType = ValueType::Integer(1, 100_000);
