//! The filters for dates and times. All times are UTC, so that they do not depend on the machine.

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use minijinja::Error;
use minijinja::value::{Value as Computed, ValueKind};

use super::budget::invalid_operation;
use crate::model::HumanDuration;

/// The maximum length of a format or of a date, in bytes. A directive can be padded to at most 255 characters.
const MAX_FORMAT_BYTES: usize = 256;

/// The format of a date without its time.
const DATE_FORMAT: &str = "%Y-%m-%d";

/// Formats a time by a `strftime` format.
pub(super) fn date(value: Computed, format: Option<String>) -> Result<String, Error> {
    let format = format.unwrap_or_else(|| DATE_FORMAT.to_owned());
    if format.len() > MAX_FORMAT_BYTES {
        return Err(invalid_operation(format!("the format of `date` is longer than {MAX_FORMAT_BYTES} bytes")));
    }
    let moment = parse("date", &value)?.to_zoned(TimeZone::UTC);
    strtime::format(&format, &moment)
        .map_err(|error| invalid_operation(format!("`date` does not support the format `{format}`: {error}")))
}

/// Returns the time that is a duration, such as `1h30m` or `-7d`, later.
pub(super) fn add_time(value: Computed, duration: String) -> Result<String, Error> {
    let moment = parse("add_time", &value)?;
    let (sign, length) = match duration.trim().strip_prefix('-') {
        Some(length) => (-1, length),
        None => (1, duration.trim()),
    };
    let length = HumanDuration::parse(length).map_err(|error| invalid_operation(format!("`add_time`: {error}")))?;
    let length = SignedDuration::try_from(length.0).ok().and_then(|length| length.checked_mul(sign));
    let moment = length.and_then(|length| moment.checked_add(length).ok());
    let moment =
        moment.ok_or_else(|| invalid_operation("the result of `add_time` is not in the calendar".to_owned()))?;
    Ok(format!("{moment:.3}"))
}

/// Returns the seconds since the Unix epoch.
pub(super) fn timestamp(value: Computed) -> Result<i64, Error> {
    Ok(parse("timestamp", &value)?.as_second())
}

/// Parses a time by RFC 3339, a date with or without a time, or the seconds since the Unix epoch.
fn parse(filter: &str, value: &Computed) -> Result<Timestamp, Error> {
    let moment = match (value.kind(), value.as_str()) {
        (ValueKind::Number, _) => i64::try_from(value.clone()).ok().and_then(|at| Timestamp::from_second(at).ok()),
        (_, Some(text)) if text.len() <= MAX_FORMAT_BYTES => {
            let text = text.trim();
            let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
            text.parse::<Timestamp>().ok().or_else(civil)
        }
        _ => None,
    };
    moment.ok_or_else(|| {
        let given = match value.as_str() {
            Some(text) => format!("`{}`", crate::model::text::truncate_chars(text, 40)),
            None => value.kind().to_string(),
        };
        invalid_operation(format!(
            "`{filter}` expects a date such as `2026-01-31`, a time such as `2026-01-31T12:00:00Z`, or the seconds since \
             1970, not {given}"
        ))
    })
}
