//! Reads `server.json` of the MCP registry.

use serde_json::{Map, Value};

use super::conversion::complete;
use super::fields::Draft;
use super::file_format::{StartDirectory, Syntax};
use super::imported_agents::{ImportContext, ImportedAgents};
use super::references::input_variable;
use super::syntax::read_value;
use crate::config::diagnostics::diagnostic::Diagnostics;

/// Returns whether a file is one of the registry.
pub(super) fn is_server(root: &Value) -> bool {
    root.get("name").is_some_and(Value::is_string) && (root.get("packages").is_some() || root.get("remotes").is_some())
}

/// Reads the server from the text of a file: its first package that can be started, or else its first address.
///
/// # Errors
/// Returns the position of the first syntax error.
pub(super) fn read_server(
    (file, text): (&str, &str),
    context: &ImportContext<'_>,
) -> Result<ImportedAgents, Diagnostics> {
    let root = read_value(Syntax::Json, file, text)?;
    // Some responses of the registry have the server in a map.
    let server = root.get("server").unwrap_or(&root);
    let full_name = text_of(server, "name").unwrap_or("server");
    let name = full_name.rsplit('/').next().unwrap_or(full_name);
    let mut imported = ImportedAgents::default();
    let list = |key: &str| server.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let packages: Vec<Result<Draft, String>> = list("packages").iter().map(read_package).collect();
    let remotes = list("remotes").iter().map(read_remote);
    let mut drafts: Vec<Result<Draft, String>> = packages.into_iter().chain(remotes).collect();
    let reasons: Vec<String> = drafts.iter().filter_map(|draft| draft.as_ref().err().cloned()).collect();
    drafts.retain(Result::is_ok);
    let others = drafts.len().saturating_sub(1);
    let agent = match drafts.into_iter().next() {
        Some(Ok(mut draft)) => {
            if others > 0 {
                draft.remarks.push(format!("the file has {others} other ways to use it"));
            }
            complete(name, draft, StartDirectory::Home, context)
        }
        _ if reasons.is_empty() => Err("it has neither packages nor remotes".to_owned()),
        _ => Err(reasons.join("; ")),
    };
    imported.push(full_name, agent);
    Ok(imported)
}

fn text_of<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// Reads a package.
fn read_package(package: &Value) -> Result<Draft, String> {
    let identifier = text_of(package, "identifier").ok_or("a package has no `identifier`")?;
    let version = text_of(package, "version").filter(|version| !version.is_empty() && *version != "latest");
    let pinned = |separator: &str| {
        version.map_or_else(|| identifier.to_owned(), |version| format!("{identifier}{separator}{version}"))
    };
    let kind = text_of(package, "registryType").unwrap_or_default();
    let (command, before, package_name) = match kind {
        "npm" => ("npx", vec!["-y"], pinned("@")),
        "pypi" => ("uvx", vec![], pinned("==")),
        "oci" => ("docker", vec!["run", "-i", "--rm"], identifier.to_owned()),
        "nuget" => ("dnx", vec!["--yes"], pinned("@")),
        other => return Err(format!("packages of the kind `{other}` cannot be started by a command")),
    };
    if text_of(&package["transport"], "type").is_some_and(|transport| transport != "stdio") {
        return Err(format!("the package `{identifier}` does not communicate over its standard input and output"));
    }
    let mut draft = Draft::default();
    let mut args: Vec<String> = before.into_iter().map(str::to_owned).collect();
    for argument in items(package, "runtimeArguments") {
        args.extend(read_argument(argument, &mut draft));
    }
    for variable in items(package, "environmentVariables") {
        if let Some(name) = text_of(variable, "name") {
            read_variable(name, variable, &mut draft);
            if kind == "oci" {
                args.extend(["-e".to_owned(), name.to_owned()]);
            }
        }
    }
    args.push(package_name);
    for argument in items(package, "packageArguments") {
        args.extend(read_argument(argument, &mut draft));
    }
    draft.entry.command = Some(
        text_of(package, "runtimeHint")
            .filter(|hint| *hint == "bunx" || *hint == "podman")
            .unwrap_or(command)
            .to_owned(),
    );
    draft.entry.args = args;
    Ok(draft)
}

fn read_remote(remote: &Value) -> Result<Draft, String> {
    let url = text_of(remote, "url").ok_or("a remote has no `url`")?;
    let mut draft = Draft { kind: text_of(remote, "type").map(str::to_ascii_lowercase), ..Draft::default() };
    let url = fill(url, remote, &mut draft);
    draft.entry.url = Some(url);
    for header in items(remote, "headers") {
        if let Some(name) = text_of(header, "name") {
            let value = value_of(name, header, &mut draft);
            draft.entry.http_headers.insert(name.to_owned(), value);
        }
    }
    Ok(draft)
}

/// Returns the words of an argument: a value, or the name of an option with a value.
fn read_argument(argument: &Value, draft: &mut Draft) -> Vec<String> {
    let is_required = argument.get("isRequired").and_then(Value::as_bool).unwrap_or(false);
    let hint = text_of(argument, "valueHint").or_else(|| text_of(argument, "name")).unwrap_or("argument");
    let has_value = ["value", "default"].iter().any(|key| argument.get(*key).is_some());
    let is_named = text_of(argument, "type") == Some("named");
    let name = text_of(argument, "name").filter(|_| is_named).map(str::to_owned);
    let value =
        (has_value || is_required && !is_named).then(|| value_of(hint.trim_start_matches('-'), argument, draft));
    match (name, value) {
        // An optional option without a value is left to the person.
        (Some(_), None) if !is_required => Vec::new(),
        (name, value) => name.into_iter().chain(value).collect(),
    }
}

fn read_variable(name: &str, variable: &Value, draft: &mut Draft) {
    let flag = |key: &str| variable.get(key).and_then(Value::as_bool).unwrap_or(false);
    if let Some(description) = text_of(variable, "description") {
        draft.entry.comments.push(format!("{name}: {description}"));
    }
    let has_value = variable.get("value").is_some() || variable.get("default").is_some();
    if has_value && !flag("isSecret") {
        let value = value_of(name, variable, draft);
        draft.entry.env.insert(name.to_owned(), value);
        return;
    }
    if flag("isRequired") {
        draft.variables.push(name.to_owned());
    }
    draft.entry.env_vars.push(name.to_owned());
}

/// Returns the value of an input: its template, its default, or a variable named after it.
fn value_of(name: &str, input: &Value, draft: &mut Draft) -> String {
    if let Some(template) = text_of(input, "value") {
        return fill(template, input, draft);
    }
    match text_of(input, "default") {
        Some(default) => default.replace('$', "$$"),
        None => {
            let variable = input_variable(name);
            if !draft.variables.contains(&variable) {
                draft.variables.push(variable.clone());
            }
            format!("${{{variable}}}")
        }
    }
}

/// Returns the template with each `{name}` replaced.
fn fill(template: &str, input: &Value, draft: &mut Draft) -> String {
    let variables: Map<String, Value> = input.get("variables").and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        filled += &before.replace('$', "$$");
        match after.split_once('}').filter(|(name, _)| !name.is_empty() && !name.contains(['{', '"', ' '])) {
            Some((name, after)) => {
                filled += &value_of(name, variables.get(name).unwrap_or(&Value::Null), draft);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled + &rest.replace('$', "$$")
}
