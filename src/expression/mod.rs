//! Evaluates `${{ }}` over the state of a run. Pure: no clock, no IO, and no change of its inputs.
//!
//! An expression is a path (`tasks.find-hotels.output.results[0].url`, `inputs.topic`, the name that `foreach` binds)
//! or any other expression in Jinja's syntax over paths. Paths are found and resolved here, so that IDs may contain
//! hyphens, errors name the missing part, and a plain path copies only its value. Only expressions that are more than a
//! path use `minijinja`.

mod check;
mod error;
mod evaluate;
mod jinja;
mod names;
mod resolve;
mod scan;
mod scope;
mod shell;
mod template;
#[cfg(test)]
mod tests;
mod uri_template;

pub use check::{Reference, has_outcome_reference, references};
pub(crate) use check::{check, uses_input};
pub use error::{ExpressionError, ExpressionErrorKind};
pub use evaluate::{evaluate, evaluate_condition, evaluate_document_condition};
pub(crate) use names::{closest_match, did_you_mean, list_names};
pub(crate) use resolve::{hyphenated_key_help, json_type_name};
pub use scope::{
    Binding, EnclosingGroups, ForeachItems, ITEMS_FIELD, ITERATION_NAMES, LOOP_NAME, LoopPosition, PREVIOUS_NAME,
    RESERVED_NAMES, RESOURCE_NAME, RUN_OBJECTS, RunValues, Scope, TASK_FIELDS, TIME_FUNCTION, TaskLookup, TaskView,
};
pub(crate) use scope::{RUN_FIELDS, run_field_help};
pub use shell::{check_shell_command, render_shell_command};
pub(crate) use template::template_uses_input;
pub use template::{TemplatePart, render, split_template, template_references};
pub use uri_template::{UriTemplate, UriVariable};
