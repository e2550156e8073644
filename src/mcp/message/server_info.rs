//! Parses the results of `initialize` and `server/discover` for rmcp. Defects in members that this host does not need
//! are ignored.

use rmcp::model::{DiscoverResult, Implementation, InitializeResult, ProtocolVersion};
use serde_json::{Map, Value, json};

use super::limits::MAX_INSTRUCTIONS_BYTES;
use crate::model::JsonObject;
use crate::model::text::truncate_bytes;

/// The protocol version of a server that reports none, as the specification defines it for HTTP.
const DEFAULT_VERSION: &str = "2025-03-26";
/// The `_meta` key under which a modern server describes itself.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// The capabilities that are parsed, with their flags.
const CAPABILITIES: &[(&str, &[&str])] = &[
    ("logging", &[]),
    ("completions", &[]),
    ("prompts", &["listChanged"]),
    ("resources", &["subscribe", "listChanged"]),
    ("tools", &["listChanged"]),
];

/// Parses the result of `initialize`.
///
/// # Errors
/// Returns a description of the problem if the result is not an object.
pub(crate) fn read_initialize_result(result: Value) -> Result<InitializeResult, String> {
    let result = as_object(result).ok_or("the result of `initialize` is not an object")?;
    let text = |key: &str| result.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let latest = ProtocolVersion::LATEST_WITH_INITIALIZE;
    if let Some(version) = text("protocolVersion").filter(|version| *version > latest.as_str()) {
        return Err(format!("its protocol version is `{version}`, and `initialize` exists up to {latest}"));
    }
    let mut read = json!({
        "protocolVersion": text("protocolVersion").unwrap_or(DEFAULT_VERSION),
        "capabilities": capabilities(result.get("capabilities")),
        "serverInfo": implementation(result.get("serverInfo")),
    });
    if let Some(instructions) = instructions(&result) {
        read["instructions"] = json!(instructions);
    }
    serde_json::from_value(read).map_err(|_| "the result of `initialize` cannot be read".to_owned())
}

/// Returns the result of `initialize` with what a result of `server/discover` says of a server that speaks 2026-07-28.
pub(crate) fn as_initialize_result(discovered: DiscoverResult) -> InitializeResult {
    let mut result = InitializeResult::new(discovered.capabilities.clone());
    result.protocol_version = ProtocolVersion::V_2026_07_28;
    result.server_info = discovered.server_info().unwrap_or_else(|| Implementation::new("", ""));
    result.instructions = discovered.instructions;
    result
}

/// Parses the result of `server/discover`.
///
/// # Errors
/// Returns a description of the problem if the result is not an object or names no version.
pub(crate) fn read_discover_result(result: Value) -> Result<DiscoverResult, String> {
    let result = as_object(result).ok_or("the result of `server/discover` is not an object")?;
    let versions: Vec<&str> = match result.get("supportedVersions") {
        Some(Value::Array(versions)) => versions.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(version)) => vec![version],
        _ => Vec::new(),
    };
    if versions.is_empty() {
        return Err("the result of `server/discover` has no version in `supportedVersions`".to_owned());
    }
    let ttl = result.get("ttlMs").and_then(Value::as_f64).filter(|ttl| *ttl >= 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; `as` saturates")]
    let ttl = ttl.map_or(0, |ttl| ttl as u64);
    let scope = result.get("cacheScope").and_then(Value::as_str).filter(|scope| *scope == "public");
    let mut read = json!({
        "resultType": "complete",
        "supportedVersions": versions,
        "capabilities": capabilities(result.get("capabilities")),
        "ttlMs": ttl,
        "cacheScope": scope.unwrap_or("private"),
    });
    if let Some(instructions) = instructions(&result) {
        read["instructions"] = json!(instructions);
    }
    if let Some(Value::Object(meta)) = result.get("_meta") {
        let mut meta = meta.clone();
        if let Some(info) = meta.get_mut(SERVER_INFO) {
            *info = implementation(Some(&info.take()));
        }
        read["_meta"] = Value::Object(meta);
    }
    serde_json::from_value(read).map_err(|_| "the result of `server/discover` cannot be read".to_owned())
}

/// Returns the instructions of a server, truncated to the length that is kept.
fn instructions(result: &JsonObject) -> Option<String> {
    let mut text = result.get("instructions")?.as_str()?.trim().to_owned();
    truncate_bytes(&mut text, MAX_INSTRUCTIONS_BYTES);
    Some(text).filter(|text| !text.is_empty())
}

/// Returns `value` as an object. Some languages encode an empty object as an empty list.
pub(crate) fn as_object(value: Value) -> Option<JsonObject> {
    match value {
        Value::Object(object) => Some(object),
        Value::Array(items) if items.is_empty() => Some(JsonObject::new()),
        _ => None,
    }
}

/// Returns the capabilities of a server. A capability is present unless it is `null` or `false`.
fn capabilities(member: Option<&Value>) -> Value {
    let empty = Value::Object(Map::new());
    let mut read = Map::new();
    for (name, flags) in CAPABILITIES {
        let capability = match member {
            Some(Value::Array(names)) => names.iter().any(|other| other == name).then_some(&empty),
            member => {
                member.and_then(|member| member.get(name)).filter(|it| !matches!(it, Value::Null | Value::Bool(false)))
            }
        };
        if let Some(capability) = capability {
            let is_set = |flag: &&&str| capability.get(**flag).and_then(Value::as_bool).is_some();
            let flags = flags.iter().filter(is_set).map(|flag| ((*flag).to_owned(), capability[*flag].clone()));
            read.insert((*name).to_owned(), Value::Object(flags.collect()));
        }
    }
    if let Some(Value::Object(extensions)) = member.and_then(|member| member.get("extensions")) {
        let settings = |value: &Value| as_object(value.clone()).map(Value::Object);
        let extensions = extensions.iter().filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
        let extensions =
            extensions.map(|(name, value)| (name.clone(), settings(value).unwrap_or_else(|| empty.clone())));
        read.insert("extensions".to_owned(), Value::Object(extensions.collect()));
    }
    Value::Object(read)
}

/// Returns the name and the version of a server. Missing members are empty.
fn implementation(member: Option<&Value>) -> Value {
    let text = |key: &str| match member.and_then(|member| member.get(key)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    match member {
        Some(Value::String(name)) => json!({"name": name, "version": ""}),
        _ => json!({"name": text("name"), "version": text("version")}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initialize_results_may_have_malformed_optional_members() {
        let expected = |capabilities: Value| {
            let info = json!({"name": "s", "version": "1"});
            json!({"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info})
        };
        let read = |capabilities: Value, more: Value| {
            let mut result = expected(capabilities);
            result.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            serde_json::to_value(read_initialize_result(result).unwrap()).unwrap()
        };
        for (member, capabilities) in [
            (json!({"tools": []}), json!({"tools": {}})),
            (json!({"tools": [{"name": "t"}], "logging": []}), json!({"logging": {}, "tools": {}})),
            (json!({"tools": true, "prompts": false, "resources": null}), json!({"tools": {}})),
            (json!({"tools": {"listChanged": "yes"}}), json!({"tools": {}})),
            (json!({"tools": {"listChanged": true}, "experimental": []}), json!({"tools": {"listChanged": true}})),
            (json!(["tools", "logging"]), json!({"logging": {}, "tools": {}})),
            (json!([]), json!({})),
            (json!(null), json!({})),
            (json!("all"), json!({})),
        ] {
            assert_eq!(read(member, json!({})), expected(capabilities));
        }
        let odd = json!({"instructions": 7, "_meta": null, "x": []});
        assert_eq!(read(json!({}), odd), expected(json!({})));
        let server = |info: Value| read(json!({}), json!({"serverInfo": info}))["serverInfo"].clone();
        assert_eq!(server(json!({"name": "s"})), json!({"name": "s", "version": ""}));
        assert_eq!(server(json!({"name": "s", "version": 2, "icons": {}})), json!({"name": "s", "version": "2"}));
        for nameless in [json!(null), json!([]), json!({"name": null})] {
            assert_eq!(server(nameless), json!({"name": "", "version": ""}));
        }
        for version in [json!(null), json!(""), json!(20_250_618), json!({})] {
            assert_eq!(read(json!({}), json!({"protocolVersion": version}))["protocolVersion"], DEFAULT_VERSION);
        }
        for version in ["2024-10-07", "2024-11-05", "2025-11-25", "1.0"] {
            assert_eq!(read(json!({}), json!({"protocolVersion": version}))["protocolVersion"], version);
        }
        for version in ["2026-07-28", "2099-01-01", "DRAFT-2026-v1"] {
            let reason = read_initialize_result(json!({"protocolVersion": version, "capabilities": {}})).unwrap_err();
            assert!(reason.contains(version), "{reason}");
        }
        assert_eq!(
            read_initialize_result(json!("hello")),
            Err("the result of `initialize` is not an object".to_owned())
        );
    }

    #[test]
    fn discover_results_may_have_malformed_optional_members() {
        let result = json!({
            "resultType": null, "supportedVersions": ["2026-07-28", null], "capabilities": {"tools": []},
            "ttlMs": null, "cacheScope": "", "instructions": null,
            "_meta": {SERVER_INFO: {"name": "s"}},
        });
        let read = read_discover_result(result).unwrap();
        assert_eq!((read.supported_versions.len(), read.ttl_ms), (1, 0));
        assert!(read.capabilities.tools.is_some());
        assert_eq!(read.server_info().map(|info| info.name.clone()), Some("s".to_owned()));
        for none in [json!({}), json!({"supportedVersions": null}), json!({"supportedVersions": []}), json!(null)] {
            assert!(read_discover_result(none).is_err());
        }
    }
}
