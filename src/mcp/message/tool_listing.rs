//! Parses the pages of `tools/list` tool by tool, so that a defect affects one tool only. Limits tools, bytes, and
//! pages.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::lenient_json::{self, RawMembers};
use super::server_info;
use crate::model::text::truncate_bytes;
use crate::model::{AgentSpec, Effect, JsonObject, ToolInfo};

/// The maximum number of pages. Some servers return cursors forever.
pub(crate) const MAX_PAGES: usize = 1_000;
/// The maximum number of usable tools of one agent.
pub(crate) const MAX_TOOLS: usize = 10_000;
/// The maximum size of one tool with its schemas, in bytes. Further members are ignored.
pub(crate) const MAX_TOOL_BYTES: usize = 1024 * 1024;
/// The maximum size of all usable tools of an agent, in bytes.
pub(crate) const MAX_CATALOG_BYTES: usize = 16 * 1024 * 1024;
/// The maximum size of all pages, in bytes.
pub(crate) const MAX_LISTED_BYTES: usize = 64 * 1024 * 1024;
/// The maximum length of a tool's name, in characters.
const MAX_NAME_CHARS: usize = 256;
/// The size to which a tool's description is truncated, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;
/// The maximum number of stored warnings. Others are counted.
const MAX_WARNINGS: usize = 20;
/// The maximum number of unusable tools whose names are stored.
const MAX_UNUSABLE_TOOLS: usize = 1_000;
/// The size at which a page is parsed on another thread.
const LARGE_PAGE_BYTES: usize = 256 * 1024;
/// The maximum nesting depth of the parser.
const MAX_DEPTH: usize = 128;

/// The tools of an agent from the pages that have been read.
#[derive(Debug, Default)]
pub(crate) struct ToolListing {
    pub(crate) tools: Vec<ToolInfo>,
    /// The tools that can only be called as experimental tasks of MCP 2025-11-25.
    pub(crate) task_only_tools: HashSet<String>,
    /// The unusable tools with their reasons. Tools without a name are not included.
    pub(crate) unusable: BTreeMap<String, String>,
    /// The names of all listed tools, usable or not.
    names: HashSet<String>,
    /// The minimum `ttlMs` of the pages so far.
    ttl_ms: Option<u64>,
    warnings: Vec<String>,
    extra_warnings: usize,
    pages: usize,
    listed_bytes: usize,
    catalog_bytes: usize,
    /// The limit that was reached.
    reached_limit: Option<String>,
    /// The number of tools beyond that limit.
    tools_beyond_limit: usize,
}

impl ToolListing {
    /// Reads a page, which is the JSON result of `tools/list`. Returns the cursor of the next page, if any.
    ///
    /// # Errors
    /// Returns an error with an excerpt if the page is not an object.
    pub(crate) async fn read(mut self, page: String, spec: Arc<AgentSpec>) -> Result<(Self, Option<String>), String> {
        let is_large = page.len() > LARGE_PAGE_BYTES;
        let read = move || match self.read_page(&page, &|name| spec.is_tool_allowed(name)) {
            Some(cursor) => Ok((self, cursor)),
            None => Err(lenient_json::describe_unreadable("the result of `tools/list` is not an object", &page)),
        };
        match is_large {
            true => {
                tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err("it could not be parsed".to_owned()))
            }
            false => read(),
        }
    }

    /// Returns whether another page may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.reached_limit.is_none()
    }

    /// Returns how long the list of a modern agent is valid. Without a `ttlMs`, it is not cached.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms.unwrap_or(0))
    }

    /// Removes the tools that must not be used, with the reason that `error` returns for them.
    pub(crate) fn reject_tools(&mut self, error: impl Fn(&ToolInfo) -> Option<String>) {
        for tool in std::mem::take(&mut self.tools) {
            match error(&tool) {
                Some(reason) => self.reject_tool(tool.name, reason),
                None => self.tools.push(tool),
            }
        }
    }

    /// Returns the warnings about the list for the user.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if self.extra_warnings > 0 {
            warnings.push(format!("{} more tools with defects", self.extra_warnings));
        }
        if let Some(limit) = &self.reached_limit {
            let others = match self.tools_beyond_limit {
                0 => "the pages after that are not read".to_owned(),
                beyond => format!("{beyond} more tools and the pages after them are ignored"),
            };
            warnings.push(format!("the list of tools is longer than {limit}: {others}"));
        }
        warnings
    }

    fn read_page(&mut self, page: &str, allows: &dyn Fn(&str) -> bool) -> Option<Option<String>> {
        self.pages += 1;
        self.listed_bytes += page.len();
        let members = serde_json::from_str::<RawMembers<'_>>(page).ok()?;
        match members.get("tools").map(parse_tools) {
            None => self.warn("`tools/list` has a result without `tools`".to_owned()),
            Some(None) => self.warn("`tools` in the result of `tools/list` is not a list".to_owned()),
            Some(Some(tools)) => {
                for tool in tools {
                    if self.reached_limit.is_some() {
                        self.tools_beyond_limit += 1;
                    } else {
                        self.add_tool(tool, allows);
                    }
                }
            }
        }
        let ttl = members.get("ttlMs").and_then(|ttl| ttl.parse::<f64>().ok()).unwrap_or(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        let ttl = ttl as u64;
        self.ttl_ms = Some(self.ttl_ms.map_or(ttl, |earlier| earlier.min(ttl)));
        if self.pages >= MAX_PAGES {
            self.set_reached_limit(format!("{MAX_PAGES} pages"));
        } else if self.listed_bytes > MAX_LISTED_BYTES {
            self.set_reached_limit(format!("{} MiB", MAX_LISTED_BYTES / (1024 * 1024)));
        }
        let cursor = members.get("nextCursor").and_then(|cursor| lenient_json::parse_value(cursor).ok());
        if cursor.is_none() && self.tools_beyond_limit == 0 {
            // The limit was not exceeded.
            self.reached_limit = None;
        }
        Some(match cursor {
            Some(Value::String(cursor)) => Some(cursor),
            Some(Value::Number(cursor)) => Some(cursor.to_string()),
            _ => None,
        })
    }

    fn add_tool(&mut self, tool: &RawValue, allows: &dyn Fn(&str) -> bool) {
        let tool = tool.get();
        let nth = self.names.len() + 1;
        let Ok(members) = serde_json::from_str::<RawMembers<'_>>(tool) else {
            return self.warn(format!(
                "tool {nth} is ignored: {}",
                lenient_json::describe_unreadable("it is not an object", tool)
            ));
        };
        let name = match members.get("name").and_then(|name| lenient_json::parse_value(name).ok()) {
            Some(Value::String(name)) if is_valid_name(&name) => name,
            None | Some(Value::Null) => return self.warn(format!("tool {nth} is ignored: it has no `name`")),
            Some(name) => {
                let problem = lenient_json::describe_unreadable("its `name` is not usable", &name.to_string());
                return self.warn(format!("tool {nth} is ignored: {problem}"));
            }
        };
        if !allows(&name) {
            return;
        }
        if !self.names.insert(name.clone()) {
            return self.warn(format!("tool `{name}` is listed more than once; the first one is used"));
        }
        if self.tools.len() >= MAX_TOOLS {
            self.tools_beyond_limit += 1;
            return self.set_reached_limit(format!("{MAX_TOOLS} tools"));
        }
        let bytes = tool.len().min(MAX_TOOL_BYTES);
        if self.catalog_bytes + bytes > MAX_CATALOG_BYTES {
            self.tools_beyond_limit += 1;
            return self.set_reached_limit(format!("{} MiB of tools", MAX_CATALOG_BYTES / (1024 * 1024)));
        }
        let mut room = MAX_TOOL_BYTES;
        let mut read = |key: &str| {
            let json = members.get(key)?;
            let Some(remaining) = room.checked_sub(json.len()) else {
                let size = format!("its definition is larger than {} KiB", MAX_TOOL_BYTES / 1024);
                self.warn(format!("tool `{name}`: {size}, and its `{key}` is not used"));
                return None;
            };
            room = remaining;
            match lenient_json::parse_value(json) {
                Ok(Value::Null) => None,
                Ok(value) => Some(value),
                Err(_) => {
                    let depth = format!("is nested deeper than {MAX_DEPTH} levels, and is not used");
                    self.warn(format!("tool `{name}`: its `{key}` {depth}"));
                    None
                }
            }
        };
        // The members that decide how the tool is called are read first, so that large schemas cannot displace them.
        let (annotations, execution) = (read("annotations"), read("execution"));
        let (input, output) = (read("inputSchema"), read("outputSchema"));
        let (title, description) = (read("title"), read("description"));
        let schema = |value: Option<Value>| match value {
            None | Some(Value::Bool(true)) => Ok(None),
            Some(schema) => server_info::as_object(schema).map(clean_schema).map(Some).ok_or(()),
        };
        let Ok(input_schema) = schema(input) else {
            return self.reject_tool(name, "its `inputSchema` is not an object".to_owned());
        };
        let output_schema = schema(output).unwrap_or_else(|()| {
            self.warn(format!("tool `{name}`: its `outputSchema` is not an object, and is not used"));
            None
        });
        let text = |value: Option<Value>| match value {
            Some(Value::String(mut text)) => {
                truncate_bytes(&mut text, MAX_DESCRIPTION_BYTES);
                Some(text)
            }
            _ => None,
        };
        let hint = |key: &str| annotations.as_ref().and_then(|it| it.get(key)).and_then(Value::as_bool) == Some(true);
        let effect = if hint("readOnlyHint") {
            Some(Effect::ReadOnly)
        } else {
            hint("idempotentHint").then_some(Effect::Idempotent)
        };
        let own_title = annotations.as_ref().and_then(|annotations| annotations.get("title")).cloned();
        if execution.and_then(|execution| execution.get("taskSupport").cloned()).is_some_and(|it| it == "required") {
            self.task_only_tools.insert(name.clone());
        }
        self.catalog_bytes += bytes;
        let title = text(title).or_else(|| text(own_title));
        let (description, input_schema) = (text(description), input_schema.unwrap_or_default());
        self.tools.push(ToolInfo { name, title, description, input_schema, output_schema, effect });
    }

    fn reject_tool(&mut self, name: String, reason: String) {
        self.warn(format!("tool `{name}` is ignored: {reason}"));
        if self.unusable.len() < MAX_UNUSABLE_TOOLS {
            self.unusable.insert(name, reason);
        }
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        } else {
            self.extra_warnings += 1;
        }
    }

    fn set_reached_limit(&mut self, limit: String) {
        self.reached_limit.get_or_insert(limit);
    }
}

/// Returns the tools in a list. An object is read as the list of its values, because some languages encode sparse lists
/// this way.
fn parse_tools(list: &str) -> Option<Vec<&RawValue>> {
    match serde_json::from_str::<Vec<&RawValue>>(list) {
        Ok(tools) => Some(tools),
        Err(_) => Some(serde_json::from_str::<RawMembers<'_>>(list).ok()?.0.into_values().collect()),
    }
}

/// Returns whether a tool name is callable and printable.
fn is_valid_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.chars().any(char::is_control)
}

/// Removes absent members from a schema: `null` instead of a schema or keyword, and `[]` instead of an object. Some
/// languages encode empty objects as `[]`.
pub(crate) fn clean_schema(schema: JsonObject) -> JsonObject {
    let mut schema = Value::Object(schema);
    clean_value(&mut schema);
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

fn clean_value(schema: &mut Value) {
    let is_empty_list = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    if schema.is_null() || is_empty_list(schema) {
        *schema = Value::Object(JsonObject::new());
    }
    let Value::Object(members) = schema else { return };
    members.retain(|key, value| match key.as_str() {
        "default" | "const" | "example" => true,
        "required" => value.is_array(),
        "type" => !value.is_null() && !is_empty_list(value),
        _ => !value.is_null(),
    });
    for (key, value) in members {
        match key.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                if is_empty_list(value) {
                    *value = Value::Object(JsonObject::new());
                }
                if let Value::Object(schemas) = value {
                    schemas.values_mut().for_each(clean_value);
                }
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => clean_values(value),
            "items" if value.as_array().is_some_and(|items| !items.is_empty()) => clean_values(value),
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contains"
            | "propertyNames"
            | "not"
            | "if"
            | "then"
            | "else" => clean_value(value),
            "required" => {
                if let Value::Array(names) = value {
                    names.retain(Value::is_string);
                }
            }
            _ => {}
        }
    }
}

fn clean_values(schemas: &mut Value) {
    if let Value::Array(schemas) = schemas {
        schemas.iter_mut().for_each(clean_value);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Parses tools as an agent lists them.
    pub(crate) fn tools(tools: &[Value]) -> Vec<ToolInfo> {
        listed(&[json!({"tools": tools})]).tools
    }

    fn listed(pages: &[Value]) -> ToolListing {
        let mut listing = ToolListing::default();
        for page in pages {
            listing.read_page(&page.to_string(), &|_| true).unwrap();
        }
        listing
    }

    fn names(listing: &ToolListing) -> Vec<&str> {
        listing.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    fn object(value: &Value) -> JsonObject {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn tool_members_are_read() {
        let tool = json!({
            "name": "t", "description": "d", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"},
            "annotations": {"title": "T", "idempotentHint": true}, "icons": 7,
        });
        let object = json!({"type": "object"}).as_object().cloned().unwrap();
        let expected = ToolInfo {
            name: "t".to_owned(),
            title: Some("T".to_owned()),
            description: Some("d".to_owned()),
            input_schema: object.clone(),
            output_schema: Some(object),
            effect: Some(Effect::Idempotent),
        };
        assert_eq!(tools(&[tool]), [expected]);
    }

    #[test]
    fn invalid_tools_are_skipped_with_a_warning() {
        let schema = json!({"type": "object"});
        let deep = (0..200).fold(json!({}), |inner, _| json!({"not": inner}));
        let listing = listed(&[json!({"tools": [
            {"name": "good", "inputSchema": schema}, null, 7, "tool", {"inputSchema": schema}, {"name": null},
            {"name": "", "inputSchema": schema}, {"name": "a\nb", "inputSchema": schema}, {"name": ["x"]},
            {"name": "good", "inputSchema": {}}, {"name": "text", "inputSchema": "string"},
            {"name": "deep", "inputSchema": deep, "description": "d"}, {"name": "out", "inputSchema": schema, "outputSchema": 7},
            {"name": "last", "inputSchema": schema, "title": 7, "annotations": [], "_meta": null},
        ]})]);
        assert_eq!(names(&listing), ["good", "deep", "out", "last"]);
        assert_eq!(
            listing.unusable,
            BTreeMap::from([("text".to_owned(), "its `inputSchema` is not an object".to_owned())])
        );
        let warnings = listing.warnings().join("\n");
        assert_eq!(listing.warnings().len(), 12, "{warnings}");
        for warning in [
            "tool 2 is ignored: it is not an object",
            "`good` is listed more than once",
            "`text` is ignored",
            "`deep`: its `inputSchema` is nested deeper than 128 levels",
            "`out`: its `outputSchema` is not an object",
        ] {
            assert!(warnings.contains(warning), "{warning} in {warnings}");
        }
    }

    #[test]
    fn tools_are_rejected_with_their_reason() {
        let mut listing = listed(&[json!({"tools": [{"name": "a"}, {"name": "b"}]})]);
        listing.reject_tools(|tool| (tool.name == "a").then(|| "it is bad".to_owned()));
        assert_eq!(names(&listing), ["b"]);
        assert_eq!(listing.unusable, BTreeMap::from([("a".to_owned(), "it is bad".to_owned())]));
        assert_eq!(listing.warnings(), ["tool `a` is ignored: it is bad"]);
    }

    #[test]
    fn null_is_absent_and_empty_lists_are_objects() {
        let tools = tools(&[
            json!({"name": "null", "inputSchema": null, "outputSchema": null, "title": null, "description": null,
                "annotations": null, "execution": null, "_meta": null, "icons": null}),
            json!({"name": "missing"}),
            json!({"name": "php", "inputSchema": []}),
            json!({"name": "any", "inputSchema": true}),
        ]);
        assert_eq!(tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["null", "missing", "php", "any"]);
        for tool in tools {
            assert_eq!((tool.input_schema, tool.output_schema, tool.description), (JsonObject::new(), None, None));
        }
        for nothing in
            [json!({"tools": null, "nextCursor": null}), json!({"tools": []}), json!({"tools": {}}), json!({})]
        {
            assert!(listed(&[nothing]).tools.is_empty());
        }
        let gaps = json!({"tools": {"0": {"name": "a"}, "2": {"name": "b"}}});
        assert_eq!(names(&listed(&[gaps])), ["a", "b"]);
    }

    #[test]
    fn schemas_are_cleaned_of_null_members() {
        let input = json!({
            "type": "object", "title": null, "properties": {
                "a": {"type": "string", "default": null, "enum": null, "const": null, "required": true},
                "b": [], "c": null, "required": {"anyOf": [{"type": "integer"}, null], "items": []},
                "d": {"properties": [], "additionalProperties": null},
            },
            "required": ["a", null], "$defs": [], "additionalProperties": false, "anyOf": null,
        });
        let expected = json!({
            "type": "object", "properties": {
                "a": {"type": "string", "default": null, "const": null},
                "b": {}, "c": {}, "required": {"anyOf": [{"type": "integer"}, {}], "items": {}},
                "d": {"properties": {}},
            },
            "required": ["a"], "$defs": {}, "additionalProperties": false,
        });
        assert_eq!(clean_schema(object(&input)), object(&expected));
    }

    #[test]
    fn listing_stops_at_its_limits() {
        let tool = |n: usize| json!({"name": format!("t{n}"), "inputSchema": {}});
        let many: Vec<_> = (0..MAX_TOOLS + 3).map(tool).collect();
        let listing = listed(&[json!({"tools": many})]);
        assert_eq!((listing.tools.len(), listing.has_room()), (MAX_TOOLS, false));
        let warning = "the list of tools is longer than 10000 tools: 3 more tools and the pages after them are ignored";
        assert_eq!(listing.warnings(), [warning]);

        let huge = json!({"name": "huge", "inputSchema": {"description": "x".repeat(MAX_TOOL_BYTES)}});
        let listing = listed(&[json!({"tools": [huge, tool(1)]})]);
        assert_eq!((names(&listing), listing.has_room()), (vec!["huge", "t1"], true));
        assert_eq!(listing.tools[0].input_schema, JsonObject::new());
        let warning = "tool `huge`: its definition is larger than 1024 KiB, and its `inputSchema` is not used";
        assert_eq!(listing.warnings(), [warning]);

        let large = |n: usize| json!({"name": format!("t{n}"), "description": "x".repeat(MAX_TOOL_BYTES / 2)});
        let many: Vec<_> = (0..40).map(large).collect();
        let listing = listed(&[json!({"tools": many})]);
        assert_eq!((listing.tools.len(), listing.has_room()), (31, false));
        assert!(listing.warnings()[0].starts_with("the list of tools is longer than 16 MiB of tools: 9 more"));
    }

    #[test]
    fn oversized_tools_keep_what_fits() {
        let schema = |bytes: usize| json!({"type": "object", "description": "x".repeat(bytes)});
        let hints = json!({"readOnlyHint": true});
        let listing = listed(&[json!({"tools": [{
            "name": "t", "annotations": hints, "execution": {"taskSupport": "required"}, "description": "short",
            "inputSchema": schema(MAX_TOOL_BYTES / 2), "outputSchema": schema(MAX_TOOL_BYTES / 2),
        }, {"name": "meta", "inputSchema": schema(10), "_meta": "x".repeat(MAX_TOOL_BYTES)}]})]);
        let [tool, meta] = &listing.tools[..] else { panic!("{:?}", names(&listing)) };
        assert_eq!(tool.input_schema, object(&schema(MAX_TOOL_BYTES / 2)));
        assert_eq!((&tool.output_schema, tool.effect), (&None, Some(Effect::ReadOnly)));
        assert_eq!(tool.description.as_deref(), Some("short"));
        assert!(listing.task_only_tools.contains("t"));
        assert_eq!(meta.input_schema, object(&schema(10)));
        let warning = "tool `t`: its definition is larger than 1024 KiB, and its `outputSchema` is not used";
        assert_eq!(listing.warnings(), [warning]);
        assert_eq!(listing.unusable, BTreeMap::new());
    }

    #[test]
    fn pages_are_bounded() {
        let page = |n: usize| json!({"tools": [{"name": format!("t{n}")}], "nextCursor": n});
        let mut listing = ToolListing::default();
        let mut cursors = (0..MAX_PAGES).map(|n| listing.read_page(&page(n).to_string(), &|_| true).unwrap());
        assert_eq!(cursors.next(), Some(Some("0".to_owned())));
        assert_eq!(cursors.count(), MAX_PAGES - 1);
        assert!(!listing.has_room());
        assert_eq!(
            listing.warnings(),
            ["the list of tools is longer than 1000 pages: the pages after that are not read"]
        );
    }

    #[test]
    fn task_only_tools_are_recorded() {
        let tool = |name: &str, support: Value| json!({"name": name, "execution": {"taskSupport": support}});
        let listing = listed(&[
            json!({"tools": [tool("a", json!("required")), tool("b", json!("optional")), tool("c", json!(null))]}),
        ]);
        assert_eq!(listing.task_only_tools, HashSet::from(["a".to_owned()]));
    }
}
