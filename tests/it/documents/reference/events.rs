//! `events.md`: the events of a run and the values in them, from the types that are serialized.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use syn::{Attribute, Fields, GenericArgument, Item, Meta, PathArguments, Type};

use super::page::{check_page, table};
use super::rust_items::{doc_of, enum_of, items_of, snake_case, sources_below};

const HEAD: &str = "# Events

`kapell logs RUN --output json`, `kapell run --output stream-json`, and the journal contain these events, one JSON object
each. Besides the members below, each has `type` (the name of the event), `seq` (its number in the run, from 0 without
gaps), and `at` (the time, in milliseconds since 1970-01-01 UTC). Later versions may add events and members; they do not
change or remove any. `stream-json` also prints lines of the type `answer_delta`, which are not in the journal, and
finally the result.

A member in *italics* is absent if it has no value. The objects in them are described [below](#values).

";

/// Types that are serialized as a plain value, with its description.
const PLAIN: [(&str, &str); 23] = [
    ("String", "text"),
    ("str", "text"),
    ("TaskId", "text"),
    ("AgentId", "text"),
    ("RunId", "text"),
    ("QuestionId", "text"),
    ("RequestId", "text"),
    ("bool", "boolean"),
    ("u8", "integer"),
    ("u16", "integer"),
    ("u32", "integer"),
    ("u64", "integer"),
    ("i64", "integer"),
    ("usize", "integer"),
    ("f32", "number"),
    ("f64", "number"),
    ("Number", "number"),
    ("Timestamp", "time in milliseconds"),
    ("HumanDuration", "duration, such as `1m30s`"),
    ("MicroDollars", "US dollars"),
    ("Value", "any JSON value"),
    ("JsonObject", "object"),
    ("Plan", "object: the plan, as validated"),
];

/// Types with a serializer of their own, with its description.
const CUSTOM: [(&str, &str); 1] = [("ContentBlock", "content block, as MCP defines it")];

#[test]
fn events_are_up_to_date() {
    let mut types = Types::of_model();
    let event = enum_of("src/model/events/event.rs", "Event");
    let mut text = HEAD.to_owned();
    for variant in &event.variants {
        let name = snake_case(&variant.ident.to_string());
        let _ = writeln!(text, "## {name}\n\n{}\n", doc_of(&variant.attrs));
        text += &types.members(&variant.fields);
    }
    text += "\n## Values\n\nThe objects that events contain.\n\n";
    let mut next = 0;
    while let Some(name) = types.referenced.get(next).cloned() {
        next += 1;
        text += &types.definition(&name);
    }
    check_page("events.md", &text);
}

/// The types of the model, and those that were referred to so far.
struct Types {
    items: BTreeMap<String, Item>,
    referenced: Vec<String>,
}

/// Returns whether a field is not a part of the journal.
fn is_skipped(field: &syn::Field) -> bool {
    serde_options(&field.attrs).split(',').any(|option| option.trim() == "skip")
}

impl Types {
    fn of_model() -> Self {
        let mut items = BTreeMap::new();
        for item in sources_below("src/model").iter().flat_map(|path| items_of(path)) {
            let name = match &item {
                Item::Struct(item) => item.ident.to_string(),
                Item::Enum(item) => item.ident.to_string(),
                Item::Type(item) => item.ident.to_string(),
                _ => continue,
            };
            items.insert(name, item);
        }
        Self { items, referenced: Vec::new() }
    }

    /// Returns the table of the members of a variant or a struct, or a line if there are none.
    fn members(&mut self, fields: &Fields) -> String {
        let rows = match fields {
            Fields::Unit => Vec::new(),
            Fields::Unnamed(fields) => {
                let described: Vec<String> = fields.unnamed.iter().map(|field| self.describe(&field.ty)).collect();
                return format!("The members of {}.\n\n", described.join(", "));
            }
            Fields::Named(fields) => {
                fields.named.iter().filter(|field| !is_skipped(field)).map(|field| self.member(field)).collect()
            }
        };
        if rows.is_empty() { String::new() } else { table(&["member", "type", "meaning"], rows) + "\n" }
    }

    fn member(&mut self, field: &syn::Field) -> Vec<String> {
        let serde = serde_options(&field.attrs);
        let name = field.ident.as_ref().expect("a named field").to_string();
        let name = quoted_after(&serde, "rename = ").unwrap_or_else(|| name.trim_start_matches("r#").to_owned());
        let name = match serde.contains("flatten") {
            true => "(members)".to_owned(),
            false if serde.contains("skip_serializing_if") || is_option(&field.ty) => format!("*`{name}`*"),
            false => format!("`{name}`"),
        };
        vec![name, self.describe(&field.ty), doc_of(&field.attrs)]
    }

    /// Describes the JSON of a type, and remembers the types that it names.
    fn describe(&mut self, shown: &Type) -> String {
        let path = match shown {
            Type::Path(path) => &path.path,
            Type::Slice(slice) => return format!("list of {}", self.describe(&slice.elem)),
            _ => panic!("only paths and slices are described"),
        };
        let last = path.segments.last().expect("a name");
        let arguments: Vec<&Type> = match &last.arguments {
            PathArguments::AngleBracketed(list) => list.args.iter().filter_map(type_argument).collect(),
            _ => Vec::new(),
        };
        let name = last.ident.to_string();
        match (name.as_str(), arguments.as_slice()) {
            ("Option" | "Arc" | "Box" | "Cow", [.., inner]) => self.describe(inner),
            ("Vec" | "IndexSet" | "BTreeSet", [inner, ..]) => format!("list of {}", self.describe(inner)),
            ("IndexMap" | "BTreeMap" | "HashMap", [_, value, ..]) => format!("map of {}", self.describe(value)),
            ("Result", [ok, error]) => {
                format!("`{{\"Ok\": …}}` with {}, or `{{\"Err\": …}}` with {}", self.describe(ok), self.describe(error))
            }
            _ => self.describe_named(&name),
        }
    }

    fn describe_named(&mut self, name: &str) -> String {
        if let Some((_, about)) = PLAIN.iter().chain(&CUSTOM).find(|(known, _)| *known == name) {
            return (*about).to_owned();
        }
        match self.items.get(name).cloned() {
            Some(Item::Type(item)) => self.describe(&item.ty),
            Some(Item::Struct(item)) if matches!(&item.fields, Fields::Unnamed(fields) if fields.unnamed.len() == 1) => {
                let Fields::Unnamed(fields) = &item.fields else { unreachable!("just matched") };
                self.describe(&fields.unnamed[0].ty)
            }
            Some(_) => {
                if !self.referenced.iter().any(|known| known == name) {
                    self.referenced.push(name.to_owned());
                }
                format!("[{name}](#{})", name.to_lowercase())
            }
            None => panic!("`{name}` is neither a type of the model nor described in this file"),
        }
    }

    fn definition(&mut self, name: &str) -> String {
        match self.items[name].clone() {
            Item::Struct(item) => {
                format!("### {name}\n\n{}\n\n{}", doc_of(&item.attrs), self.members(&item.fields))
            }
            Item::Enum(item) => format!("### {name}\n\n{}\n\n{}", doc_of(&item.attrs), self.variants(&item)),
            _ => unreachable!("only structs and enums are referred to"),
        }
    }

    fn variants(&mut self, item: &syn::ItemEnum) -> String {
        let serde = serde_options(&item.attrs);
        let tag = quoted_after(&serde, "tag = ");
        let is_lowercase = serde.contains("\"lowercase\"");
        let is_snake = serde.contains("\"snake_case\"");
        let mut rows = Vec::new();
        for variant in &item.variants {
            let options = serde_options(&variant.attrs);
            let plain = variant.ident.to_string();
            let name = quoted_after(&options, "rename = ").unwrap_or_else(|| match (is_snake, is_lowercase) {
                (true, _) => snake_case(&plain),
                (_, true) => plain.to_lowercase(),
                _ => plain.clone(),
            });
            let contents = self.contents(&variant.fields);
            let value = match (&tag, contents.as_str()) {
                (_, contents) if serde.contains("untagged") => contents.to_owned(),
                (Some(tag), "") => format!("`{{\"{tag}\": \"{name}\"}}`"),
                (Some(tag), contents) => format!("`{{\"{tag}\": \"{name}\", …}}` with {contents}"),
                (None, "") => format!("`\"{name}\"`"),
                (None, contents) => format!("`{{\"{name}\": …}}` with {contents}"),
            };
            rows.push(vec![value, doc_of(&variant.attrs)]);
        }
        table(&["value", "meaning"], rows) + "\n"
    }

    /// Describes the members of a variant in a line; the text is empty if it has none.
    fn contents(&mut self, fields: &Fields) -> String {
        match fields {
            Fields::Unit => String::new(),
            Fields::Unnamed(fields) => {
                fields.unnamed.iter().map(|field| self.describe(&field.ty)).collect::<Vec<_>>().join(", ")
            }
            Fields::Named(fields) => {
                let members = fields.named.iter().map(|field| {
                    let [name, value, about] = self.member(field).try_into().expect("three cells");
                    format!("{name} ({value}): {about}")
                });
                members.collect::<Vec<_>>().join(" ")
            }
        }
    }
}

fn is_option(shown: &Type) -> bool {
    matches!(shown, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
}

fn type_argument(argument: &GenericArgument) -> Option<&Type> {
    match argument {
        GenericArgument::Type(shown) => Some(shown),
        _ => None,
    }
}

/// Returns the options of `#[serde(…)]` attributes as text.
fn serde_options(attributes: &[Attribute]) -> String {
    let lists = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("serde") => Some(list.tokens.to_string()),
        _ => None,
    });
    lists.collect::<Vec<_>>().join(", ")
}

/// Returns the quoted text after an option.
fn quoted_after(options: &str, option: &str) -> Option<String> {
    let start = options.match_indices(option).map(|(at, _)| at).find(|at| {
        let before = options[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })?;
    Some(options[start + option.len()..].split('"').nth(1)?.to_owned())
}
