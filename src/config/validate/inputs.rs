//! Reads the declarations of a plan's inputs. `config::inputs` resolves their values.

use indexmap::IndexMap;

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::inputs::{has_type, type_conversion_help, type_name};
use crate::config::schema::keys::{INPUT, InputKeys, PLAN, PlanKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::DocumentNode;
use crate::model::InputSpec;

pub(super) fn read_inputs(plan: CheckedTable<'_, PlanKeys>, sink: &mut DiagnosticSink) -> IndexMap<String, InputSpec> {
    let entries = plan.entries(&PLAN.inputs);
    entries.map(|(name, entry)| (name.to_owned(), read_input(name, CheckedTable::new(&entry.node), sink))).collect()
}

/// Reads an input. Without a valid type it becomes a string, so that references to it are not reported too.
fn read_input(name: &str, fields: CheckedTable<'_, InputKeys>, sink: &mut DiagnosticSink) -> InputSpec {
    let kind = fields.choice(&INPUT.kind);
    let default = fields.node(&INPUT.default);
    let required = fields.boolean(&INPUT.required).unwrap_or(false);
    if let (Some(kind), Some(default)) = (kind, default) {
        let value = default.to_json();
        if !has_type(&value, kind) {
            let message = format!("the default of `{name}` must be {}, not {}", type_name(kind), default.kind());
            sink.error("input_type", default.span, message).help_if_known(type_conversion_help(&value, kind));
        }
    }
    if let (true, Some(_), Some(at)) = (required, default, fields.key_span(&INPUT.required)) {
        let message = format!("`{name}` has a default and cannot be `required`");
        sink.warning("needless_required", at, message).help("remove one of the two");
    }
    InputSpec {
        kind: kind.unwrap_or(crate::model::InputType::String),
        required: required && default.is_none(),
        default: default.map(DocumentNode::to_json),
        description: fields.text(&INPUT.description).map(str::to_owned),
    }
}
