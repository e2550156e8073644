//! Builds the requests of rmcp's service that rmcp's types do not cover, or whose results it must not parse.

use rmcp::model::{ClientRequest, CustomRequest};
use serde_json::Value;

/// The methods whose results are passed on as their JSON text.
const METHODS_WITH_TEXT_RESULT: [&str; 4] =
    ["completion/complete", "prompts/list", "resources/list", "resources/templates/list"];

/// Builds a request from its method and parameters.
pub(crate) fn custom_request(method: &str, params: Value) -> ClientRequest {
    ClientRequest::CustomRequest(CustomRequest::new(method, Some(params)))
}

/// Returns whether the result of the request is passed on as its JSON text.
pub(crate) fn has_text_result(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::ListToolsRequest(_) => true,
        ClientRequest::CustomRequest(custom) => METHODS_WITH_TEXT_RESULT.contains(&custom.method.as_str()),
        _ => false,
    }
}
