//! Replaces the secrets in the section of an agent with variables.

use std::mem;

use super::agent_entry::AgentEntry;
use super::references::referenced_variable;
use super::secret_text::{contains_secret, is_literal_secret};
use crate::config::agents::redaction::is_variable_name;
use crate::config::agents::secret_collector::is_secret_name;

/// The maximum length of the name of a variable.
const MAX_VARIABLE_LENGTH: usize = 64;

/// Replaces the literal secrets in the entry of `agent` with variables, and returns the names of the variables.
pub(super) fn conceal_secrets(agent: &str, entry: &mut AgentEntry) -> Vec<String> {
    let mut concealer = Concealer { agent, variables: Vec::new() };
    concealer.conceal_env(entry);
    concealer.conceal_args(&mut entry.args);
    concealer.conceal_headers(entry);
    if let Some(url) = &mut entry.url {
        *url = concealer.concealed_url(url);
    }
    concealer.variables
}

/// The state of the replacement of secrets.
struct Concealer<'a> {
    agent: &'a str,
    variables: Vec<String>,
}

impl Concealer<'_> {
    /// Returns a reference to a variable, and records the variable.
    fn reference(&mut self, name: &str) -> String {
        format!("${{{}}}", self.variable(name))
    }

    /// Returns the variable `name`, or one of the agent if `name` is not a name of variables.
    fn variable(&mut self, name: &str) -> String {
        let is_variable = is_variable_name(name) && !name.contains(|c: char| c.is_ascii_lowercase());
        let variable = if is_variable { name.to_owned() } else { variable_of(self.agent, name) };
        if !self.variables.contains(&variable) {
            self.variables.push(variable.clone());
        }
        variable
    }

    fn agent_variable(&mut self, suffix: &str) -> String {
        let variable = variable_of(self.agent, suffix);
        self.variable(&variable)
    }

    fn agent_reference(&mut self, suffix: &str) -> String {
        format!("${{{}}}", self.agent_variable(suffix))
    }

    /// Lets the program inherit the variables whose values are secret.
    fn conceal_env(&mut self, entry: &mut AgentEntry) {
        for (name, value) in mem::take(&mut entry.env) {
            if !is_literal_secret(&name, &value) {
                entry.env.insert(name, value);
                continue;
            }
            if !self.variables.contains(&name) {
                self.variables.push(name.clone());
            }
            if !entry.env_vars.contains(&name) {
                entry.env_vars.push(name);
            }
        }
    }

    fn conceal_headers(&mut self, entry: &mut AgentEntry) {
        for (name, value) in mem::take(&mut entry.http_headers) {
            let (scheme, credentials) = value.split_once(' ').unwrap_or_default();
            let is_bearer = name.eq_ignore_ascii_case("authorization") && scheme.eq_ignore_ascii_case("bearer");
            if let Some(variable) = referenced_variable(credentials.trim()).filter(|_| is_bearer) {
                entry.bearer_token_env_var = Some(variable.to_owned());
            } else if let Some(variable) = referenced_variable(value.trim()) {
                entry.env_http_headers.insert(name, variable.to_owned());
            } else if !is_literal_secret(&name, &value) {
                entry.http_headers.insert(name, value);
            } else if is_bearer {
                entry.bearer_token_env_var = Some(self.agent_variable("TOKEN"));
            } else {
                let variable = self.agent_variable(&name);
                entry.env_http_headers.insert(name, variable);
            }
        }
    }

    fn conceal_args(&mut self, args: &mut [String]) {
        // The name of the option whose value is next, if it is the name of a secret.
        let mut option: Option<String> = None;
        for arg in args {
            let is_option = arg.starts_with('-');
            let name = arg.trim_start_matches('-').to_owned();
            match option.take() {
                Some(option) if !is_option && is_literal_secret(&option, arg) => *arg = self.reference(&option),
                _ => *arg = self.concealed_arg(arg),
            }
            option = (is_option && !arg.contains('=') && is_secret_name(&name)).then_some(name);
        }
    }

    /// Returns an argument without its secret: the value of `NAME=VALUE` or of `Header: VALUE`, a part of an address, or
    /// the whole argument.
    fn concealed_arg(&mut self, arg: &str) -> String {
        if arg.contains("://") && !arg.contains(' ') {
            let (name, url) = arg.split_once('=').filter(|(name, _)| !name.contains(':')).unwrap_or(("", arg));
            let separator = if name.is_empty() { "" } else { "=" };
            return format!("{name}{separator}{}", self.concealed_url(url));
        }
        if let Some((name, separator, value)) = split_pair(arg)
            && is_literal_secret(name, value)
        {
            let scheme = value.split_once(' ').map(|(scheme, _)| scheme);
            let scheme = scheme.filter(|scheme| ["bearer", "basic"].contains(&scheme.to_ascii_lowercase().as_str()));
            return match scheme {
                Some(scheme) => format!("{name}{separator}{scheme} {}", self.agent_reference("TOKEN")),
                None => format!("{name}{separator}{}", self.reference(name.trim_start_matches('-'))),
            };
        }
        if contains_secret(arg) { self.agent_reference("SECRET") } else { arg.to_owned() }
    }

    /// Returns an address without its secrets: the password, and parts of the path and of the query.
    fn concealed_url(&mut self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_end);
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let authority = match authority.rsplit_once('@') {
            Some((user, host)) if !user.contains("${") => match user.split_once(':') {
                Some((name, _)) => format!("{name}:{}@{host}", self.agent_reference("PASSWORD")),
                None if contains_secret(user) => format!("{}@{host}", self.agent_reference("TOKEN")),
                None => authority.to_owned(),
            },
            _ => authority.to_owned(),
        };
        let segments: Vec<String> = path.split('/').map(|segment| self.concealed_part(segment)).collect();
        let mut concealed = segments.join("/");
        if let Some(query) = query {
            let parameters: Vec<String> =
                query.split('&').map(|parameter| self.concealed_parameter(parameter)).collect();
            concealed += &format!("?{}", parameters.join("&"));
        }
        let separator = if scheme.is_empty() { "" } else { "://" };
        format!("{scheme}{separator}{authority}{concealed}")
    }

    fn concealed_part(&mut self, part: &str) -> String {
        if contains_secret(part) { self.agent_reference("SECRET") } else { part.to_owned() }
    }

    fn concealed_parameter(&mut self, parameter: &str) -> String {
        match parameter.split_once('=') {
            Some((name, value)) if is_literal_secret(name, value) => format!("{name}={}", self.reference(name)),
            Some(_) => parameter.to_owned(),
            None => self.concealed_part(parameter),
        }
    }
}

/// Splits `NAME=VALUE` or `Header: VALUE`. Returns the name, the separator, and the value.
fn split_pair(text: &str) -> Option<(&str, &str, &str)> {
    let at = text.find(['=', ':'])?;
    let (name, rest) = text.split_at(at);
    let value = rest[1..].trim_start();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| (name, &rest[..rest.len() - value.len()], value))
}

/// Returns the name of a variable of an agent, such as `WIKI_API_KEY`.
fn variable_of(agent: &str, suffix: &str) -> String {
    let to_upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{agent}_{suffix}").chars().map(to_upper).take(MAX_VARIABLE_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conceal(mut entry: AgentEntry) -> (AgentEntry, Vec<String>) {
        let variables = conceal_secrets("my-wiki", &mut entry);
        (entry, variables)
    }

    fn pairs(pairs: &[(&str, &str)]) -> indexmap::IndexMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn arguments_and_addresses_keep_all_but_their_secrets() {
        let concealed = |line: &[&str]| {
            let args = line.iter().map(|arg| (*arg).to_owned()).collect();
            conceal(AgentEntry { args, ..AgentEntry::default() }).0.args
        };
        assert_eq!(
            concealed(&["-y", "pkg@1.2", "--api-key", "abc", "--port=80"]),
            ["-y", "pkg@1.2", "--api-key", "${MY_WIKI_API_KEY}", "--port=80"]
        );
        assert_eq!(
            concealed(&["--token=abc", "-e", "GH_TOKEN=abc"]),
            ["--token=${MY_WIKI_TOKEN}", "-e", "GH_TOKEN=${GH_TOKEN}"]
        );
        assert_eq!(concealed(&["-e", "GH_TOKEN", "--key", "--verbose"]), ["-e", "GH_TOKEN", "--key", "--verbose"]);
        assert_eq!(
            concealed(&["--header", "Authorization: Bearer abc", "X-Key:abc"]),
            ["--header", "Authorization: Bearer ${MY_WIKI_TOKEN}", "X-Key:${MY_WIKI_X_KEY}"]
        );
        assert_eq!(concealed(&["sk-0123456789abcdef", "a b"]), ["${MY_WIKI_SECRET}", "a b"]);
        assert_eq!(
            concealed(&["postgresql://me:pw@db:5432/shop", "--url=https://h/mcp?key=abc&x=1"]),
            ["postgresql://me:${MY_WIKI_PASSWORD}@db:5432/shop", "--url=https://h/mcp?key=${MY_WIKI_KEY}&x=1"]
        );
        let url = "https://h/s/YWJjZGVmMTIzNDU2Nzg5/mcp";
        let (entry, variables) = conceal(AgentEntry { url: Some(url.to_owned()), ..AgentEntry::default() });
        assert_eq!(entry.url.as_deref(), Some("https://h/s/${MY_WIKI_SECRET}/mcp"));
        assert_eq!(variables, ["MY_WIKI_SECRET"]);
    }

    #[test]
    fn variables_and_headers_are_read_from_the_environment() {
        let (entry, variables) = conceal(AgentEntry {
            env: pairs(&[("MODE", "fast"), ("WIKI_TOKEN", "abc"), ("KEY", "${KEY}")]),
            http_headers: pairs(&[
                ("Authorization", "Bearer ${TOKEN}"),
                ("X-Api-Key", "abc"),
                ("X-Org", "acme"),
                ("X-Team", "${TEAM}"),
                ("X-Both", "a-${TEAM}"),
            ]),
            ..AgentEntry::default()
        });
        assert_eq!(entry.env, pairs(&[("MODE", "fast"), ("KEY", "${KEY}")]));
        assert_eq!(entry.env_vars, ["WIKI_TOKEN"]);
        assert_eq!(entry.bearer_token_env_var.as_deref(), Some("TOKEN"));
        assert_eq!(entry.env_http_headers, pairs(&[("X-Api-Key", "MY_WIKI_X_API_KEY"), ("X-Team", "TEAM")]));
        assert_eq!(entry.http_headers, pairs(&[("X-Org", "acme"), ("X-Both", "a-${TEAM}")]));
        assert_eq!(variables, ["WIKI_TOKEN", "MY_WIKI_X_API_KEY"]);

        let headers = pairs(&[("authorization", "Bearer abc")]);
        let (entry, variables) = conceal(AgentEntry { http_headers: headers, ..AgentEntry::default() });
        assert_eq!(entry.bearer_token_env_var.as_deref(), Some("MY_WIKI_TOKEN"));
        assert_eq!(variables, ["MY_WIKI_TOKEN"]);
    }
}
