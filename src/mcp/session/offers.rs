//! Lists the resources and prompts of one agent, and requests completions of their arguments. Nothing is cached: a
//! later listing shows changes, whether the agent announces them or not.

use std::collections::HashSet;

use rmcp::ServiceError;
use rmcp::model::{ErrorCode, ProtocolVersion};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::catalog::declares;
use super::connection::Connection;
use crate::mcp::message::lenient_json;
use crate::mcp::message::service_request::custom_request;
use crate::mcp::message::service_result::unwrap_text;
use crate::mcp::transport::request_failure;
use crate::model::{
    AgentOffers, Completion, CompletionRequest, CompletionTarget, Failure, FailureKind, HumanDuration, JsonObject,
};

/// The maximum number of entries of one list, and of its pages.
const MAX_ENTRIES: usize = 10_000;
const MAX_PAGES: usize = 1_000;

/// A kind of entry that agents list.
struct ListKind {
    method: &'static str,
    /// The key of the entries in the result.
    key: &'static str,
    /// The key that each entry must have.
    required: &'static str,
}

const RESOURCES: ListKind = ListKind { method: "resources/list", key: "resources", required: "uri" };
const RESOURCE_TEMPLATES: ListKind =
    ListKind { method: "resources/templates/list", key: "resourceTemplates", required: "uriTemplate" };
const PROMPTS: ListKind = ListKind { method: "prompts/list", key: "prompts", required: "name" };

impl Connection {
    /// Lists the resources, resource templates, and prompts. What the agent does not declare is empty, and is not
    /// requested. Also returns the defects of the lists, and the reasons for missing ones.
    pub(crate) async fn list_offers(&self) -> (AgentOffers, Vec<String>) {
        let has_resources = declares(&self.peer, |capabilities| capabilities.resources.is_some());
        let has_prompts = declares(&self.peer, |capabilities| capabilities.prompts.is_some());
        let mut warnings = Vec::new();
        let offers = AgentOffers {
            resources: self.list_if(has_resources, &RESOURCES, &mut warnings).await,
            resource_templates: self.list_if(has_resources, &RESOURCE_TEMPLATES, &mut warnings).await,
            prompts: self.list_if(has_prompts, &PROMPTS, &mut warnings).await,
        };
        (offers, warnings)
    }

    /// Returns values that complete an argument.
    ///
    /// # Errors
    /// Returns a failure if the agent does not support completion, or does not know the prompt or the template.
    pub(crate) async fn complete(&self, request: &CompletionRequest) -> Result<Completion, Failure> {
        let CompletionRequest { target, argument, value, context } = request;
        let target = match target {
            CompletionTarget::Prompt(name) => json!({"type": "ref/prompt", "name": name}),
            CompletionTarget::ResourceTemplate(template) => json!({"type": "ref/resource", "uri": template}),
        };
        let mut params = json!({"ref": target, "argument": {"name": argument, "value": value}});
        if !context.is_empty() {
            params["context"] = json!({"arguments": context});
        }
        let agent = &self.spec.id;
        let unsupported = || Failure::new(FailureKind::Refused, format!("agent `{agent}` does not support completion"));
        // The first version of the protocol has completion, but no capability for it.
        let is_supported = self.peer.peer_info().is_none_or(|info| {
            info.capabilities.completions.is_some() || info.protocol_version == ProtocolVersion::V_2024_11_05
        });
        if !is_supported {
            return Err(unsupported());
        }
        let text = self.request("completion/complete", params).await.map_err(|error| match error {
            ServiceError::McpError(error) if error.code == ErrorCode::METHOD_NOT_FOUND => unsupported(),
            error => self.failure_of("completion/complete", &error),
        })?;
        let result = lenient_json::parse_value(&text).unwrap_or_default();
        read_completion(&result).ok_or_else(|| {
            let reason = lenient_json::describe_unreadable("it has no `completion` with `values`", &text);
            Failure::new(FailureKind::InvalidResult, format!("agent `{agent}` sent an invalid completion: {reason}"))
        })
    }

    /// Lists all pages if `is_declared`. Returns `None` with a warning if the agent does not list them.
    async fn list_if<T: DeserializeOwned>(
        &self,
        is_declared: bool,
        kind: &ListKind,
        warnings: &mut Vec<String>,
    ) -> Option<Vec<T>> {
        if !is_declared {
            return Some(Vec::new());
        }
        let mut list = EntryList { entries: Vec::new(), invalid: 0, is_truncated: false };
        let (mut cursor, mut seen) = (None, HashSet::new());
        for _ in 0..MAX_PAGES {
            let params = cursor.as_ref().map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
            let page = match self.request(kind.method, params).await {
                Ok(page) => page,
                // Templates are optional even for agents with resources.
                Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => break,
                Err(error) => {
                    warnings.push(self.failure_of(kind.method, &error).message);
                    return None;
                }
            };
            cursor = list.read_page(&page, kind);
            if cursor.as_ref().is_none_or(|cursor| list.is_truncated || !seen.insert(cursor.clone())) {
                break;
            }
        }
        list.report_defects(kind, warnings);
        Some(list.entries)
    }

    /// Sends a request outside of any call, and returns the JSON of its result.
    async fn request(&self, method: &str, params: Value) -> Result<String, ServiceError> {
        let sending = self.peer.send_request(custom_request(method, params));
        let limit = self.spec.startup_timeout;
        let sent = tokio::time::timeout(limit, sending).await.map_err(|_| ServiceError::Timeout { timeout: limit })?;
        unwrap_text(sent?).map_err(|_| ServiceError::UnexpectedResponse)
    }

    fn failure_of(&self, method: &str, error: &ServiceError) -> Failure {
        let agent = &self.spec.id;
        let failure = match error {
            ServiceError::Timeout { timeout } => {
                Failure::new(FailureKind::IdleTimeout, format!("no response within {}", HumanDuration(*timeout)))
            }
            error => request_failure::from_service(agent, error)
                .unwrap_or_else(|| Failure::new(FailureKind::ConnectionLost, "the connection was lost")),
        };
        Failure { message: format!("`{method}` of agent `{agent}`: {}", failure.message), ..failure }
    }
}

/// The entries of all pages.
struct EntryList<T> {
    entries: Vec<T>,
    invalid: usize,
    is_truncated: bool,
}

impl<T: DeserializeOwned> EntryList<T> {
    /// Adds the entries of a page. Returns the cursor of the next one.
    fn read_page(&mut self, page: &str, kind: &ListKind) -> Option<String> {
        let mut page = lenient_json::parse_value(page).unwrap_or_default();
        let entries = page.get_mut(kind.key).map(Value::take).and_then(lenient_json::list_elements);
        for mut entry in entries.unwrap_or_default() {
            if self.entries.len() >= MAX_ENTRIES {
                self.is_truncated = true;
                break;
            }
            remove_nulls(&mut entry);
            match serde_json::from_value(entry) {
                Ok(entry) => self.entries.push(entry),
                Err(_) => self.invalid += 1,
            }
        }
        page.get("nextCursor").and_then(Value::as_str).filter(|cursor| !cursor.is_empty()).map(str::to_owned)
    }

    fn report_defects(&self, kind: &ListKind, warnings: &mut Vec<String>) {
        let ListKind { method, required, .. } = kind;
        if self.invalid > 0 {
            let count = self.invalid;
            warnings.push(format!("{count} entries of `{method}` without a valid `{required}` are not listed"));
        }
        if self.is_truncated {
            warnings.push(format!("only the first {MAX_ENTRIES} entries of `{method}` are listed"));
        }
    }
}

/// Removes all members that are null, and so counts them as absent.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// Parses the result of `completion/complete`. Values that are not texts are skipped.
fn read_completion(result: &Value) -> Option<Completion> {
    let completion: &JsonObject = result.get("completion")?.as_object()?;
    let values = completion.get("values")?.as_array()?;
    Some(Completion {
        values: values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        total: completion.get("total").and_then(Value::as_u64),
        has_more: completion.get("hasMore").and_then(Value::as_bool).unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PromptArgument, PromptInfo, ResourceDetails, ResourceInfo};

    fn list<T: DeserializeOwned>() -> EntryList<T> {
        EntryList { entries: Vec::new(), invalid: 0, is_truncated: false }
    }

    #[test]
    fn entries_are_read_leniently() {
        let mut resources = list::<ResourceInfo>();
        let page = json!({"resources": [
            {"uri": "note://1", "name": "one", "mimeType": "text/plain", "description": null, "x": 1},
            {"name": "without an address"},
            {"uri": "note://2"},
        ], "nextCursor": "2"});
        assert_eq!(resources.read_page(&page.to_string(), &RESOURCES), Some("2".to_owned()));
        let details = ResourceDetails {
            name: Some("one".into()),
            mime_type: Some("text/plain".into()),
            ..ResourceDetails::default()
        };
        let first = ResourceInfo { uri: "note://1".into(), details };
        let second = ResourceInfo { uri: "note://2".into(), ..ResourceInfo::default() };
        assert_eq!((resources.entries.as_slice(), resources.invalid), (&[first, second][..], 1));
        let mut warnings = Vec::new();
        resources.report_defects(&RESOURCES, &mut warnings);
        assert_eq!(warnings, ["1 entries of `resources/list` without a valid `uri` are not listed"]);
        assert_eq!(list::<ResourceInfo>().read_page("{}", &RESOURCES), None);
    }

    #[test]
    fn prompt_arguments_are_read() {
        let mut prompts = list::<PromptInfo>();
        let arguments = json!([{"name": "city", "required": true}, {"name": "days", "required": null}]);
        let page = json!({"prompts": [{"name": "trip", "arguments": arguments}, {"name": "plain", "arguments": null}]});
        assert_eq!(prompts.read_page(&page.to_string(), &PROMPTS), None);
        let argument =
            |name: &str, required| PromptArgument { name: name.into(), required, ..PromptArgument::default() };
        let arguments = vec![argument("city", true), argument("days", false)];
        let trip = PromptInfo { name: "trip".into(), arguments, ..PromptInfo::default() };
        let plain = PromptInfo { name: "plain".into(), ..PromptInfo::default() };
        assert_eq!(prompts.entries, [trip, plain]);
    }

    #[test]
    fn completions_are_read() {
        let read = |completion: Value| read_completion(&json!({"completion": completion}));
        let values = vec!["a".to_owned(), "b".to_owned()];
        let expected = Completion { values: values.clone(), total: Some(7), has_more: true };
        assert_eq!(read(json!({"values": ["a", 1, "b"], "total": 7, "hasMore": true})), Some(expected));
        assert_eq!(read(json!({"values": ["a", "b"]})), Some(Completion { values, ..Completion::default() }));
        assert_eq!([read(json!({})), read(json!(null)), read_completion(&json!([]))], [None, None, None]);
    }
}
