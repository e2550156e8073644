//! Parses and expands URI templates (RFC 6570, all four levels), in which servers describe their resources.

use serde_json::Value;

use crate::model::JsonObject;

/// A URI template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriTemplate<'t> {
    parts: Vec<UriPart<'t>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum UriPart<'t> {
    Literal(&'t str),
    Variables(Operator, Vec<UriVariable<'t>>),
}

/// A variable of a [`UriTemplate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UriVariable<'t> {
    /// The name.
    pub name: &'t str,
    /// True if the URI is complete without a value, as in a query.
    pub is_optional: bool,
    modifier: Modifier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modifier {
    None,
    /// `:N`, which keeps the first characters of a value.
    Prefix(usize),
    /// `*`, which writes each element of a list or map separately.
    Explode,
}

/// The operator of an expression, by its column in the table of RFC 6570, appendix A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operator {
    first: &'static str,
    separator: &'static str,
    is_named: bool,
    /// Written after the name of an empty value.
    if_empty: &'static str,
    allows_reserved: bool,
}

impl Operator {
    /// Splits the operator from an expression.
    fn split(expression: &str) -> (Self, &str) {
        let plain = |first, separator| Self { first, separator, is_named: false, if_empty: "", allows_reserved: false };
        let named = |first, separator, if_empty| Self { is_named: true, if_empty, ..plain(first, separator) };
        let reserved = |first| Self { allows_reserved: true, ..plain(first, ",") };
        let operator = match expression.as_bytes().first() {
            Some(b'+') => reserved(""),
            Some(b'#') => reserved("#"),
            Some(b'.') => plain(".", "."),
            Some(b'/') => plain("/", "/"),
            Some(b';') => named(";", ";", ""),
            Some(b'?') => named("?", "&", "="),
            Some(b'&') => named("&", "&", "="),
            _ => return (plain("", ","), expression),
        };
        (operator, &expression[1..])
    }
}

impl<'t> UriTemplate<'t> {
    /// Parses a template.
    ///
    /// # Errors
    /// Returns a description of the first mistake.
    pub fn parse(text: &'t str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let Some((expression, after)) = after.split_once('}') else { return Err("`{` is not closed".to_owned()) };
            if !literal.is_empty() {
                parts.push(UriPart::Literal(literal));
            }
            let (operator, variables) = Operator::split(expression);
            let variables = variables.split(',').map(|variable| UriVariable::parse(variable, operator));
            parts.push(UriPart::Variables(operator, variables.collect::<Result<_, _>>()?));
            rest = after;
        }
        if rest.contains('}') {
            return Err("`}` closes nothing".to_owned());
        }
        if !rest.is_empty() {
            parts.push(UriPart::Literal(rest));
        }
        Ok(Self { parts })
    }

    /// Returns the variables in order.
    pub fn variables(&self) -> impl Iterator<Item = UriVariable<'t>> + Clone {
        self.parts
            .iter()
            .flat_map(|part| match part {
                UriPart::Literal(_) => &[][..],
                UriPart::Variables(_, variables) => variables,
            })
            .copied()
    }

    /// Returns the URI for the values of the variables. Absent and null values are omitted.
    ///
    /// # Errors
    /// Returns a description of a value that a URI cannot contain, such as a nested list.
    pub fn expand(&self, values: &JsonObject) -> Result<String, String> {
        let mut uri = String::new();
        for part in &self.parts {
            match part {
                UriPart::Literal(literal) => push_encoded(&mut uri, literal, Keep::Reserved),
                UriPart::Variables(operator, variables) => {
                    let mut written = 0;
                    for variable in variables {
                        let pieces = match values.get(variable.name) {
                            None | Some(Value::Null) => continue,
                            Some(value) => variable.pieces(*operator, value)?,
                        };
                        for piece in pieces {
                            uri.push_str(if written == 0 { operator.first } else { operator.separator });
                            uri.push_str(&piece);
                            written += 1;
                        }
                    }
                }
            }
        }
        Ok(uri)
    }
}

impl<'t> UriVariable<'t> {
    fn parse(text: &'t str, operator: Operator) -> Result<Self, String> {
        let (name, modifier) = match (text.strip_suffix('*'), text.split_once(':')) {
            (Some(name), _) => (name, Modifier::Explode),
            (None, Some((name, length))) => {
                let length = length.parse().ok().filter(|length| (1..10_000).contains(length));
                let length = length.ok_or_else(|| format!("`{{{text}}}` has an invalid length"))?;
                (name, Modifier::Prefix(length))
            }
            (None, None) => (text, Modifier::None),
        };
        let is_valid = |c: char| c.is_ascii_alphanumeric() || "_.%-".contains(c);
        if name.is_empty() || !name.chars().all(is_valid) {
            return Err(format!("`{{{text}}}` does not name a variable"));
        }
        Ok(Self { name, is_optional: operator.is_named, modifier })
    }

    /// Returns the parts that the value writes, between which the separator of the operator is written.
    fn pieces(&self, operator: Operator, value: &Value) -> Result<Vec<String>, String> {
        let keep = if operator.allows_reserved { Keep::Reserved } else { Keep::Unreserved };
        let encode = |text: &str| {
            let mut encoded = String::new();
            push_encoded(&mut encoded, text, keep);
            encoded
        };
        let invalid = || format!("`{}` must be text, a number, a boolean, or a list or map of these", self.name);
        let scalar = |value: &Value| scalar_text(value).map(|text| encode(&text)).ok_or_else(invalid);
        let named = |name: &str, text: &str| match (operator.is_named, text.is_empty()) {
            (false, _) => text.to_owned(),
            (true, true) => format!("{name}{}", operator.if_empty),
            (true, false) => format!("{name}={text}"),
        };
        let is_exploded = self.modifier == Modifier::Explode;
        Ok(match value {
            Value::Array(items) => {
                let items = items.iter().filter(|item| !item.is_null()).map(scalar).collect::<Result<Vec<_>, _>>()?;
                match (items.is_empty(), is_exploded) {
                    (true, _) => Vec::new(),
                    (false, true) => items.iter().map(|item| named(self.name, item)).collect(),
                    (false, false) => vec![named(self.name, &items.join(","))],
                }
            }
            Value::Object(entries) => {
                let entries = entries.iter().filter(|(_, value)| !value.is_null());
                let entries = entries.map(|(key, value)| Ok((encode(key), scalar(value)?)));
                let entries = entries.collect::<Result<Vec<_>, String>>()?;
                match (entries.is_empty(), is_exploded) {
                    (true, _) => Vec::new(),
                    (false, true) => entries.iter().map(|(key, value)| format!("{key}={value}")).collect(),
                    (false, false) => {
                        let joined: Vec<_> = entries.iter().map(|(key, value)| format!("{key},{value}")).collect();
                        vec![named(self.name, &joined.join(","))]
                    }
                }
            }
            value => {
                let text = scalar_text(value).ok_or_else(invalid)?;
                let text = match self.modifier {
                    Modifier::Prefix(length) => text.chars().take(length).collect(),
                    Modifier::None | Modifier::Explode => text,
                };
                vec![named(self.name, &encode(&text))]
            }
        })
    }
}

/// Returns a text, number, or boolean as text.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The characters that are not percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Letters, digits, and `-._~`.
    Unreserved,
    /// Also the delimiters of URIs, and characters that are encoded already.
    Reserved,
}

fn push_encoded(uri: &mut String, text: &str, keep: Keep) {
    for (at, byte) in text.bytes().enumerate() {
        let is_kept = match byte {
            b'-' | b'.' | b'_' | b'~' => true,
            b'%' => {
                let digits = text.as_bytes().get(at + 1..at + 3);
                keep == Keep::Reserved && digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            }
            _ => byte.is_ascii_alphanumeric() || keep == Keep::Reserved && b":/?#[]@!$&'()*+,;=".contains(&byte),
        };
        match is_kept {
            true => uri.push(char::from(byte)),
            false => uri.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expand(template: &str) -> String {
        let values = json!({
            "var": "value", "hello": "Hello World!", "path": "/foo/bar", "half": "50%", "empty": "", "x": 1024,
            "list": ["red", "green", "blue"], "keys": {"semi": ";", "dot": "."}, "null": null, "none": [],
        });
        let template = UriTemplate::parse(template).unwrap();
        template.expand(values.as_object().unwrap()).unwrap()
    }

    #[test]
    fn examples_of_the_standard_expand() {
        for (template, expected) in [
            ("{var}", "value"),
            ("{hello}", "Hello%20World%21"),
            ("{half}", "50%25"),
            ("O{empty}X", "OX"),
            ("O{null}{none}{unknown}X", "OX"),
            ("{+hello}", "Hello%20World!"),
            ("{+path}/here", "/foo/bar/here"),
            ("X{#path}", "X#/foo/bar"),
            ("{x,hello,path}", "1024,Hello%20World%21,%2Ffoo%2Fbar"),
            ("X{.x,var}", "X.1024.value"),
            ("{/var,x}/here", "/value/1024/here"),
            ("{;x,empty}", ";x=1024;empty"),
            ("{?x,empty}", "?x=1024&empty="),
            ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
            ("{var:3}", "val"),
            ("{+path:4}", "/foo"),
            ("{list}", "red,green,blue"),
            ("{/list*}", "/red/green/blue"),
            ("{?list}", "?list=red,green,blue"),
            ("{?list*}", "?list=red&list=green&list=blue"),
            ("{keys}", "semi,%3B,dot,."),
            ("{?keys*}", "?semi=%3B&dot=."),
            ("{+keys*}", "semi=;,dot=."),
            ("note://é/{var}", "note://%C3%A9/value"),
        ] {
            assert_eq!(expand(template), expected, "{template}");
        }
    }

    #[test]
    fn invalid_templates_and_values_are_reported() {
        for text in ["{", "a}", "{}", "{a,}", "{a b}", "{a:0}", "{a:x}", "{=a}"] {
            assert!(UriTemplate::parse(text).is_err(), "{text}");
        }
        let template = UriTemplate::parse("{list}").unwrap();
        assert!(template.expand(json!({"list": [[1]]}).as_object().unwrap()).is_err());
    }

    #[test]
    fn variables_of_queries_are_optional() {
        let template = UriTemplate::parse("notes://{folder}{/path*}{?sort,q}").unwrap();
        let variables: Vec<_> = template.variables().map(|variable| (variable.name, variable.is_optional)).collect();
        assert_eq!(variables, [("folder", false), ("path", false), ("sort", true), ("q", true)]);
    }
}
