//! A plan that can be started, with the form of its inputs.

use serde_json::{Value, json};

use super::form::input_fields;
use crate::model::{Plan, Task};
use crate::view::PlanDrawing;
use crate::view::page::RowKind;
use crate::view::text::{printable, printable_text};

/// Returns a plan file: `{file, name, description, fields, graph, tasks}`.
pub(crate) fn plan_json(file: &str, plan: &Plan) -> Value {
    let mut object = json!({
        "file": file,
        "name": printable(&plan.name),
        "fields": input_fields(&plan.inputs),
        "graph": PlanDrawing::new(&plan.tasks),
        "tasks": plan.tasks.iter().map(|task| task_json(task)).collect::<Vec<_>>(),
    });
    if let Some(description) = &plan.description {
        object["description"] = printable_text(description).into();
    }
    if let Some(missing) = &plan.missing {
        object["missing"] = printable_text(missing).into();
    }
    object
}

fn task_json(task: &Task) -> Value {
    let route = task.routes().first();
    let mut object = json!({
        "id": task.id,
        "name": printable(task.title.as_deref().unwrap_or(task.id.as_str())),
        "kind": RowKind::of_task(task),
        "needs": task.needs,
    });
    if let Some(route) = route {
        object["agent"] = json!(route.agent);
        object["tool"] = json!(route.tool);
    }
    if let Some(effect) = task.effect {
        object["effect"] = json!(effect);
    }
    object
}
