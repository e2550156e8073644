//! Evaluates expressions that are more than a path with `minijinja`: expressions only, strict, and bounded. Paths are
//! resolved first and passed as values, so `minijinja` sees no names of the run.

mod budget;
mod builtins;
mod dates;
mod json;
mod operators;
mod prepared;

#[cfg(test)]
pub(super) use builtins::names;
pub(super) use prepared::{check, evaluate};
