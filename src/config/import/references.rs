//! Converts the references to variables of other hosts to those of an agents file.

use std::path::Path;

use indexmap::IndexMap;

use super::file_format::ReferenceForms;
use crate::config::agents::redaction::is_variable_name;

/// The names that an agents file resolves by itself.
const OWN_NAMES: [&str; 2] = ["KAPELL", "PORT"];

/// A converter of references to variables.
pub(super) struct ReferenceConverter<'a> {
    pub(super) forms: ReferenceForms,
    /// The directory of the project.
    pub(super) project: &'a Path,
    /// The directory of an unpacked bundle.
    pub(super) bundle: Option<&'a Path>,
    /// The defaults of what the host asks a person for, by ID.
    pub(super) defaults: IndexMap<String, String>,
    /// The references that have no counterpart.
    pub(super) unknown: Vec<String>,
    /// The IDs of what the host asks a person for, without those that have a default.
    pub(super) inputs: Vec<String>,
}

impl<'a> ReferenceConverter<'a> {
    pub(super) fn new(forms: ReferenceForms, project: &'a Path) -> Self {
        Self { forms, project, bundle: None, defaults: IndexMap::new(), unknown: Vec::new(), inputs: Vec::new() }
    }
}

impl ReferenceConverter<'_> {
    /// Returns the text with references as `${NAME}`, and other dollar signs doubled.
    pub(super) fn convert(&mut self, text: &str) -> String {
        let (mut converted, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find(['$', '{']) {
            converted.push_str(&rest[..at]);
            rest = &rest[at..];
            let (length, replacement) = self.reference(rest);
            converted.push_str(&replacement);
            rest = &rest[length..];
        }
        converted.push_str(rest);
        converted
    }

    /// Converts the reference at the start of a text, or its first character. Returns the length of what was converted.
    fn reference(&mut self, text: &str) -> (usize, String) {
        let enclosed = |open: &str, close: &str| {
            let inside = text.strip_prefix(open)?;
            let end = inside.find(close)?;
            Some((&inside[..end], open.len() + end + close.len()))
        };
        if let Some((inside, length)) = enclosed("${{", "}}").filter(|_| self.forms == ReferenceForms::Secrets) {
            let name = inside.trim();
            let name = name.strip_prefix("secrets.").or_else(|| name.strip_prefix("inputs.")).unwrap_or(name);
            return (length, self.variable(name, &text[..length]));
        }
        if let Some((inside, length)) = enclosed("${", "}") {
            return (length, self.expression(inside, &text[..length]));
        }
        if let Some((name, length)) = enclosed("{env:", "}").filter(|_| self.forms == ReferenceForms::Braces) {
            return (length, self.variable(name, &text[..length]));
        }
        if self.forms == ReferenceForms::BareDollar && text.starts_with('$') {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = text[1..].find(|c| !is_part(c)).map_or(text.len(), |end| end + 1);
            if is_variable_name(&text[1..end]) {
                return (end, self.variable(&text[1..end], &text[..end]));
            }
        }
        (1, if text.starts_with('$') { "$$".to_owned() } else { "{".to_owned() })
    }

    /// Converts the inside of `${…}`.
    fn expression(&mut self, inside: &str, whole: &str) -> String {
        let path = |path: &Path| path.display().to_string().replace('$', "$$");
        match inside.split_once(':') {
            Some(("env", name)) => return self.variable(name, whole),
            Some(("input", id)) => return self.input(id, whole),
            _ => {}
        }
        match inside {
            "workspaceFolder" | "workspaceRoot" => path(self.project),
            "workspaceFolderBasename" => self.project.file_name().map(|name| path(Path::new(name))).unwrap_or_default(),
            "userHome" | "HOME" => "${HOME}".to_owned(),
            "pathSeparator" | "/" => std::path::MAIN_SEPARATOR.to_string(),
            "__dirname" if self.bundle.is_some() => self.bundle.map(path).unwrap_or_default(),
            _ => match inside.strip_prefix("user_config.") {
                Some(name) => self.input(name, whole),
                None => self.variable(inside, whole),
            },
        }
    }

    /// Returns the variable for something that the host asks a person for.
    fn input(&mut self, id: &str, whole: &str) -> String {
        let variable = input_variable(id);
        if let Some(default) = self.defaults.get(id).filter(|default| !default.contains(['}', '$'])) {
            let inside = format!("{variable}:-{default}");
            return self.variable(&inside, whole);
        }
        if is_variable_name(&variable) && !self.inputs.iter().any(|known| known == id) {
            self.inputs.push(id.to_owned());
        }
        self.variable(&variable, whole)
    }

    /// Returns the reference to `NAME` or `NAME:-default`, or the text of a reference without counterpart.
    fn variable(&mut self, inside: &str, whole: &str) -> String {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match default {
            Some(default) if OWN_NAMES.contains(&name) => default.replace('$', "$$"),
            _ if is_variable_name(name) && !OWN_NAMES.contains(&name) => format!("${{{inside}}}"),
            _ => {
                self.unknown.push(whole.to_owned());
                whole.replace('$', "$$")
            }
        }
    }
}

/// Returns the name of the variable for something that a host asks a person for.
pub(super) fn input_variable(id: &str) -> String {
    let to_upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let variable: String = id.chars().map(to_upper).collect();
    if variable.starts_with(|first: char| first.is_ascii_digit()) { format!("_{variable}") } else { variable }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(forms: ReferenceForms, text: &str) -> (String, Vec<String>) {
        let (project, bundle) = (Path::new("/projects/shop"), Some(Path::new("/bundles/a$b")));
        let defaults = [("size".to_owned(), "5".to_owned())].into_iter().collect();
        let mut converter = ReferenceConverter { bundle, defaults, ..ReferenceConverter::new(forms, project) };
        let converted = converter.convert(text);
        (converted, converter.unknown)
    }

    #[test]
    fn references_of_every_host_become_variables() {
        use ReferenceForms::{BareDollar, Braces, Common, Secrets};
        for (forms, text, expected) in [
            (Common, "${KEY} ${KEY:-a b} ${env:KEY}", "${KEY} ${KEY:-a b} ${KEY}"),
            (Common, "${input:api-key} ${user_config.api_key}", "${API_KEY} ${API_KEY}"),
            (Common, "${user_config.size}", "${SIZE:-5}"),
            (
                Common,
                "${workspaceFolder}/a ${workspaceFolderBasename} ${userHome}${/}b",
                "/projects/shop/a shop ${HOME}/b",
            ),
            (Common, "${__dirname}/server", "/bundles/a$$b/server"),
            (Common, "$KEY {env:KEY} $5 $$ {a}", "$$KEY {env:KEY} $$5 $$$$ {a}"),
            (Common, "${PORT:-80} ${", "80 $${"),
            (BareDollar, "$KEY/${KEY} $5", "${KEY}/${KEY} $$5"),
            (Braces, "Bearer {env:KEY} $KEY", "Bearer ${KEY} $$KEY"),
            (Secrets, "${{ secrets.KEY }} ${{inputs.NAME}}", "${KEY} ${NAME}"),
        ] {
            assert_eq!(convert(forms, text), (expected.to_owned(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn references_without_counterpart_stay_literal() {
        for text in ["${command:pick}", "${PORT}", "${KAPELL}", "${a b}", "${}"] {
            assert_eq!(convert(ReferenceForms::Common, text), (format!("${text}"), vec![text.to_owned()]));
        }
    }
}
