//! Reads YAML: plans with the place of every value, and plain data without. The only place that names YAML crates.
//! Never knows what a plan's keys mean.
//!
//! YAML 1.2 with the core schema, one document, no merge keys. A number with a leading zero, such as `007`, is text,
//! because postal codes and account numbers would lose the zero. Nesting and the growth through aliases are
//! bounded, and nothing here is recursive, so that no file can end the process.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde::de::IgnoredAny;
use serde_json::Number;

use super::{
    diagnostic::Diagnostics,
    findings::Findings,
    map::Map,
    source::{Extent, Source},
    tree::{Entry, Node, Tree},
};
use crate::model::has_leading_zero;

/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 64;
/// Most that aliases may add, counted in values and bytes of text.
const MAX_ALIASED: usize = 1_000_000;

/// Reads a YAML or JSON file of plain data, such as a file of parameters. A file without content is null.
///
/// # Errors
/// Returns all mistakes of the file, with their places.
pub fn read_data(name: &str, text: &str) -> Result<serde_json::Value, Diagnostics> {
    let source = Arc::new(Source::new(name, normalize(text).into_owned()));
    let mut findings = Findings::new("yaml", Arc::clone(&source));
    let root = read_tree(&source.text, &mut findings);
    if findings.has_errors() {
        return Err(findings.finish());
    }
    Ok(root.map_or(serde_json::Value::Null, |root| root.to_json()))
}

/// Returns the text without a byte order mark and with JSON's surrogate pairs as YAML escapes.
pub(super) fn normalize(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // YAML has no surrogate pairs, but many programs escape emoji in JSON that way.
    let may_hold_pairs = text.contains("\\ud") || text.contains("\\uD");
    if !may_hold_pairs || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        written.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match surrogate_pair(rest) {
            Some(pair) => {
                written.push_str(&format!("\\U{:08X}", u32::from(pair)));
                12
            }
            None => {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                written.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    written.push_str(rest);
    Cow::Owned(written)
}

/// Returns the character that `text` starts with as two escapes of UTF-16.
fn surrogate_pair(text: &str) -> Option<char> {
    let unit = |start: usize| {
        let digits = text.get(start..start + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0).filter(|unit| (0xD800..0xDC00).contains(unit))?;
    char::decode_utf16([first, unit(6)?]).next()?.ok()
}

/// Writes data as YAML.
///
/// # Errors
/// When the data holds what YAML cannot say.
pub fn write_data(data: &impl serde::Serialize) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(data)
}

/// Reads a file that [`normalize`] prepared, whatever it is for. Syntax ends at the first mistake; duplicate keys and the like are all found.
pub(super) fn read_tree<'s>(text: &'s str, findings: &mut Findings) -> Option<Node<'s>> {
    let places = Places::new(text);
    let mut builder = Builder { findings, open: Vec::new(), anchors: HashMap::new(), aliased: 0, root: None, places };
    for event in Parser::new_from_str(text) {
        let next = match event {
            Ok((event, span)) => {
                let extent = builder.places.extent(span.start.index(), span.end.index());
                builder.take(event, extent)
            }
            Err(error) => Err(builder.syntax(&error)),
        };
        if next.is_err() {
            return None;
        }
    }
    builder.root
}

/// The file cannot be read any further; the reason is among the findings.
struct Unreadable;

/// Turns the parser's character offsets into bytes.
struct Places<'s> {
    text: &'s str,
    /// The byte of every [`STRIDE`]th character; empty where characters are bytes.
    marks: Vec<usize>,
}

const STRIDE: usize = 64;

impl<'s> Places<'s> {
    fn new(text: &'s str) -> Self {
        let marks =
            if text.is_ascii() { Vec::new() } else { text.char_indices().step_by(STRIDE).map(|(at, _)| at).collect() };
        Self { text, marks }
    }

    fn byte(&self, character: usize) -> usize {
        if self.marks.is_empty() {
            return character.min(self.text.len());
        }
        let mark = self.marks.get(character / STRIDE).copied().unwrap_or(self.text.len());
        let rest = &self.text[mark..];
        mark + rest.char_indices().nth(character % STRIDE).map_or(rest.len(), |(at, _)| at)
    }

    /// The part of the file that `text` is a copy of, if it stands there as it is meant, with or without quotes.
    fn shared(&self, text: Cow<'s, str>, extent: Extent) -> Cow<'s, str> {
        let at = |start: usize| self.text.get(start..start + text.len()).filter(|part| *part == text);
        match at(extent.start).or_else(|| at(extent.start + 1)) {
            Some(part) => Cow::Borrowed(part),
            None => text,
        }
    }

    fn extent(&self, start: usize, end: usize) -> Extent {
        Extent { start: self.byte(start), end: self.byte(end) }
    }
}

/// A list or map that is not closed yet.
struct Open<'s> {
    node: Node<'s>,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<(Cow<'s, str>, Extent)>,
    /// How much it holds, for the bound on aliases.
    weight: usize,
    /// How deep it nests below itself.
    height: usize,
}

/// A value that aliases can repeat.
struct Anchor<'s> {
    node: Node<'s>,
    weight: usize,
    height: usize,
}

struct Builder<'f, 's> {
    findings: &'f mut Findings,
    open: Vec<Open<'s>>,
    anchors: HashMap<usize, Anchor<'s>>,
    aliased: usize,
    root: Option<Node<'s>>,
    places: Places<'s>,
}

impl<'s> Builder<'_, 's> {
    fn syntax(&mut self, error: &ScanError) -> Unreadable {
        let at = self.places.byte(error.marker().index());
        let info = error.info();
        let line_start = self.places.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.places.text[line_start..].lines().next().unwrap_or_default();
        let unquoted = info.contains("flow") && line.contains("${{");
        let found = self.findings.error("syntax", Extent { start: at, end: at }, format!("invalid YAML: {info}"));
        if unquoted {
            found.help("inside of `{ }` and `[ ]`, a text with `${{ }}` must be put in quotes");
        } else if info.contains("mapping values are not allowed") {
            found.help("a text that holds `: ` must be put in quotes");
        } else if info.contains("tab") {
            found.help("indent with spaces");
        } else if info.contains("recursion limit") {
            found.help(format!("nest at most {MAX_DEPTH} lists and maps"));
        }
        Unreadable
    }

    fn fail(&mut self, code: &str, at: Extent, message: String) -> Unreadable {
        self.findings.error(code, at, message);
        Unreadable
    }

    fn take(&mut self, event: Event<'s>, extent: Extent) -> Result<(), Unreadable> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(self.fail("syntax", extent, "a second document starts here, but a file holds only one".to_owned()))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(self.places.shared(text, extent), (style, tag.as_deref()), anchor, extent)
            }
            Event::SequenceStart(anchor, tag) => self.start(Tree::List(Vec::new()), anchor, (extent, tag.as_deref())),
            Event::MappingStart(anchor, tag) => self.start(Tree::Map(Map::default()), anchor, (extent, tag.as_deref())),
            Event::SequenceEnd | Event::MappingEnd => self.end(extent),
            Event::Alias(id) => self.alias(id, extent),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn start(
        &mut self,
        tree: Tree<'s>,
        anchor: usize,
        (extent, tag): (Extent, Option<&Tag>),
    ) -> Result<(), Unreadable> {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && matches!(&*tag.suffix, "seq" | "map"))) {
            self.findings.error("tag", extent, format!("the tag `{tag}` has no meaning here")).help("leave it out");
        }
        if self.open.len() == MAX_DEPTH {
            let message = format!("lists and maps are nested more than {MAX_DEPTH} deep");
            return Err(self.fail("too_deep", extent, message));
        }
        self.key_must_be_text(extent)?;
        self.open.push(Open { node: Node::new(tree, extent), anchor, key: None, weight: 1, height: 1 });
        Ok(())
    }

    /// A list or map may stand where a value is due, not where a key is.
    fn key_must_be_text(&mut self, extent: Extent) -> Result<(), Unreadable> {
        match self.open.last() {
            Some(Open { node: Node { tree: Tree::Map(_), .. }, key: None, .. }) => {
                let error = self.findings.error("key", extent, "a key must be text, not a list or a map");
                error.help("a text that starts with `{` or `[` must be put in quotes");
                Err(Unreadable)
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self, extent: Extent) -> Result<(), Unreadable> {
        let Some(mut done) = self.open.pop() else { return Ok(()) };
        done.node.shrink();
        done.node.extent.end =
            done.node.extent.end.max(last_end(&done.node)).max(match self.places.text.as_bytes().get(extent.start) {
                Some(b']' | b'}') => extent.end,
                _ => 0,
            });
        self.value(done.node, done.anchor, (done.weight, done.height))
    }

    fn alias(&mut self, id: usize, extent: Extent) -> Result<(), Unreadable> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(self.fail("alias", extent, "this alias stands inside of what it repeats".to_owned()));
        };
        let (weight, height) = (anchor.weight, anchor.height);
        self.aliased += weight;
        if self.aliased > MAX_ALIASED || self.open.len() + height > MAX_DEPTH {
            return Err(self.fail("alias", extent, "the aliases of this file repeat too much".to_owned()));
        }
        let node = anchor.node.clone();
        if let Some(Open { node: Node { tree: Tree::Map(_), .. }, key: None, .. }) = self.open.last() {
            let Tree::Text(text) = node.tree else { return self.key_must_be_text(extent) };
            return self.key(text, extent);
        }
        self.value(node, 0, (weight, height))
    }

    fn scalar(
        &mut self,
        text: Cow<'s, str>,
        (style, tag): (ScalarStyle, Option<&Tag>),
        anchor: usize,
        extent: Extent,
    ) -> Result<(), Unreadable> {
        if let Some(Open { node: Node { tree: Tree::Map(_), .. }, key: None, .. }) = self.open.last() {
            if style == ScalarStyle::Plain && text == "<<" {
                self.findings.error("key", extent, "merge keys (`<<`) are not supported").help("write the keys out");
            } else if style == ScalarStyle::Plain && text.is_empty() {
                self.findings.error("key", extent, "a key is missing");
            }
            if anchor != 0 {
                let node = Node::new(Tree::Text(text.clone()), extent);
                self.anchors.insert(anchor, Anchor { node, weight: 1 + text.len(), height: 0 });
            }
            return self.key(text, extent);
        }
        let weight = 1 + text.len();
        let tree = match (tag, style) {
            (None, ScalarStyle::Plain) => plain(text),
            (None, _) => Ok(Tree::Text(text)),
            (Some(tag), _) if tag.is_yaml_core_schema() => tagged(text, &tag.suffix),
            (Some(tag), _) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Tree::Text(text)),
            (Some(tag), _) => Err(format!("the tag `{tag}` has no meaning here")),
        };
        let tree = tree.unwrap_or_else(|message| {
            self.findings.error("scalar", extent, message);
            Tree::Null
        });
        self.value(Node::new(tree, extent), anchor, (weight, 0))
    }

    fn key(&mut self, text: Cow<'s, str>, extent: Extent) -> Result<(), Unreadable> {
        let first = self.open.last().and_then(|open| Some(open.node.as_map()?.get(&text)?.key));
        if let Some(first) = first {
            let line = self.findings.source.line(first);
            let found = self.findings.error("duplicate_key", extent, format!("the key `{text}` is given twice"));
            found.help(format!("it is first given in line {line}"));
        }
        if let Some(open) = self.open.last_mut() {
            open.key = Some((text, extent));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, node: Node<'s>, anchor: usize, (weight, height): (usize, usize)) -> Result<(), Unreadable> {
        if anchor != 0 {
            // What an anchor keeps is a copy, so it counts like an alias.
            self.aliased += weight;
            if self.aliased > MAX_ALIASED {
                return Err(self.fail("alias", node.extent, "the anchors of this file repeat too much".to_owned()));
            }
            self.anchors.insert(anchor, Anchor { node: node.clone(), weight, height });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight += weight;
        open.height = open.height.max(height + 1);
        match &mut open.node.tree {
            Tree::List(nodes) => nodes.push(node),
            Tree::Map(map) => {
                if let Some((text, key)) = open.key.take() {
                    map.insert(text, Entry { key, node });
                }
            }
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => {}
        }
        Ok(())
    }
}

/// Where the last thing inside of a list or map ends.
fn last_end(node: &Node<'_>) -> usize {
    match &node.tree {
        Tree::List(nodes) => nodes.last().map_or(0, |node| node.extent.end),
        Tree::Map(map) => map.last().map_or(0, |(_, entry)| entry.node.extent.end.max(entry.key.end)),
        _ => 0,
    }
}

/// The value of a plain scalar by the core schema of YAML 1.2 (chapter 10.3.2), but for numbers with a leading zero.
fn plain(text: Cow<'_, str>) -> Result<Tree<'_>, String> {
    Ok(match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Tree::Null,
        "true" | "True" | "TRUE" => Tree::Bool(true),
        "false" | "False" | "FALSE" => Tree::Bool(false),
        _ if has_leading_zero(&text) => Tree::Text(text),
        _ => match number(&text) {
            Some(number) => Tree::Number(number?),
            None => Tree::Text(text),
        },
    })
}

/// The value of a scalar with one of YAML's own tags.
fn tagged<'s>(text: Cow<'s, str>, kind: &str) -> Result<Tree<'s>, String> {
    let tree = match number(&text) {
        _ if kind == "str" => Tree::Text(text.clone()),
        // The tag says that the zero may go.
        Some(number) => Tree::Number(number?),
        None => plain(text.clone())?,
    };
    let fits = match (&tree, kind) {
        (Tree::Text(_), "str") | (Tree::Null, "null") | (Tree::Bool(_), "bool") => true,
        (Tree::Number(number), "int") => !number.is_f64(),
        (Tree::Number(_), "float") => true,
        _ => false,
    };
    if fits { Ok(tree) } else { Err(format!("`{text}` is no `!!{kind}`")) }
}

/// The number that a plain scalar spells, if it spells one.
fn number(text: &str) -> Option<Result<Number, String>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let too_large = || format!("`{text}` does not fit into 64 bits");
    if let Some((digits, radix)) =
        text.strip_prefix("0x").map(|digits| (digits, 16)).or_else(|| Some((text.strip_prefix("0o")?, 8)))
    {
        let spelled = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        return spelled.then(|| u64::from_str_radix(digits, radix).map(Number::from).map_err(|_| too_large()));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Err(format!("`{text}` is no JSON number")));
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        || !unsigned.contains(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let positive = text.strip_prefix('+').unwrap_or(text);
        let whole = positive.parse::<u64>().map(Number::from).or_else(|_| positive.parse::<i64>().map(Number::from));
        return Some(whole.map_err(|_| too_large()));
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let mantissa_fits = (before.is_empty() || digits(before)) && (after.is_empty() || digits(after)) && mantissa != ".";
    if !mantissa_fits || !digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)) {
        return None;
    }
    let float = text.parse::<f64>().ok()?;
    Some(Number::from_f64(float).ok_or_else(|| format!("`{text}` is too large for a number")))
}
