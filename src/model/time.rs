//! Timestamps and durations as plain data, and the format of durations in files. No clock.

use std::time::Duration;

use jiff::Unit;
use jiff::fmt::friendly::{Designator, Spacing, SpanParser, SpanPrinter};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the timestamp `delay` later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Formats the time by RFC 3339 with milliseconds, in UTC. A time beyond the calendar is its last moment.
    pub fn to_rfc3339(self) -> String {
        let moment = i64::try_from(self.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        format!("{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
    }

    /// Returns the time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A duration, written as `50ms`, `10s`, `2m`, or `1h30m` in files and in the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// The format of a duration, for errors and JSON Schemas.
pub const DURATION_FORMAT: &str = "a number with a unit, such as `50ms`, `10s`, `2m` or `1h30m`";
/// The regular expression of a duration, for JSON Schemas.
pub const DURATION_PATTERN: &str = r"^([0-9]+(\.[0-9]{1,9})?(us|ms|s|m|h|d)|[0-9]+ns)+$";

const SECONDS_PER_DAY: u64 = 86_400;
const PARSER: SpanParser = SpanParser::new();
const PRINTER: SpanPrinter =
    SpanPrinter::new().designator(Designator::HumanTime).spacing(Spacing::None).zero_unit(Unit::Millisecond);

impl HumanDuration {
    /// Parses the sum of components such as `50ms`, `1.5s`, `2m`, `1h30m`, or `1d`. A day has 24 hours.
    ///
    /// # Errors
    /// Returns a description of the expected format.
    pub fn parse(text: &str) -> Result<Self, String> {
        let total = parse_components(text.trim());
        total.map(Self).ok_or_else(|| format!("`{text}` is not a duration: expected {DURATION_FORMAT}"))
    }
}

fn parse_components(mut text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    loop {
        let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
        let (unit, factor) = match unit {
            // The library knows only days of a calendar, which may be shorter or longer.
            "d" => ("h", 24),
            "h" | "m" | "s" | "ms" | "us" | "ns" => (unit, 1),
            _ => return None,
        };
        let component = PARSER.parse_unsigned_duration(format!("{number}{unit}")).ok()?;
        total = total.checked_add(component.checked_mul(factor)?)?;
        if rest.is_empty() {
            return Some(total);
        }
        text = rest;
    }
}

impl std::fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days = self.0.as_secs() / SECONDS_PER_DAY;
        let rest = Duration::new(self.0.as_secs() % SECONDS_PER_DAY, self.0.subsec_nanos());
        if days > 0 {
            write!(f, "{days}d")?;
        }
        if days == 0 || !rest.is_zero() {
            f.write_str(&PRINTER.unsigned_duration_to_string(&rest))?;
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_and_displays_durations() {
        for (text, micros, shown) in [
            ("50ms", 50_000, "50ms"),
            ("1.5s", 1_500_000, "1s500ms"),
            ("0.5ms", 500, "500us"),
            ("2m", 120_000_000, "2m"),
            ("1h30m", 5_400_000_000, "1h30m"),
            (" 1.5h30m ", 7_200_000_000, "2h"),
            ("30m1h", 5_400_000_000, "1h30m"),
            ("1.5d", 129_600_000_000, "1d12h"),
            ("2d", 172_800_000_000, "2d"),
            ("90s90s", 180_000_000, "3m"),
            ("0s", 0, "0ms"),
        ] {
            let duration = HumanDuration::parse(text).expect(text);
            assert_eq!((duration.0, duration.to_string()), (Duration::from_micros(micros), shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn rejects_other_formats() {
        let texts = [
            "",
            "5",
            "ms",
            "5 parsecs",
            "1h30",
            "-1s",
            "+1s",
            "1..5s",
            "1.s",
            ".5s",
            "1,5s",
            "1 s",
            "1h 30m",
            "1h, 30m",
            "10:30:00",
            "PT1S",
            "1hour",
            "1M",
            "1y",
            "1s ago",
            "1.5ns",
            "0.1234567891s",
            "99999999999999999999d",
            "18446744073709551615h",
        ];
        for text in texts {
            let expected = format!("`{text}` is not a duration: expected {DURATION_FORMAT}");
            assert_eq!(HumanDuration::parse(text), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn displayed_durations_parse(seconds in any::<u64>(), size in 0..64_u32, nanos in 0..1_000_000_000_u32) {
            let duration = HumanDuration(Duration::new(seconds >> size, nanos));
            prop_assert_eq!(HumanDuration::parse(&duration.to_string()), Ok(duration));
        }

        #[test]
        fn durations_of_the_pattern_parse(text in r"([0-9]{1,9}(\.[0-9]{1,9})?(us|ms|s|m|h|d)|[0-9]{1,9}ns){1,4}") {
            prop_assert!(HumanDuration::parse(&text).is_ok());
        }
    }
}
