//! What several files have in common.

use crate::config::schema::table::{KeySchema, ValueType};

pub(super) const fn key(name: &'static str, shape: ValueType, about: &'static str) -> KeySchema {
    KeySchema { name, aliases: &[], description: about, value_type: shape }
}

pub(super) const EFFECTS: ValueType = ValueType::Choice(&[
    ("read_only", "The call has no side effects."),
    ("idempotent", "A repeated call has no further effect."),
    ("at_most_once", "A repeated call may take effect twice, so a call without a response is never repeated."),
]);

pub(super) const CONCURRENCY: ValueType = ValueType::Integer(1, 100_000);
