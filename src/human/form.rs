//! Reads the form of an elicitation from its JSON Schema, and lines of text into the values that it asks for.
//! Never asks, and never trusts a schema to be what the specification allows: what it does not know, it takes as JSON.
//!
//! Follows `requestedSchema` of MCP's `elicitation/create` in 2025-11-25 and 2026-07-28, and the `enumNames` of
//! 2025-06-18.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::{
    json_schema::{self, Formats, Schema, Unchecked},
    model::JsonObject,
};

/// A form: fields in the order of the schema.
#[derive(Debug)]
pub struct Fields {
    fields: Vec<Field>,
    whole: Option<Schema>,
    /// Why answers are not checked, if they are not.
    pub unchecked: Option<String>,
}

/// A field of a form.
#[derive(Debug)]
pub struct Field {
    /// Its key in the answer.
    pub name: String,
    /// What a person reads instead of the key; from an agent, so data.
    pub title: Option<String>,
    /// What it is for; from an agent, so data.
    pub description: Option<String>,
    /// Whether an answer must have it.
    pub required: bool,
    /// The value where none is given.
    pub default: Option<Value>,
    /// What it takes.
    pub kind: Kind,
    /// Whether it takes null, which stands for no value.
    pub nullable: bool,
    limits: Limits,
    /// Checks an object of single fields.
    check: Option<Arc<Schema>>,
}

/// What a field takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text as typed.
    Text,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// Yes or no.
    Boolean,
    /// One of these.
    One(Vec<Choice>),
    /// Any of these.
    Many(Vec<Choice>),
    /// Anything else, written as JSON.
    Json,
}

/// One of the values that a field takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What goes into the answer.
    pub value: Value,
    /// What a person reads; from an agent, so data.
    pub title: String,
}

/// What the schema says of a value beyond its type, in the schema's own words.
#[derive(Debug, Default)]
struct Limits {
    least: Option<Number>,
    most: Option<Number>,
    format: Option<String>,
    pattern: Option<String>,
}

impl Fields {
    /// Reads a schema. One that makes no sense gives a form that takes anything; the agent will say what it thinks.
    pub fn read(schema: &JsonObject) -> Self {
        let document = Value::Object(schema.clone());
        let mut reader = SchemaReader { root: &document, left: MAX_VISITED };
        let form = reader.plain(&document);
        let required: Vec<&str> =
            form.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = form.get("properties").and_then(Value::as_object);
        let check = properties.and_then(|properties| parts(schema, properties)).map(Arc::new);
        let fields = properties
            .into_iter()
            .flatten()
            .map(|(name, property)| {
                let read = reader.plain(property);
                Field::read(name, &read, required.contains(&name.as_str()), &mut reader, check.clone())
            })
            .collect();
        let (whole, unchecked) = match compile(document.clone()) {
            Ok(whole) => (Some(whole), None),
            Err(unchecked) => (None, Some(unchecked.to_string())),
        };
        Self { fields, whole, unchecked }
    }

    /// The fields.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter()
    }

    /// Whether nothing but yes or no is asked.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The answer: what was given, with defaults where nothing was.
    ///
    /// # Errors
    /// Says which field is unknown, missing or wrong.
    pub fn complete(&self, mut given: JsonObject) -> Result<Value, String> {
        if let Some(name) = given.keys().find(|name| self.fields.iter().all(|field| field.name != **name)) {
            let known: Vec<_> = self.fields.iter().map(|field| format!("`{}`", field.name)).collect();
            return Err(format!("`{name}` is no field of the form; it has {}", known.join(", ")));
        }
        for field in &self.fields {
            match (given.get(&field.name), &field.default) {
                (Some(value), _) => field.accepts(value).map_err(|problem| format!("`{}`: {problem}", field.name))?,
                (None, Some(default)) => {
                    given.insert(field.name.clone(), default.clone());
                }
                (None, None) if field.required && field.nullable => {
                    given.insert(field.name.clone(), Value::Null);
                }
                (None, None) if field.required => return Err(format!("`{}` is required", field.name)),
                (None, None) => {}
            }
        }
        let answer = Value::Object(given);
        let violation = self.whole.as_ref().and_then(|whole| {
            // An answer that takes too much work is left to the agent.
            let violations = whole.violations(&answer, &json_schema::Limits::INLINE).ok()?;
            let error = violations.first()?;
            Some(format!("at `{}`: {}", error.instance_path(), json_schema::message(error, MAX_PROBLEM)))
        });
        violation.map_or(Ok(answer), Err)
    }
}

impl Field {
    fn read(
        name: &str,
        schema: &PlainSchema,
        required: bool,
        reader: &mut SchemaReader<'_>,
        check: Option<Arc<Schema>>,
    ) -> Self {
        let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |keys: [&str; 3]| keys.iter().find_map(|key| schema.get(key)?.as_number().cloned());
        Self {
            name: name.to_owned(),
            title: text("title"),
            description: text("description"),
            required,
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            kind: Kind::read(schema, reader),
            nullable: schema.nullable,
            limits: Limits {
                least: number(["minimum", "minLength", "minItems"]),
                most: number(["maximum", "maxLength", "maxItems"]),
                format: text("format"),
                pattern: text("pattern"),
            },
            check,
        }
    }

    /// Reads a line that is not empty.
    ///
    /// # Errors
    /// Says what was wrong and what is expected.
    pub fn parse(&self, line: &str) -> Result<Value, String> {
        let line = line.trim();
        if self.nullable && (line.is_empty() || line == "null") {
            return Ok(Value::Null);
        }
        // What is not JSON may still be a text that the schema takes.
        if self.kind == Kind::Json && self.kind.parse(line).is_none_or(|value| self.accepts(&value).is_err()) {
            let text = Value::String(line.to_owned());
            if self.check.is_some() && self.accepts(&text).is_ok() {
                return Ok(text);
            }
        }
        let value =
            self.kind.parse(line).ok_or_else(|| format!("`{line}` does not fit: expected {}", self.expects()))?;
        self.accepts(&value)?;
        Ok(value)
    }

    fn accepts(&self, value: &Value) -> Result<(), String> {
        let Some(check) = &self.check else { return Ok(()) };
        let alone = Value::Object(Map::from_iter([(self.name.clone(), value.clone())]));
        match check.violations(&alone, &json_schema::Limits::INLINE) {
            Ok(violations) if !violations.is_empty() => {
                Err(format!("{value} does not fit: expected {}", self.expects()))
            }
            // An answer that takes too much work is left to the agent.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What the field takes, in words.
    pub fn expects(&self) -> String {
        let what = match &self.kind {
            Kind::Text => match self.limits.format.as_deref() {
                Some("email") => "an e-mail address",
                Some("uri") => "an address such as `https://example.com`",
                Some("date") => "a date such as `2026-11-30`",
                Some("date-time") => "a date and time such as `2026-11-30T18:00:00Z`",
                _ => "text",
            },
            Kind::Number => "a number",
            Kind::Integer => "a whole number",
            Kind::Boolean => "yes or no",
            Kind::One(_) => "one of the choices",
            Kind::Many(_) => "choices with commas between",
            Kind::Json => "JSON",
        };
        let unit = match self.kind {
            Kind::Text => " characters",
            Kind::Many(_) => " choices",
            _ => "",
        };
        let mut text = match (&self.limits.least, &self.limits.most) {
            (Some(least), Some(most)) => format!("{what}, {least} to {most}{unit}"),
            (Some(least), None) => format!("{what}, at least {least}{unit}"),
            (None, Some(most)) => format!("{what}, at most {most}{unit}"),
            (None, None) => what.to_owned(),
        };
        if let Some(pattern) = &self.limits.pattern {
            text.push_str(&format!(", of the form `{pattern}`"));
        }
        text
    }

    /// The choices, if the field has any, with the word or number that picks each.
    pub fn choices(&self) -> impl Iterator<Item = (String, &Choice)> {
        let choices = match &self.kind {
            Kind::One(choices) | Kind::Many(choices) => choices.as_slice(),
            _ => &[],
        };
        let numbered = are_numbered(choices);
        choices
            .iter()
            .enumerate()
            .map(move |(index, choice)| (if numbered { (index + 1).to_string() } else { plain(&choice.value) }, choice))
    }

    /// A value of this field as a person would type it.
    pub fn show(&self, value: &Value) -> String {
        let titled = |choices: &[Choice], value: &Value| {
            choices
                .iter()
                .find(|choice| choice.value == *value)
                .map_or_else(|| plain(value), |choice| choice.title.clone())
        };
        match (&self.kind, value) {
            (Kind::Boolean, Value::Bool(true)) => "yes".to_owned(),
            (Kind::Boolean, Value::Bool(false)) => "no".to_owned(),
            (Kind::One(choices), value) => titled(choices, value),
            (Kind::Many(choices), Value::Array(values)) => {
                values.iter().map(|value| titled(choices, value)).collect::<Vec<_>>().join(", ")
            }
            (_, value) => plain(value),
        }
    }
}

impl Kind {
    fn read(schema: &PlainSchema, reader: &mut SchemaReader<'_>) -> Self {
        if let Some(choices) = reader.choices(schema) {
            return Self::One(choices);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Self::Text,
            Some("number") => Self::Number,
            Some("integer") => Self::Integer,
            Some("boolean") => Self::Boolean,
            Some("array") => {
                let items = schema.get("items").map(|items| reader.plain(items));
                items.and_then(|items| reader.choices(&items)).map_or(Self::Json, Self::Many)
            }
            _ => Self::Json,
        }
    }

    fn parse(&self, line: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::String(line.to_owned())),
            Self::Number => integer(line).or_else(|| Number::from_f64(line.parse().ok()?).map(Value::Number)),
            Self::Integer => integer(line),
            Self::Boolean => match line.to_lowercase().as_str() {
                "y" | "yes" | "true" => Some(Value::Bool(true)),
                "n" | "no" | "false" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::One(choices) => pick(choices, line),
            Self::Many(choices) => {
                let parts = line.split(',').map(str::trim).filter(|part| !part.is_empty());
                let mut picked = Vec::new();
                for value in parts.map(|part| pick(choices, part)) {
                    let value = value?;
                    if !picked.contains(&value) {
                        picked.push(value);
                    }
                }
                Some(Value::Array(picked))
            }
            Self::Json => serde_json::from_str(line).ok(),
        }
    }
}

/// Schemas of one form that are looked at, references included.
const MAX_VISITED: usize = 10_000;
/// References and variants of a schema that lead to each other.
const MAX_HOPS: usize = 16;
/// Bytes of the description of a problem with an answer.
const MAX_PROBLEM: usize = 1_000;

/// A schema without references, variants of null and lists of one schema, as far as it has an equal without them.
#[derive(Debug, Default)]
struct PlainSchema {
    keywords: JsonObject,
    nullable: bool,
}

impl PlainSchema {
    fn get(&self, key: &str) -> Option<&Value> {
        self.keywords.get(key)
    }

    /// Adds the keywords of another schema that applies to the same value; what is there already is closer to the
    /// field.
    fn add(&mut self, other: &JsonObject) {
        for (key, value) in other {
            self.keywords.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
}

/// Reads the schemas of one form.
struct SchemaReader<'s> {
    root: &'s Value,
    /// How many more schemas are looked at.
    left: usize,
}

impl<'s> SchemaReader<'s> {
    /// Resolves what libraries such as pydantic and zod write around a plain field: a reference, an `allOf` of one
    /// schema, and a variant or a type of null for what is optional.
    fn plain(&mut self, schema: &Value) -> PlainSchema {
        let mut plain = PlainSchema::default();
        let mut next = schema.as_object().cloned();
        for _ in 0..MAX_HOPS {
            let Some(keywords) = next.take() else { break };
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            plain.add(&keywords);
            if let Some(Value::String(reference)) = plain.keywords.shift_remove("$ref") {
                let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
                next = target.and_then(Value::as_object).cloned();
                continue;
            }
            if let Some(Value::Array(all)) = plain.get("allOf")
                && let [Value::Object(only)] = all.as_slice()
            {
                next = Some(only.clone());
                plain.keywords.shift_remove("allOf");
                continue;
            }
            for key in ["anyOf", "oneOf"] {
                let Some(Value::Array(variants)) = plain.keywords.get_mut(key) else { continue };
                let before = variants.len();
                variants.retain(|variant| !is_null(variant));
                plain.nullable |= variants.len() < before;
                if let [Value::Object(only)] = variants.as_slice()
                    && only.get("const").is_none()
                {
                    next = Some(only.clone());
                    plain.keywords.shift_remove(key);
                    break;
                }
            }
        }
        if let Some(Value::Array(types)) = plain.keywords.get_mut("type") {
            let before = types.len();
            types.retain(|name| name != "null");
            plain.nullable |= types.len() < before;
            if let [only] = types.as_slice() {
                let only = only.clone();
                plain.keywords.insert("type".to_owned(), only);
            }
        }
        // The names of `enumNames` go by position.
        if plain.get("enumNames").is_none()
            && let Some(Value::Array(values)) = plain.keywords.get_mut("enum")
        {
            let before = values.len();
            values.retain(|value| !value.is_null());
            plain.nullable |= values.len() < before;
        }
        plain
    }

    /// Returns the choices of `enum` (with `enumNames`), of `const`, or of `oneOf` or `anyOf` whose variants all have
    /// some.
    fn choices(&mut self, schema: &PlainSchema) -> Option<Vec<Choice>> {
        self.choices_within(schema, MAX_HOPS)
    }

    fn choices_within(&mut self, schema: &PlainSchema, hops: usize) -> Option<Vec<Choice>> {
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let names = schema.get("enumNames").and_then(Value::as_array);
            let title = |index: usize| names.and_then(|names| names.get(index)?.as_str());
            let choice = |(index, value): (usize, &Value)| Choice {
                title: title(index).map_or_else(|| plain(value), str::to_owned),
                value: value.clone(),
            };
            return Some(values.iter().enumerate().map(choice).collect());
        }
        if let Some(value) = schema.get("const") {
            let title = schema.get("title").and_then(Value::as_str).map_or_else(|| plain(value), str::to_owned);
            return Some(vec![Choice { value: value.clone(), title }]);
        }
        let variants = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        let mut choices = Vec::new();
        for variant in variants {
            let variant = self.plain(variant);
            for choice in self.choices_within(&variant, hops.checked_sub(1)?)? {
                if !choices.contains(&choice) {
                    choices.push(choice);
                }
            }
        }
        (!choices.is_empty()).then_some(choices)
    }
}

/// Whether a schema takes null alone.
fn is_null(schema: &Value) -> bool {
    let constant = schema.get("const").is_some_and(Value::is_null);
    let only = schema.get("enum").and_then(Value::as_array).is_some_and(|values| values.iter().all(Value::is_null));
    constant || only || schema.get("type").is_some_and(|name| name == "null")
}

/// Finds a choice by its value, its title or its number; without regard to case where that is unambiguous.
fn pick(choices: &[Choice], text: &str) -> Option<Value> {
    let is_exact = |choice: &&Choice| plain(&choice.value) == text || choice.title == text;
    let folded = text.to_lowercase();
    let is_like =
        |choice: &&Choice| plain(&choice.value).to_lowercase() == folded || choice.title.to_lowercase() == folded;
    let mut like = choices.iter().filter(is_like);
    let only_like = like.next().filter(|_| like.next().is_none());
    let numbered = || {
        let number = text.parse::<usize>().ok().filter(|_| are_numbered(choices))?;
        choices.get(number.checked_sub(1)?)
    };
    choices.iter().find(is_exact).or(only_like).or_else(numbered).map(|choice| choice.value.clone())
}

/// Whether numbers pick choices: not where a value or a title is itself a number.
fn are_numbered(choices: &[Choice]) -> bool {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    !choices.iter().any(|choice| is_number(&plain(&choice.value)) || is_number(&choice.title))
}

fn integer(line: &str) -> Option<Value> {
    line.parse::<i64>().map(Value::from).or_else(|_| line.parse::<u64>().map(Value::from)).ok()
}

/// Text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compiles a schema. Formats are checked; what a schema refers to elsewhere is not fetched.
fn compile(schema: Value) -> Result<Schema, Unchecked> {
    Schema::compile(schema, Formats::Checked, &json_schema::Limits::INLINE)
}

/// Fields of a form up to which each is tried alone where they cannot be checked together.
const MAX_TRIED_FIELDS: usize = 64;

/// Compiles a schema for objects of any of the fields. A field whose own schema is invalid is not checked.
fn parts(form: &JsonObject, properties: &JsonObject) -> Option<Schema> {
    let with = |properties: JsonObject| {
        let mut schema = JsonObject::new();
        for key in ["$schema", "$id", "$defs", "definitions"] {
            schema.extend(form.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
        Value::Object(schema)
    };
    match compile(with(properties.clone())) {
        Ok(schema) => Some(schema),
        Err(Unchecked::InvalidSchema(_)) if properties.len() <= MAX_TRIED_FIELDS => {
            let alone = |name: &str, schema: &Value| Map::from_iter([(name.to_owned(), schema.clone())]);
            let valid = properties.iter().filter(|(name, schema)| compile(with(alone(name, schema))).is_ok());
            compile(with(valid.map(|(name, schema)| (name.clone(), schema.clone())).collect())).ok()
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(schema: Value) -> Fields {
        let Value::Object(schema) = schema else { panic!("an object") };
        Fields::read(&schema)
    }

    fn field(property: Value) -> Field {
        let form = json!({"properties": {"f": property}, "required": ["f"]});
        fields(form).fields.remove(0)
    }

    /// What each line gives: a value, or what is expected.
    fn parses(property: Value, lines: &[(&str, Result<Value, &str>)]) {
        let field = field(property);
        for (line, expected) in lines {
            let got = field.parse(line);
            match expected {
                Ok(value) => assert_eq!(got.as_ref(), Ok(value), "{line}"),
                Err(expected) => {
                    let problem = got.expect_err(line);
                    assert_eq!(problem.split_once(": expected ").map(|(_, rest)| rest), Some(*expected), "{problem}");
                }
            }
        }
    }

    #[test]
    fn reads_numbers_and_their_ranges() {
        let range = "a whole number, 1 to 5";
        parses(
            json!({"type": "integer", "minimum": 1, "maximum": 5}),
            &[(" 3 ", Ok(json!(3))), ("+4", Ok(json!(4))), ("6", Err(range)), ("2.5", Err(range)), ("two", Err(range))],
        );
        parses(
            json!({"type": "number", "minimum": 0.5}),
            &[
                ("2", Ok(json!(2))),
                ("1e3", Ok(json!(1000.0))),
                ("0.4", Err("a number, at least 0.5")),
                ("NaN", Err("a number, at least 0.5")),
                ("inf", Err("a number, at least 0.5")),
            ],
        );
        parses(json!({"type": "integer"}), &[("18446744073709551615", Ok(json!(u64::MAX)))]);
    }

    #[test]
    fn reads_yes_and_no_in_the_words_people_use() {
        let wrong = || Err("yes or no");
        parses(
            json!({"type": ["null", "boolean"]}),
            &[
                ("y", Ok(json!(true))),
                ("No", Ok(json!(false))),
                ("TRUE", Ok(json!(true))),
                ("1", wrong()),
                ("ja", wrong()),
            ],
        );
    }

    #[test]
    fn checks_the_length_the_form_and_the_format_of_text() {
        parses(
            json!({"type": "string", "minLength": 2, "maxLength": 3}),
            &[("éé", Ok(json!("éé"))), ("a", Err("text, 2 to 3 characters")), ("abcd", Err("text, 2 to 3 characters"))],
        );
        parses(
            json!({"type": "string", "pattern": "^[A-Z]+$"}),
            &[("LIS", Ok(json!("LIS"))), ("lis", Err("text, of the form `^[A-Z]+$`"))],
        );
        for (format, good, bad, expected) in [
            ("email", "a@example.com", "a at example", "an e-mail address"),
            ("uri", "https://example.com/a", "example dot com", "an address such as `https://example.com`"),
            ("date", "2026-02-28", "2026-02-30", "a date such as `2026-11-30`"),
            ("date-time", "2026-02-28T10:00:00Z", "2026-02-28", "a date and time such as `2026-11-30T18:00:00Z`"),
        ] {
            parses(json!({"type": "string", "format": format}), &[(good, Ok(json!(good))), (bad, Err(expected))]);
        }
    }

    #[test]
    fn picks_choices_by_value_title_or_number() {
        let expected = || Err("one of the choices");
        let titled = json!({"type": "string", "oneOf": [
            {"const": "lis", "title": "Lisbon"}, {"const": "opo", "title": "Porto"},
        ]});
        parses(
            titled,
            &[
                ("lis", Ok(json!("lis"))),
                ("porto", Ok(json!("opo"))),
                ("2", Ok(json!("opo"))),
                ("3", expected()),
                ("0", expected()),
                ("Faro", expected()),
            ],
        );
        let named = json!({"type": "string", "enum": ["a", "A"], "enumNames": ["First", "Second"]});
        parses(named, &[("a", Ok(json!("a"))), ("A", Ok(json!("A"))), ("first", Ok(json!("a")))]);
        // A value that is a number means itself, never a place in the list.
        parses(json!({"enum": ["2", "1"]}), &[("1", Ok(json!("1"))), ("2", Ok(json!("2")))]);
        parses(json!({"type": "integer", "enum": [10, 20]}), &[("20", Ok(json!(20))), ("1", expected())]);
    }

    #[test]
    fn picks_any_number_of_choices_once_each() {
        let expected = || Err("choices with commas between, 1 to 2 choices");
        parses(
            json!({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string", "enum": ["red", "blue", "green"]}}),
            &[
                ("red, 2,red", Ok(json!(["red", "blue"]))),
                (",", expected()),
                ("1,2,3", expected()),
                ("red,pink", expected()),
            ],
        );
        parses(
            json!({"type": "array", "items": {"anyOf": [{"const": 1, "title": "One"}]}}),
            &[("one", Ok(json!([1]))), ("", Ok(json!([])))],
        );
    }

    #[test]
    fn takes_json_for_what_the_specification_does_not_know() {
        parses(
            json!({"type": "object", "required": ["a"]}),
            &[(r#"{"a": 1}"#, Ok(json!({"a": 1}))), ("{}", Err("JSON")), ("a", Err("JSON"))],
        );
        parses(json!({"type": "nonsense"}), &[("5", Ok(json!(5)))]);
        parses(json!(true), &[("5", Ok(json!(5)))]);
        parses(json!({"type": "string", "pattern": "("}), &[("x", Ok(json!("x")))]);
    }

    #[test]
    fn completes_an_answer_with_defaults_and_says_what_is_wrong_with_it() {
        let form = fields(json!({
            "type": "object",
            "properties": {
                "confirm": {"type": "boolean"},
                "seats": {"type": "integer", "minimum": 1, "default": 2},
                "notes": {"type": "string"},
            },
            "required": ["confirm", "seats"],
        }));
        let complete = |given: Value| match given {
            Value::Object(given) => form.complete(given),
            _ => panic!("an object"),
        };
        assert_eq!(complete(json!({"confirm": true})), Ok(json!({"confirm": true, "seats": 2})));
        for (given, problem) in [
            (json!({}), "`confirm` is required"),
            (json!({"confirm": "yes"}), "`confirm`: \"yes\" does not fit: expected yes or no"),
            (json!({"confirm": true, "seats": 0}), "`seats`: 0 does not fit: expected a whole number, at least 1"),
            (json!({"confrim": true}), "`confrim` is no field of the form; it has `confirm`, `seats`, `notes`"),
        ] {
            assert_eq!(complete(given), Err(problem.to_owned()));
        }
        assert_eq!(fields(json!({})).complete(JsonObject::new()), Ok(json!({})));
    }

    #[test]
    fn shows_choices_and_values_as_they_are_typed() {
        let shown = |property: Value, value: Value| field(property).show(&value);
        assert_eq!(shown(json!({"type": "boolean"}), json!(false)), "no");
        assert_eq!(shown(json!({"oneOf": [{"const": "a", "title": "First"}]}), json!("a")), "First");
        assert_eq!(shown(json!({"type": "array", "items": {"enum": ["a", "b"]}}), json!(["a", "b"])), "a, b");
        let picks = |property: Value| field(property).choices().map(|(pick, _)| pick).collect::<Vec<_>>();
        assert_eq!(picks(json!({"enum": ["a", "b"]})), ["1", "2"]);
        assert_eq!(picks(json!({"enum": [10, 20]})), ["10", "20"]);
    }
}
