//! Renders the outputs of groups, and of runs that a task ends.

use indexmap::IndexMap;
use serde_json::Value;

use crate::engine::scope::expression_failure;
use crate::expression::{self, Scope};
use crate::model::{Failure, Template};

/// Renders the outputs of a group, or of a run that a task ends.
pub(super) fn render_outputs(
    outputs: &IndexMap<String, Template>,
    scope: &Scope<'_>,
) -> Result<IndexMap<String, Value>, Failure> {
    let render = |(name, template): (&String, &Template)| {
        let value = expression::render(template, scope);
        value.map(|value| (name.clone(), value)).map_err(|error| expression_failure(&format!("outputs.{name}"), &error))
    };
    outputs.iter().map(render).collect()
}
