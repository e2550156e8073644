//! A question of a run, with the fields of its form.

use serde_json::{Value, json};
use url::Url;

use super::form::schema_fields;
use crate::model::{Answer, Form, RunStatus};
use crate::ui::forms::form_prompt::asker_name;
use crate::view::run_view::AskedQuestion;
use crate::view::text::{printable, printable_text};

/// Returns a question, of a run with this status.
pub(crate) fn question_json(asked: &AskedQuestion, run: RunStatus) -> Value {
    let question = &*asked.question;
    let (kind, fields, url) = match &question.form {
        Form::Approval => ("approval", Vec::new(), None),
        Form::Fields { schema } => ("form", schema_fields(schema), None),
        Form::Url { url, .. } => ("url", Vec::new(), Some(url)),
    };
    let status = match &asked.answer {
        Some(_) => "answered",
        None if run.is_unfinished() => "open",
        None => "cancelled",
    };
    let mut object = json!({
        "id": question.id,
        "kind": kind,
        "asker": printable(&asker_name(question)),
        "message": printable_text(&question.message),
        "asked": asked.at,
        "deadline": question.deadline.map(|deadline| deadline.at),
        "status": status,
    });
    if let Some(deadline) = question.deadline {
        object["default"] = json!(deadline.default);
    }
    let call = question.call.as_ref();
    let optional = [
        ("task", question.asker.task().map(|task| json!(task))),
        ("agent", question.asker.agent().or(call.map(|call| &call.agent)).map(|agent| json!(agent))),
        ("tool", question.tool.as_ref().or(call.map(|call| &call.tool)).map(|tool| json!(tool))),
        ("arguments", call.map(|call| call.arguments.clone())),
        ("effect", call.map(|call| json!(call.effect))),
        ("left_open_because", asked.deferred_reason().map(|reason| json!(printable(reason)))),
        ("fields", (kind == "form").then(|| fields.into())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            object[name] = value;
        }
    }
    if let Some(url) = url {
        object["url"] = printable(url).into();
        object["host"] = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).into();
    }
    if let Some((answer, by)) = &asked.answer {
        object["answer"] = answer_json(answer);
        object["answered_by"] = printable(by).into();
    }
    object
}

fn answer_json(answer: &Answer) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}
