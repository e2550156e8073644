//! The filters, tests, and functions of expressions, with their costs. Only those in the tables are available. Padding
//! and formatting to a given width are excluded, since they can allocate any amount of memory.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::value::{Kwargs, Rest, Value as Computed, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, UndefinedBehavior, filters, functions, tests};
use serde_json::Value;

use super::budget::{
    MAX_TEXT, MAX_VALUES, Steps, invalid_operation, limit_exceeded, parts, size, text_steps, too_many_values,
};
use super::dates::{add_time, date, timestamp};
use super::json::to_json;
use crate::expression::scan::InvocationKind;

/// The cost of a filter, test, or function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// Free: it inspects one value, or returns its argument.
    Free,
    /// The size of the arguments and the result.
    Size,
    /// The same, but a text costs as much as a list of its parts.
    Parts,
}

/// A filter, test, or function.
struct Builtin {
    name: &'static str,
    cost: Cost,
    function: Computed,
}

macro_rules! table {
    ($($cost:ident $($name:literal: $function:expr),+;)+) => {
        vec![$($(Builtin { name: $name, cost: Cost::$cost, function: Computed::from_function($function) }),+),+]
    };
}

static FILTERS: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    table! {
        Free
            "abs": filters::abs,
            "attr": filters::attr,
            "bool": filters::bool,
            "count": filters::length,
            "d": filters::default,
            "default": filters::default,
            "float": filters::float,
            "length": filters::length,
            "round": filters::round;
        Size
            "add_time": add_time,
            "capitalize": filters::capitalize,
            "date": date,
            "first": filters::first,
            "fromjson": from_json,
            "int": filters::int,
            "items": |map: Computed| lists(filters::items(&map)?),
            "keys": keys,
            "last": filters::last,
            "lower": filters::lower,
            "replace": replace,
            "reverse": filters::reverse,
            "string": filters::string,
            "timestamp": timestamp,
            "title": filters::title,
            "tojson": |value: Computed| -> Result<String, Error> { Ok(to_json(&value)?.to_string()) },
            "trim": trim,
            "upper": filters::upper,
            "values": values;
        Parts
            "chain": chain,
            "dictsort": |map: Computed, named: Kwargs| lists(filters::dictsort(&map, named)?),
            "groupby": filters::groupby,
            "join": join,
            "lines": filters::lines,
            "list": filters::list,
            "map": filters::map,
            "max": filters::max,
            "min": filters::min,
            "reject": filters::reject,
            "rejectattr": filters::rejectattr,
            "select": filters::select,
            "selectattr": filters::selectattr,
            "sort": filters::sort,
            "split": filters::split,
            "sum": sum,
            "unique": filters::unique,
            "zip": |state: &mut State<'_, '_>, first: Computed, others: Rest<Computed>| lists(filters::zip(state, first, others)?);
    }
});

static TESTS: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    table! {
        Free
            "boolean": tests::is_boolean,
            "defined": tests::is_defined,
            "divisibleby": tests::is_divisibleby,
            "even": tests::is_even,
            "false": tests::is_false,
            "float": tests::is_float,
            "integer": tests::is_integer,
            "iterable": tests::is_iterable,
            "mapping": tests::is_mapping,
            "none": tests::is_none,
            "number": tests::is_number,
            "odd": tests::is_odd,
            "sequence": tests::is_sequence,
            "string": tests::is_string,
            "true": tests::is_true,
            "undefined": tests::is_undefined;
        Size
            "endingwith": tests::is_endingwith,
            "eq": tests::is_eq,
            "equalto": tests::is_eq,
            "ge": tests::is_ge,
            "gt": tests::is_gt,
            "in": tests::is_in,
            "le": tests::is_le,
            "lower": tests::is_lower,
            "lt": tests::is_lt,
            "ne": tests::is_ne,
            "startingwith": tests::is_startingwith,
            "upper": tests::is_upper,
            // Additional tests for `select` and `selectattr`.
            "==": tests::is_eq,
            "!=": tests::is_ne,
            "<": tests::is_lt,
            "<=": tests::is_le,
            ">": tests::is_gt,
            ">=": tests::is_ge,
            "greaterthan": tests::is_gt,
            "lessthan": tests::is_lt;
    }
});

static FUNCTIONS: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    table! {
        Size
            "dict": functions::dict,
            "range": functions::range;
    }
});

/// The function that [`super::operators`] inserts around results of operators.
pub(super) const BOUNDED: &str = "bounded";

/// Returns the names that an invocation can have, except operators.
pub(crate) fn names(kind: InvocationKind) -> impl Iterator<Item = &'static str> + Clone {
    let builtins = match kind {
        InvocationKind::Filter => &FILTERS,
        InvocationKind::Test => &TESTS,
        InvocationKind::Function => &FUNCTIONS,
    };
    builtins.iter().map(|builtin| builtin.name).filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// The environment of all expressions.
pub(super) static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    FILTERS.iter().for_each(|filter| environment.add_filter(filter.name, filter.charged()));
    TESTS.iter().for_each(|test| environment.add_test(test.name, test.charged()));
    FUNCTIONS.iter().for_each(|function| environment.add_function(function.name, function.charged()));
    environment.add_function(BOUNDED, |state: &mut State<'_, '_>, value: Computed| charge_result(state, value));
    environment
});

impl Builtin {
    /// Returns a function that charges the arguments before the call and the result after it.
    fn charged(
        &self,
    ) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Computed, Error> + Send + Sync + 'static {
        let (cost, function) = (self.cost, self.function.clone());
        move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| -> Result<Computed, Error> {
            let arguments = arguments.into_values();
            let measure = match cost {
                Cost::Free => return function.call(state, &arguments),
                Cost::Size => size,
                Cost::Parts => parts,
            };
            for argument in &arguments {
                let steps = measure(argument)?;
                Steps::of(state).charge(steps)?;
            }
            let value = function.call(state, &arguments)?;
            charge_result(state, value)
        }
    }
}

/// Charges a new value. A lazy value becomes a list, so that iterating over it never costs more than its charge.
fn charge_result(state: &mut State<'_, '_>, value: Computed) -> Result<Computed, Error> {
    let steps = size(&value)?;
    Steps::of(state).charge(steps)?;
    match value.kind() {
        ValueKind::Iterable => Ok(Computed::from(value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?)),
        _ => Ok(value),
    }
}

fn require_map(value: &Computed, filter: &str) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Map => Ok(()),
        other => Err(invalid_operation(format!("`{filter}` expects an object, not {other}"))),
    }
}

fn keys(map: Computed) -> Result<Vec<Computed>, Error> {
    require_map(&map, "keys")?;
    Ok(map.try_iter()?.collect())
}

fn values(map: Computed) -> Result<Vec<Computed>, Error> {
    require_map(&map, "values")?;
    map.try_iter()?.map(|key| map.get_item(&key)).collect()
}

/// Converts a list of tuples to a list of lists: JSON has no tuples, and repeating one copies it.
fn lists(tuples: Computed) -> Result<Computed, Error> {
    let list = |tuple: Computed| Ok(Computed::from(tuple.try_iter()?.collect::<Vec<_>>()));
    Ok(Computed::from(tuples.try_iter()?.checked().map(|tuple| list(tuple?)).collect::<Result<Vec<_>, Error>>()?))
}

/// Parses JSON from a text. Its values are counted first, since a byte of text can become a value of fifty bytes.
fn from_json(text: String) -> Result<Computed, Error> {
    if json_values(&text) > MAX_VALUES {
        return Err(too_many_values());
    }
    serde_json::from_str::<Value>(&text)
        .map(|value| Computed::from(minijinja::value::Serde(value)))
        .map_err(|error| invalid_operation(format!("the text is not valid JSON: {error}")))
}

/// Returns the maximum number of values in a JSON text, based on its punctuation.
fn json_values(text: &str) -> usize {
    let (mut signs, mut in_text, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => signs += 1,
            _ => {}
        }
    }
    signs
}

/// Joins a list: texts unchanged, other values as JSON.
fn join(list: Computed, separator: Option<String>) -> Result<String, Error> {
    let separator = separator.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in list.try_iter()?.enumerate() {
        if index > 0 {
            joined.push_str(&separator);
        }
        match item.as_str() {
            Some(text) => joined.push_str(text),
            None => joined.push_str(&to_json(&item)?.to_string()),
        }
        if joined.len() > MAX_TEXT {
            return Err(too_long("joined text"));
        }
    }
    Ok(joined)
}

fn too_long(what: &str) -> Error {
    limit_exceeded(format!("the {what} is larger than {MAX_TEXT} bytes"))
}

/// Replaces all occurrences of a part of a text.
fn replace(text: String, from: String, to: String) -> Result<String, Error> {
    let length = text.matches(from.as_str()).count().saturating_mul(to.len()).saturating_add(text.len());
    if length > MAX_TEXT {
        return Err(limit_exceeded(format!("the text would be larger than {MAX_TEXT} bytes")));
    }
    Ok(text.replace(&from, &to))
}

/// Removes characters from both ends of a text. The cost is the product of both lengths.
fn trim(state: &mut State<'_, '_>, text: String, characters: Option<String>) -> Result<String, Error> {
    let Some(characters) = characters else { return Ok(text.trim().to_owned()) };
    Steps::of(state).charge(text_steps(text.len().saturating_mul(characters.len())))?;
    Ok(text.trim_matches(|c| characters.contains(c)).to_owned())
}

/// Concatenates lists, or merges objects. The last value of a key wins.
fn chain(first: Computed, others: Rest<Computed>) -> Result<Computed, Error> {
    let all: Vec<_> = std::iter::once(first).chain(others.0).collect();
    if all.iter().any(|value| value.kind() != ValueKind::Map) {
        let mut items = Vec::new();
        for value in &all {
            items.extend(value.try_iter()?);
        }
        return Ok(Computed::from(items));
    }
    let mut merged = BTreeMap::new();
    for map in &all {
        for key in map.try_iter()? {
            let value = map.get_item(&key)?;
            merged.insert(key, value);
        }
    }
    Ok(Computed::from(merged))
}

/// Adds numbers. If `start` is a list or a text, concatenates lists or texts, copying each once.
fn sum(
    state: &mut State<'_, '_>,
    values: Computed,
    attribute: Option<String>,
    start: Option<Computed>,
    named: Kwargs,
) -> Result<Computed, Error> {
    let start = match start {
        Some(start) => start,
        None => named.get::<Option<Computed>>("start")?.unwrap_or(Computed::from(0)),
    };
    let is_text = start.as_str().is_some();
    if !is_text && !matches!(start.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return filters::sum(state, values, attribute.as_deref(), Some(start), named);
    }
    let attribute = attribute.map_or_else(|| named.get::<Option<String>>("attribute"), |name| Ok(Some(name)))?;
    named.assert_all_used()?;
    let values = match attribute {
        None => values,
        Some(path) => {
            let named = Kwargs::from_iter([("attribute", Computed::from(path))]);
            state.apply_filter("map", &[values, Computed::from(named)])?
        }
    };
    let (mut items, mut text) = (Vec::new(), String::new());
    for value in std::iter::once(start).chain(values.try_iter()?) {
        match (value.kind(), value.as_str()) {
            (ValueKind::Undefined, _) => {}
            (ValueKind::Seq | ValueKind::Iterable, _) if !is_text => items.extend(value.try_iter()?),
            (_, Some(part)) if is_text => text.push_str(part),
            (kind, _) => {
                let (start, expected) = if is_text { ("text", "texts") } else { ("a list", "lists") };
                let message = format!("`sum` with {start} as `start` adds {expected} only, not {kind}");
                return Err(invalid_operation(message));
            }
        }
        if text.len() > MAX_TEXT {
            return Err(too_long("joined text"));
        }
    }
    Ok(if is_text { Computed::from(text) } else { Computed::from(items) })
}
