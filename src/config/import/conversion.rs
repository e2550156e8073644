//! Completes an agent of another host to a section that is valid here.

use std::path::Path;

use url::Url;

use super::fields::Draft;
use super::file_format::StartDirectory;
use super::imported_agents::{ImportContext, ImportedAgent};
use crate::config::editing::agent_entry::{AgentEntry, OAuthEntry};
use crate::config::editing::concealed_entry::ConcealedEntry;
use crate::config::editing::references::{referenced_variable, replace_references};
use crate::config::schema::table::is_name;
use crate::model::{HOST_AGENT, Protocol};

/// The transports of other hosts over HTTP or the pipes of a program, in lowercase.
const KNOWN_KINDS: [&str; 9] =
    ["custom", "http", "local", "remote", "stdio", "streamable-http", "streamable_http", "streamablehttp", "sse"];
/// The endings of the names of programs that an interpreter runs.
const SCRIPT_ENDINGS: [&str; 8] = [".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".rb", ".jar"];

/// Completes the agent `name`.
///
/// # Errors
/// Returns the reason why it cannot be used.
pub(super) fn complete(
    name: &str,
    mut draft: Draft,
    start: StartDirectory,
    context: &ImportContext<'_>,
) -> Result<ImportedAgent, String> {
    if let Some(kind) = draft.kind.as_deref().filter(|kind| !KNOWN_KINDS.contains(kind)) {
        return Err(format!("`{kind}` is a kind of agent that only its host has"));
    }
    let agent = valid_name(name);
    if agent != name {
        draft.remarks.push(format!("its name was `{name}`, which is not valid here"));
    }
    choose_transport(&mut draft)?;
    if draft.entry.command.is_some() {
        unwrap_shell(&mut draft.entry);
        resolve_directory(&mut draft.entry, start, context);
    } else {
        check_server(&agent, &mut draft)?;
    }
    let ConcealedEntry { entry, variables } = ConcealedEntry::new(&agent, draft.entry);
    let mut all = draft.variables;
    all.extend(variables.into_iter().filter(|variable| !all.contains(variable)).collect::<Vec<_>>());
    Ok(ImportedAgent { name: agent, entry, variables: all, remarks: draft.remarks })
}

/// Returns the name with other characters than letters, digits, `_`, and `-` replaced. A reserved name gets a prefix.
pub(super) fn valid_name(name: &str) -> String {
    let to_valid = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
    let valid: String = name.chars().map(to_valid).collect();
    let valid: String = valid.trim_matches('-').chars().take(64).collect();
    if is_name(&valid) && valid != HOST_AGENT {
        valid
    } else {
        format!("agent-{valid}").trim_end_matches('-').to_owned()
    }
}

/// Keeps the keys of one transport.
fn choose_transport(draft: &mut Draft) -> Result<(), String> {
    let Draft { entry, sse_url, kind, remarks, .. } = draft;
    let is_program = matches!(kind.as_deref(), Some("stdio" | "local"));
    if is_program && entry.command.is_some() {
        entry.url = None;
    } else if entry.url.is_some() || sse_url.is_some() {
        let program = AgentEntry {
            command: entry.command.take(),
            args: std::mem::take(&mut entry.args),
            env: std::mem::take(&mut entry.env),
            env_vars: std::mem::take(&mut entry.env_vars),
            cwd: entry.cwd.take(),
            ..AgentEntry::default()
        };
        if program != AgentEntry::default() {
            remarks.push("its program was not imported, because it has an address".to_owned());
        }
        let is_sse = entry.url.is_none() || kind.as_deref() == Some("sse");
        entry.url = entry.url.take().or_else(|| sse_url.take());
        if is_sse {
            entry.protocol = Some(Protocol::Legacy);
            remarks.push("it is used over HTTP+SSE if its server has no Streamable HTTP".to_owned());
        }
    }
    if entry.command.is_some() || entry.url.is_some() {
        entry.command = entry.command.take().filter(|command| !command.is_empty());
        entry.cwd = entry.cwd.take().filter(|cwd| !cwd.is_empty());
    }
    if entry.command.is_none() && entry.url.is_none() {
        return Err("it has neither a program nor an address".to_owned());
    }
    if entry.command.is_some() && (!entry.http_headers.is_empty() || entry.oauth.is_some()) {
        remarks.push("its headers and its login were not imported, because it is a program".to_owned());
    }
    if entry.command.is_some() {
        entry.http_headers.clear();
        entry.env_http_headers.clear();
        (entry.oauth, entry.bearer_token_env_var) = (None, None);
    }
    Ok(())
}

/// Removes the shell of Windows around a program.
fn unwrap_shell(entry: &mut AgentEntry) {
    let is_shell = matches!(entry.command.as_deref(), Some("cmd" | "cmd.exe"));
    if is_shell && entry.args.len() > 1 && entry.args[0].eq_ignore_ascii_case("/c") {
        entry.args.remove(0);
        entry.command = Some(entry.args.remove(0));
    }
}

/// Makes relative paths mean what they mean at the host.
fn resolve_directory(entry: &mut AgentEntry, start: StartDirectory, context: &ImportContext<'_>) {
    let base = match start {
        StartDirectory::Project if context.in_project => context.project.display().to_string().replace('$', "$$"),
        StartDirectory::Project | StartDirectory::Home => "${HOME}".to_owned(),
    };
    let has_relative_command = entry.command.as_deref().is_some_and(is_relative_command);
    match &entry.cwd {
        Some(cwd) if !Path::new(cwd).is_absolute() && !cwd.starts_with("${") => {
            let below = cwd.trim_start_matches("./");
            entry.cwd = Some(if below == "." || below.is_empty() { base } else { format!("{base}/{below}") });
        }
        Some(_) => {}
        None if has_relative_command || entry.args.iter().any(|arg| is_relative_path(arg)) => entry.cwd = Some(base),
        None => {}
    }
    if let (true, Some(command), Some(cwd)) = (has_relative_command, &mut entry.command, &entry.cwd) {
        *command = format!("{cwd}/{}", command.trim_start_matches("./"));
    }
}

/// Returns whether a command is a path that starts at the working directory.
fn is_relative_command(command: &str) -> bool {
    command.contains('/') && !command.starts_with(['/', '~', '$']) && !command.contains(':')
}

fn is_relative_path(text: &str) -> bool {
    let is_other = text.starts_with(['/', '-', '@', '~', '$']) || text.contains([':', '=', ' ']);
    let is_path = text.starts_with("./") || text.starts_with("../") || text == ".";
    is_path || !is_other && SCRIPT_ENDINGS.iter().any(|ending| text.ends_with(ending))
}

/// Checks the address and the headers of a server, and removes what is not valid.
fn check_server(agent: &str, draft: &mut Draft) -> Result<(), String> {
    let Draft { entry, variables, remarks, .. } = draft;
    let url = entry.url.as_deref().unwrap_or_default();
    // Variables are resolved when the agent is used.
    let is_reference = url.starts_with("${");
    if !is_reference && !url.starts_with("http://") && !url.starts_with("https://") {
        return Err("its address does not start with `http://` or `https://`".to_owned());
    }
    let example = format!("{}{}", if is_reference { "http://" } else { "" }, replace_references(url, "x"));
    if example.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::is_empty)) != Some(false) {
        return Err("its address is not a valid URL".to_owned());
    }
    entry.http_headers.retain(|name, value| {
        let is_valid = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && http::HeaderValue::from_str(&replace_references(value, "x")).is_ok();
        if !is_valid {
            remarks.push(format!("the header `{name}` is not valid and was not imported"));
        }
        is_valid
    });
    entry.env_http_headers.retain(|name, _| http::HeaderName::from_bytes(name.as_bytes()).is_ok());
    if let Some(oauth) = &mut entry.oauth {
        complete_oauth(agent, oauth, variables);
        let same_origin = |resource: &str| match (Url::parse(resource), Url::parse(url)) {
            (Ok(resource), Ok(url)) => resource.origin() == url.origin(),
            _ => false,
        };
        if oauth.resource.as_deref().is_some_and(|resource| !same_origin(resource)) {
            oauth.resource = None;
            remarks.push("its OAuth resource has another origin than its address and was not imported".to_owned());
        }
    }
    let has_authorization = entry.http_headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
    if has_authorization || entry.bearer_token_env_var.is_some() || entry.oauth == Some(OAuthEntry::default()) {
        entry.oauth = None;
    }
    if entry.oauth.is_some() {
        remarks.push(format!("`kapell agents login {agent}` logs in"));
    }
    Ok(())
}

/// Puts the name of a variable in place of the secret of a client.
fn complete_oauth(agent: &str, oauth: &mut OAuthEntry, variables: &mut Vec<String>) {
    oauth.client_id = oauth.client_id.take().filter(|id| !id.is_empty());
    if let Some(secret) = oauth.client_secret_env_var.take().filter(|_| oauth.client_id.is_some()) {
        let variable = referenced_variable(&secret).map(str::to_owned).unwrap_or_else(|| {
            let variable: String = format!("{agent}_CLIENT_SECRET").to_ascii_uppercase().replace('-', "_");
            variables.push(variable.clone());
            variable
        });
        oauth.client_secret_env_var = Some(variable);
    }
}
