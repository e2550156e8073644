//! Converts between MCP elicitations and kapell's questions.

use rmcp::model::{ElicitResult, ElicitationAction, ErrorData};
use serde_json::Value;

use crate::mcp::message::limits::MAX_PARAMS_BYTES;
use crate::mcp::message::tool_listing;
use crate::model::{Answer, Elicitation, Form};

/// The maximum length of a question's message in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The maximum length of a page's URL in bytes.
const MAX_URL_BYTES: usize = 16 * 1024;
/// The maximum size of a form's schema as JSON, in bytes.
const MAX_SCHEMA_BYTES: usize = 256 * 1024;
/// The maximum number of fields of a form.
const MAX_FIELDS: usize = 500;
/// The maximum number of questions in one call.
pub(crate) const MAX_QUESTIONS: u32 = 1_000;

/// Returns the limit that a question exceeds, if any.
fn exceeded_limit(elicitation: &Elicitation) -> Option<String> {
    let excess = |what: &str, size: usize, limit: usize| (size > limit).then(|| format!("{what}: at most {limit}"));
    let form = match &elicitation.form {
        Form::Fields { schema } => {
            let fields = schema.get("properties").and_then(Value::as_object).map_or(0, serde_json::Map::len);
            let bytes = serde_json::to_vec(schema).map_or(usize::MAX, |text| text.len());
            excess("fields of `requestedSchema`", fields, MAX_FIELDS)
                .or_else(|| excess("bytes of `requestedSchema`", bytes, MAX_SCHEMA_BYTES))
        }
        Form::Url { url, id } => excess("bytes of `url`", url.len(), MAX_URL_BYTES)
            .or_else(|| excess("bytes of `elicitationId`", id.as_ref().map_or(0, String::len), MAX_URL_BYTES)),
        Form::Approval => None,
    };
    form.or_else(|| excess("bytes of `message`", elicitation.message.len(), MAX_MESSAGE_BYTES))
}

/// Parses the parameters of `elicitation/create`, in either mode. The schema is not interpreted: the caller decides
/// which schemas it supports.
///
/// # Errors
/// Returns JSON-RPC error -32602 that names the missing parameter or the exceeded limit.
pub(crate) fn read(params: &Value) -> Result<Elicitation, ErrorData> {
    let refuse = |what: &str| ErrorData::invalid_params(what.to_owned(), None);
    if let Some(bytes) = params.as_u64() {
        let limit = format!("too large for this host: {bytes} bytes of parameters: at most {MAX_PARAMS_BYTES}");
        return Err(refuse(&limit));
    }
    let text = |key| params.get(key).and_then(Value::as_str).map(str::to_owned);
    let form = match params.get("mode").and_then(Value::as_str) {
        None | Some("form") => {
            let schema = params.get("requestedSchema").and_then(Value::as_object);
            Form::Fields {
                schema: schema
                    .cloned()
                    .map(tool_listing::clean_schema)
                    .ok_or_else(|| refuse("`requestedSchema` must be an object"))?,
            }
        }
        Some("url") => {
            let url = text("url").ok_or_else(|| refuse("`url` must be text"))?;
            Form::Url { url, id: text("elicitationId") }
        }
        Some(_) => return Err(refuse("`mode` must be `form` or `url`")),
    };
    let message = text("message").ok_or_else(|| refuse("`message` must be text"))?;
    let elicitation = Elicitation { message, form };
    match exceeded_limit(&elicitation) {
        Some(limit) => Err(refuse(&format!("too large for this host: {limit}"))),
        None => Ok(elicitation),
    }
}

/// Converts the answer into a result of MCP.
pub(crate) fn write(answer: Answer) -> ElicitResult {
    match answer {
        Answer::Accept { content: Some(content) } => ElicitResult::new(ElicitationAction::Accept).with_content(content),
        Answer::Accept { content: None } => ElicitResult::new(ElicitationAction::Accept),
        Answer::Decline => ElicitResult::new(ElicitationAction::Decline),
        Answer::Cancel => ElicitResult::new(ElicitationAction::Cancel),
    }
}

/// Returns the pages that a person must visit first, from the data of JSON-RPC error -32042.
pub(crate) fn required_urls(data: Option<&Value>) -> Vec<Elicitation> {
    let pages = data.and_then(|data| data.get("elicitations")).and_then(Value::as_array);
    let pages = pages.into_iter().flatten().filter_map(|page| read(page).ok());
    pages.filter(|page| matches!(page.form, Form::Url { .. })).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn form_and_url_modes_are_read() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "x-odd": [1]}}});
        let fields = Elicitation {
            message: "how many?".to_owned(),
            form: Form::Fields { schema: schema.as_object().cloned().unwrap() },
        };
        let params = json!({"message": "how many?", "requestedSchema": schema});
        assert_eq!(read(&params), Ok(fields.clone()));
        let mut tagged = params;
        tagged["mode"] = json!("form");
        assert_eq!(read(&tagged), Ok(fields));

        let url = "https://example.org/?a=1".to_owned();
        for (params, id) in [
            (json!({"mode": "url", "message": "log in", "url": url}), None),
            (json!({"mode": "url", "message": "log in", "url": url, "elicitationId": "e1"}), Some("e1".to_owned())),
        ] {
            let page = Elicitation { message: "log in".to_owned(), form: Form::Url { url: url.clone(), id } };
            assert_eq!(read(&params), Ok(page));
        }
    }

    #[test]
    fn errors_name_the_missing_parameter() {
        for (params, problem) in [
            (json!({"message": "m"}), "`requestedSchema`"),
            (json!({"requestedSchema": {}}), "`message`"),
            (json!({"mode": "url", "message": "m"}), "`url`"),
            (json!({"mode": "voice", "message": "m"}), "`mode`"),
        ] {
            assert!(read(&params).unwrap_err().message.contains(problem));
        }
    }

    #[test]
    fn each_part_of_an_elicitation_is_bounded() {
        let fields: serde_json::Map<_, _> = (0..501).map(|index| (index.to_string(), json!({}))).collect();
        let long = "x".repeat(300_000);
        for (params, limit) in [
            (json!({"message": long, "requestedSchema": {}}), "bytes of `message`: at most 65536"),
            (
                json!({"message": "m", "requestedSchema": {"description": long}}),
                "bytes of `requestedSchema`: at most 262144",
            ),
            (
                json!({"message": "m", "requestedSchema": {"properties": fields}}),
                "fields of `requestedSchema`: at most 500",
            ),
            (json!({"message": "m", "mode": "url", "url": long}), "bytes of `url`: at most 16384"),
        ] {
            assert_eq!(read(&params).unwrap_err().message, format!("too large for this host: {limit}"));
        }
    }

    #[test]
    fn results_carry_the_action() {
        for (answer, written) in [
            (Answer::Accept { content: Some(json!({"a": 1})) }, json!({"action": "accept", "content": {"a": 1}})),
            (Answer::Accept { content: None }, json!({"action": "accept"})),
            (Answer::Decline, json!({"action": "decline"})),
            (Answer::Cancel, json!({"action": "cancel"})),
        ] {
            assert_eq!(serde_json::to_value(write(answer)).unwrap(), written);
        }
    }
}
