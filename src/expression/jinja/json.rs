//! Converts results of expressions to JSON.

use minijinja::value::{Value as Computed, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::{Number, Value};

use super::budget::{Count, invalid_operation};

/// Converts a value to JSON. Integers stay exact, and values without a JSON equivalent are errors.
pub(super) fn to_json(value: &Computed) -> Result<Value, Error> {
    to_json_bounded(value, &mut Count::default(), 0)
}

fn to_json_bounded(value: &Computed, count: &mut Count, level: usize) -> Result<Value, Error> {
    count.add_one(value, level)?;
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => Value::Number(json_number(value)?),
        ValueKind::String => Value::from(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => Value::Array(
            value.try_iter()?.map(|item| to_json_bounded(&item, count, level + 1)).collect::<Result<_, _>>()?,
        ),
        ValueKind::Map => Value::Object(
            value
                .try_iter()?
                .map(|key| {
                    let field = to_json_bounded(&value.get_item(&key)?, count, level + 1)?;
                    let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                    Ok((key, field))
                })
                .collect::<Result<_, Error>>()?,
        ),
        other => return Err(invalid_operation(format!("the result is {other}, which JSON cannot express"))),
    })
}

fn json_number(value: &Computed) -> Result<Number, Error> {
    if value.is_integer() {
        let integer =
            i64::try_from(value.clone()).map(Number::from).or_else(|_| u64::try_from(value.clone()).map(Number::from));
        return integer.map_err(|_| invalid_operation(format!("the integer {value} is too large")));
    }
    let float = f64::try_from(value.clone())?;
    Number::from_f64(float)
        .ok_or_else(|| invalid_operation(format!("the result is {float}, which JSON cannot express")))
}
