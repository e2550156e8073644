//! Reads what a plan can be given.
//! Never sees what a run is given; that is `config::inputs`.

use indexmap::IndexMap;

use crate::{
    config::{
        findings::Findings,
        inputs::{conversion_help, has_type, type_name},
        keys::INPUT,
        shape::Fields,
        tree::Node,
    },
    model::InputSpec,
};

pub(super) fn read(plan: &Fields<'_>, findings: &mut Findings) -> IndexMap<String, InputSpec> {
    let mut inputs = IndexMap::new();
    for (name, entry) in plan.node("inputs").and_then(Node::as_map).into_iter().flatten() {
        inputs.insert(name.to_string(), input(name, &Fields::of(&entry.node, &INPUT), findings));
    }
    inputs
}

/// An input; of some type even where the file has none that exists, so that references to it are no mistakes.
fn input(name: &str, fields: &Fields<'_>, findings: &mut Findings) -> InputSpec {
    let kind = fields.choice("type");
    let default = fields.node("default");
    let required = fields.flag("required").unwrap_or(false);
    if let (Some(kind), Some(default)) = (kind, default) {
        let value = default.to_json();
        if !has_type(&value, kind) {
            let message = format!("the default of `{name}` must be {}, not {}", type_name(kind), default.kind());
            findings.error("input_type", default.extent, message).maybe_help(conversion_help(&value, kind));
        }
    }
    if let (true, Some(_), Some(at)) = (required, default, fields.key_extent("required")) {
        let message = format!("`{name}` has a default, so it is not required");
        findings.warning("needless_required", at, message).help("leave one of the two out");
    }
    InputSpec {
        kind: kind.unwrap_or(crate::model::InputType::String),
        required: required && default.is_none(),
        default: default.map(Node::to_json),
        description: fields.text("description").map(str::to_owned),
    }
}
