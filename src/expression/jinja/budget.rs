//! Bounds the work and the output of one evaluation, in values and bytes. No clock, so an expression has the same
//! result on every machine.

use minijinja::value::{Value as Computed, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// The maximum number of values in a filter's input or an expression's result, including nested ones.
pub(super) const MAX_VALUES: usize = 1_000_000;
/// The maximum number of steps in one evaluation. A step visits one value, or the bytes that count as one.
pub(super) const MAX_STEPS: usize = 4_000_000;
/// The maximum size of a text that a filter creates, in bytes.
pub(super) const MAX_TEXT: usize = 64 * 1024 * 1024;
/// The maximum nesting of lists and objects in a filter's input or an expression's result.
const MAX_LEVELS: usize = 256;
/// The number of bytes of a text that count as one value.
const BYTES_PER_VALUE: usize = 64;
/// The same for a text that a filter splits into values.
const BYTES_PER_PART: usize = 4;

/// The source of an error about a limit.
#[derive(Debug, thiserror::Error)]
#[error("limit exceeded")]
pub(super) struct LimitExceeded;

/// Returns the error for a value that exceeds a limit.
pub(super) fn limit_exceeded(message: String) -> Error {
    invalid_operation(message).with_source(LimitExceeded)
}

/// Returns the error for an operation that does not support its operands.
pub(super) fn invalid_operation(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Returns the error for a value that exceeds [`MAX_VALUES`].
pub(super) fn too_many_values() -> Error {
    limit_exceeded(format!("the expression creates more than {MAX_VALUES} values"))
}

fn too_deep() -> Error {
    limit_exceeded(format!("lists and objects are nested more than {MAX_LEVELS} levels deep"))
}

/// The remaining steps of an evaluation.
#[derive(Debug)]
pub(super) struct Steps(usize);

impl Steps {
    /// Returns the remaining steps of the evaluation of `state`.
    pub(super) fn of<'s>(state: &'s mut State<'_, '_>) -> &'s mut Self {
        state.get_or_insert_extension_with(|| Self(MAX_STEPS))
    }

    /// Consumes steps.
    ///
    /// # Errors
    /// Returns an error if fewer steps remain.
    pub(super) fn charge(&mut self, steps: usize) -> Result<(), Error> {
        self.0 = (self.0.checked_sub(steps))
            .ok_or_else(|| limit_exceeded(format!("the expression needs more than {MAX_STEPS} steps")))?;
        Ok(())
    }
}

/// Returns the number of values in `value`, including nested ones.
///
/// # Errors
/// Returns an error if there are more than [`MAX_VALUES`], or if they are nested too deeply.
pub(super) fn size(value: &Computed) -> Result<usize, Error> {
    let mut count = Count::default();
    count.add(value, 0)?;
    Ok(count.values)
}

/// Returns the maximum number of parts that a filter can split a text into, or the [`size`] of any other value.
///
/// # Errors
/// As [`size`].
pub(super) fn parts(value: &Computed) -> Result<usize, Error> {
    match value.as_str().map(|text| text.len() / BYTES_PER_PART) {
        None => size(value),
        Some(parts) if parts > MAX_VALUES => Err(too_many_values()),
        Some(parts) => Ok(1 + parts),
    }
}

/// Returns the number of steps for visiting `bytes`.
pub(super) fn text_steps(bytes: usize) -> usize {
    bytes / BYTES_PER_VALUE
}

/// A counter of values, up to [`MAX_VALUES`].
#[derive(Debug, Default)]
pub(super) struct Count {
    values: usize,
}

impl Count {
    /// Adds one value and its text, without nested values.
    pub(super) fn add_one(&mut self, value: &Computed, level: usize) -> Result<(), Error> {
        if level > MAX_LEVELS {
            return Err(too_deep());
        }
        self.values += 1 + value.as_str().map_or(0, |text| text_steps(text.len()));
        if self.values > MAX_VALUES { Err(too_many_values()) } else { Ok(()) }
    }

    /// Adds a value and all nested values.
    fn add(&mut self, value: &Computed, level: usize) -> Result<(), Error> {
        self.add_one(value, level)?;
        if value.as_object().and(value.len()).is_some_and(|length| length > MAX_VALUES - self.values) {
            return Err(too_many_values());
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| self.add(&item, level + 1)),
            ValueKind::Map => value.try_iter()?.try_for_each(|key| {
                self.add_one(&key, level + 1)?;
                self.add(&value.get_item(&key)?, level + 1)
            }),
            _ => Ok(()),
        }
    }
}

/// The steps for the values of paths that an evaluation uses.
#[derive(Debug, Default)]
pub(super) struct PathSteps {
    steps: usize,
}

impl PathSteps {
    /// Adds the value of a path.
    ///
    /// # Errors
    /// Returns an error if there are more than [`MAX_STEPS`], or if they are nested too deeply.
    pub(super) fn add(&mut self, value: &serde_json::Value) -> Result<(), Error> {
        let mut open = vec![(value, 0)];
        while let Some((value, level)) = open.pop() {
            if level > MAX_LEVELS {
                return Err(too_deep());
            }
            self.steps += 1;
            match value {
                serde_json::Value::String(text) => self.steps += text_steps(text.len()),
                serde_json::Value::Array(list) => open.extend(list.iter().map(|value| (value, level + 1))),
                serde_json::Value::Object(map) => open.extend(map.values().map(|value| (value, level + 1))),
                _ => {}
            }
            if self.steps > MAX_STEPS {
                return Err(limit_exceeded(format!("the expression reads more than {MAX_STEPS} values")));
            }
        }
        Ok(())
    }
}
