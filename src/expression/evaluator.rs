//! Computes what is larger than a path, through `minijinja`: expressions only, strict, and bounded.
//! Never shows `minijinja` a name: paths are resolved first and go in as values.

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use minijinja::{
    Environment, Error, ErrorKind, UndefinedBehavior,
    value::{Kwargs, Object, Rest, Serde, Value as Computed, ValueKind},
};
use serde_json::{Number, Value};

use super::{
    ExpressionError, Ground, Place, closest, resolve,
    scan::{Call, CallKind, Scanned},
};

/// Most steps of one evaluation: enough for any list that a filter walks, not for a hang.
const FUEL: u64 = 100_000;
/// Largest text that a filter may make, in bytes.
const MAX_TEXT: usize = 64 * 1024 * 1024;
/// Values that a filter may take and an expression may give, nested ones included.
const MAX_VALUES: usize = 1_000_000;
/// Bytes of a text that count as one value more.
const BYTES_PER_VALUE: usize = 64;
/// The same for filters that make a value of each part of a text.
const BYTES_PER_PART: usize = 4;
/// Levels of nested lists and objects that a filter may take and an expression may give.
const MAX_LEVELS: usize = 256;

/// The filters that go over all of what they take, or may make a value of its size. Repetition makes lists that cost
/// nothing until something goes over them, so the size is counted first.
const COUNTED_FILTERS: [&str; 34] = [
    "capitalize",
    "chain",
    "dictsort",
    "first",
    "fromjson",
    "groupby",
    "items",
    "join",
    "keys",
    "last",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "values",
    "zip",
    "int",
];

/// The filters of `minijinja` that stay, and our own. What pads or formats by a width of the author's choice is
/// left out: it can ask for any amount of memory.
pub(super) const FILTERS: [&str; 43] = [
    "abs",
    "attr",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "fromjson",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
    "keys",
    "values",
];
/// The filters that are taken out.
const UNBOUNDED_FILTERS: [&str; 8] = ["batch", "e", "escape", "format", "indent", "pprint", "safe", "slice"];
pub(super) const TESTS: [&str; 28] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];
const FUNCTIONS: [&str; 2] = ["dict", "range"];

/// The environment of every expression: that of [`UNCOUNTED`], with the values that filters take counted.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = UNCOUNTED.clone();
    for name in COUNTED_FILTERS {
        environment.add_filter(name, move |mut values: Rest<Computed>, named: Kwargs| -> Result<Computed, Error> {
            let mut budget = Budget::new(match name {
                "split" | "lines" => BYTES_PER_PART,
                _ => BYTES_PER_VALUE,
            });
            values.iter().try_for_each(|value| budget.count(value, 0))?;
            if named.args().next().is_some() {
                values.push(Computed::from(named));
            }
            UNCOUNTED.empty_state().apply_filter(name, &values)
        });
    }
    environment
});

/// Counts values up to [`MAX_VALUES`].
struct Budget {
    left: usize,
    bytes_per_value: usize,
}

impl Budget {
    fn new(bytes_per_value: usize) -> Self {
        Self { left: MAX_VALUES, bytes_per_value }
    }

    /// Takes one value and its text, without what is in it.
    fn take(&mut self, value: &Computed, level: usize) -> Result<(), Error> {
        if level > MAX_LEVELS {
            return Err(refused(format!("lists and objects are nested more than {MAX_LEVELS} deep")));
        }
        let text = value.as_str().map_or(0, str::len);
        self.left = (self.left.checked_sub(1 + text / self.bytes_per_value))
            .ok_or_else(|| refused(format!("the expression makes more than {MAX_VALUES} values")))?;
        Ok(())
    }

    /// Takes a value and all that is in it.
    fn count(&mut self, value: &Computed, level: usize) -> Result<(), Error> {
        self.take(value, level)?;
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| self.count(&item, level + 1)),
            ValueKind::Map => value.try_iter()?.try_for_each(|key| {
                self.take(&key, level + 1)?;
                self.count(&value.get_item(&key)?, level + 1)
            }),
            _ => Ok(()),
        }
    }
}

static UNCOUNTED: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    UNBOUNDED_FILTERS.iter().for_each(|name| environment.remove_filter(name));
    // `debug` shows all that is known; `namespace` is of use to statements only.
    environment.remove_global("debug");
    environment.remove_global("namespace");
    environment.add_filter("tojson", |value: Computed| -> Result<String, Error> { Ok(to_json(&value)?.to_string()) });
    environment.add_filter("fromjson", |text: String| -> Result<Computed, Error> {
        serde_json::from_str::<Value>(&text)
            .map(|value| Computed::from(Serde(value)))
            .map_err(|error| refused(format!("the text is not JSON: {error}")))
    });
    environment.add_filter("keys", |map: Computed| -> Result<Vec<Computed>, Error> {
        only_map(&map, "keys")?;
        Ok(map.try_iter()?.collect())
    });
    environment.add_filter("values", |map: Computed| -> Result<Vec<Computed>, Error> {
        only_map(&map, "values")?;
        map.try_iter()?.map(|key| map.get_item(&key)).collect()
    });
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment
});

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn only_map(value: &Computed, filter: &str) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Map => Ok(()),
        other => Err(refused(format!("`{filter}` takes an object, not {other}"))),
    }
}

/// Joins a list: texts as they are, other values as JSON.
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
            return Err(refused(format!("the joined text is larger than {MAX_TEXT} bytes")));
        }
    }
    Ok(joined)
}

/// Replaces a part of a text wherever it occurs.
fn replace(text: String, from: String, to: String) -> Result<String, Error> {
    let grown = text.matches(from.as_str()).count().saturating_mul(to.len()).saturating_add(text.len());
    if grown > MAX_TEXT {
        return Err(refused(format!("the text would be larger than {MAX_TEXT} bytes")));
    }
    Ok(text.replace(&from, &to))
}

/// Finds mistakes that show without values.
pub(super) fn check(scanned: &Scanned<'_>) -> Result<(), ExpressionError> {
    let prepared = Prepared::new(scanned);
    ENVIRONMENT.compile_expression_owned(prepared.text.clone()).map_err(|error| prepared.error(&error))?;
    scanned.calls.iter().try_for_each(|call| check_call(call, scanned.text))
}

fn check_call(call: &Call<'_>, text: &str) -> Result<(), ExpressionError> {
    let (kind, known): (_, &[&str]) = match call.kind {
        CallKind::Filter => ("filter", &FILTERS),
        CallKind::Test => ("test", &TESTS),
        CallKind::Function => ("function", &FUNCTIONS),
    };
    if known.contains(&call.name) {
        return Ok(());
    }
    let name = &text[call.range.clone()];
    let error = ExpressionError::new(format!("there is no {kind} `{name}`"), call.range.clone());
    Err(match closest(name, known.iter().copied()) {
        Some(close) => error.with_help(format!("did you mean `{close}`?")),
        None => error.with_help(format!("there is {}", known.join(", "))),
    })
}

/// Computes an expression.
pub(super) fn evaluate(scanned: &Scanned<'_>, ground: &Ground<'_>) -> Result<Value, ExpressionError> {
    let prepared = Prepared::new(scanned);
    let expression =
        ENVIRONMENT.compile_expression_owned(prepared.text.clone()).map_err(|error| prepared.error(&error))?;
    scanned.calls.iter().try_for_each(|call| check_call(call, scanned.text))?;
    // All paths are resolved up front, but what is missing is an error only when the evaluation comes to it.
    let resolved: Vec<_> = (scanned.paths.iter())
        .map(|path| resolve::resolve(path, scanned.text, ground).map(Place::into_value))
        .collect();
    let names = resolved
        .iter()
        .zip(&scanned.paths)
        .enumerate()
        .map(|(index, (resolved, path))| match resolved {
            Ok(value) => Computed::from(Serde(value)),
            Err(_) if path.may_be_missing => Computed::UNDEFINED,
            Err(_) => Computed::from(refused(format!("{MISSING}{index}"))),
        })
        .collect();
    let computed = expression.eval(Computed::from_object(Names(names))).and_then(|value| to_json(&value));
    computed.map_err(|error| {
        let missing = error.detail().and_then(|detail| detail.strip_prefix(MISSING)?.parse().ok());
        let missing = missing.and_then(|index: usize| resolved.into_iter().nth(index)?.err());
        missing.unwrap_or_else(|| prepared.error(&error))
    })
}

/// Marks the error of a path that could not be resolved; a number follows.
const MISSING: &str = "missing path ";

/// The values of the paths, under the names that [`Prepared`] gives them.
#[derive(Debug)]
struct Names(Vec<Computed>);

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Computed) -> Option<Computed> {
        let index: usize = key.as_str()?.strip_prefix("path_")?.parse().ok()?;
        self.0.get(index).cloned()
    }
}

/// An expression with a name in place of each path.
struct Prepared<'s, 'e> {
    scanned: &'s Scanned<'e>,
    text: String,
    /// Where each name starts and ends.
    names: Vec<Range<usize>>,
}

impl<'s, 'e> Prepared<'s, 'e> {
    fn new(scanned: &'s Scanned<'e>) -> Self {
        let mut text = String::with_capacity(scanned.text.len());
        let mut names = Vec::with_capacity(scanned.paths.len());
        let mut done = 0;
        for (index, path) in scanned.paths.iter().enumerate() {
            text.push_str(&scanned.text[done..path.range.start]);
            let start = text.len();
            text.push_str(&format!("path_{index}"));
            names.push(start..text.len());
            done = path.range.end;
        }
        text.push_str(&scanned.text[done..]);
        Self { scanned, text, names }
    }

    /// Where a place of the prepared text is in the expression as written.
    fn original(&self, at: usize) -> usize {
        match self.names.iter().rposition(|name| name.start <= at) {
            None => at,
            Some(index) if at < self.names[index].end => self.scanned.paths[index].range.start,
            Some(index) => self.scanned.paths[index].range.end + (at - self.names[index].end),
        }
        .min(self.scanned.text.len())
    }

    fn error(&self, error: &Error) -> ExpressionError {
        let whole = 0..self.scanned.text.len();
        let range = match error.range() {
            Some(range) if range.start < range.end => {
                let last = self.original(range.end - 1) + 1;
                let named = self.names.iter().position(|name| name.end == range.end);
                self.original(range.start)..named.map_or(last, |index| self.scanned.paths[index].range.end)
            }
            _ => whole.clone(),
        };
        // A range that cuts a character in two would be of no use to anyone.
        let range = if self.scanned.text.get(range.clone()).is_some() { range } else { whole };
        let detail = error.detail().unwrap_or_default();
        match error.kind() {
            ErrorKind::OutOfFuel => ExpressionError::new("the expression takes too many steps", range)
                .with_help("compute this in a tool instead"),
            ErrorKind::UndefinedError => ExpressionError::new("a part of the expression has no value", range)
                .with_help("`| default(…)` says what to take instead"),
            ErrorKind::SyntaxError => {
                let error = ExpressionError::new(format!("this is no expression: {detail}"), range);
                match self.mistaken_sign() {
                    Some(help) => error.with_help(help),
                    None => error,
                }
            }
            _ if detail.is_empty() => ExpressionError::new(error.kind().to_string(), range),
            _ => ExpressionError::new(detail, range),
        }
    }

    /// Advice for those who write another language's signs.
    fn mistaken_sign(&self) -> Option<&'static str> {
        [("&&", "write `and` for `&&`"), ("||", "write `or` for `||`"), ("!", "write `not` for `!`")]
            .into_iter()
            .find(|(sign, _)| self.text.replace("!=", "").contains(sign))
            .map(|(_, help)| help)
    }
}

/// The JSON value of what was computed; integers stay exact, and what JSON cannot say is an error.
fn to_json(value: &Computed) -> Result<Value, Error> {
    json_within(value, &mut Budget::new(BYTES_PER_VALUE), 0)
}

fn json_within(value: &Computed, budget: &mut Budget, level: usize) -> Result<Value, Error> {
    budget.take(value, level)?;
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => Value::Number(number(value)?),
        ValueKind::String => Value::from(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            Value::Array(value.try_iter()?.map(|item| json_within(&item, budget, level + 1)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => Value::Object(
            value
                .try_iter()?
                .map(|key| {
                    let field = json_within(&value.get_item(&key)?, budget, level + 1)?;
                    let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                    Ok((key, field))
                })
                .collect::<Result<_, Error>>()?,
        ),
        other => return Err(refused(format!("the result is {other}, which is no JSON"))),
    })
}

fn number(value: &Computed) -> Result<Number, Error> {
    if value.is_integer() {
        let whole =
            i64::try_from(value.clone()).map(Number::from).or_else(|_| u64::try_from(value.clone()).map(Number::from));
        return whole.map_err(|_| refused(format!("the integer {value} is too large")));
    }
    let float = f64::try_from(value.clone())?;
    Number::from_f64(float).ok_or_else(|| refused(format!("the result is {float}, which is no JSON number")))
}
