//! When a plan runs by itself: cron expressions in a time zone, and what becomes of missed occurrences. Has no clock.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::policy::is_default;
use crate::model::Timestamp;

/// When a plan runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The cron expression: five fields, or six with seconds.
    pub cron: String,
    /// The name of the time zone, such as `Europe/Berlin`; that of the system if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What becomes of missed occurrences.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: MissedOccurrences,
}

/// What becomes of occurrences that came while no scheduler ran, or while the previous run was in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissedOccurrences {
    /// They are ignored.
    Skip,
    /// The plan runs once for all of them.
    // Journals omit the default, so it must never change.
    #[default]
    Once,
    /// The plan runs once for each, one after another.
    All,
}

/// An error in a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The expression is invalid.
    #[error("invalid cron expression `{cron}`: {reason}")]
    Cron {
        /// The expression.
        cron: String,
        /// The reason.
        reason: String,
    },
    /// The expression matches no time.
    #[error("the cron expression `{0}` matches no time")]
    Never(String),
    /// The time zone is unknown.
    #[error("unknown time zone `{0}`")]
    TimeZone(String),
}

/// The occurrences of a schedule.
///
/// While clocks go forward, the occurrence at a time that does not exist is at the next time that does. While clocks go
/// back, an occurrence at a time that exists twice is at its first one; only occurrences of every hour or minute are at
/// both.
#[derive(Debug, Clone)]
pub struct Occurrences {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Returns the occurrences, with the time zones that this system knows.
    ///
    /// # Errors
    /// Returns an error if the expression or the time zone is invalid, or if there are none.
    pub fn occurrences(&self) -> Result<Occurrences, ScheduleError> {
        let zone = match &self.timezone {
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::TimeZone(name.clone()))?,
            None => TimeZone::system(),
        };
        Occurrences::new(&self.cron, zone)
    }
}

impl fmt::Display for Schedule {
    /// Writes what determines the occurrences, such as `0 7 * * 1-5 Europe/Berlin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cron)?;
        self.timezone.iter().try_for_each(|zone| write!(f, " {zone}"))
    }
}

impl Occurrences {
    /// Returns the occurrences of a cron expression in a time zone.
    ///
    /// # Errors
    /// Returns an error if the expression is invalid or matches no time.
    pub fn new(cron: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|error| {
            let reason = error.to_string();
            ScheduleError::Cron { cron: cron.to_owned(), reason: reason.trim_end_matches('.').to_owned() }
        })?;
        let occurrences = Self { cron: parsed, zone };
        match occurrences.next_after(Timestamp(0)) {
            Some(_) => Ok(occurrences),
            None => Err(ScheduleError::Never(cron.to_owned())),
        }
    }

    /// Returns the first occurrence later than `time`; `None` if there is none within the calendar.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let moment = jiff::Timestamp::from_millisecond(i64::try_from(time.0).ok()?).ok()?;
        let next = self.cron.find_next_occurrence(&moment.to_zoned(self.zone.clone()), false).ok()?;
        let next = Timestamp(u64::try_from(next.timestamp().as_millisecond()).ok()?);
        // Never the same one again, whatever the library makes of fractions of a second.
        (next > time).then_some(next)
    }

    /// Returns the occurrence to run next, of those after `last` until `now`.
    pub fn due(&self, last: Timestamp, now: Timestamp, missed: MissedOccurrences) -> DueOccurrence {
        let Some(first) = self.next_after(last) else { return DueOccurrence::Never };
        if first > now {
            return DueOccurrence::At(first);
        }
        let latest = || self.latest_until(first, now);
        match missed {
            MissedOccurrences::All => DueOccurrence::Run(first),
            MissedOccurrences::Once => DueOccurrence::Run(latest()),
            MissedOccurrences::Skip => match latest() {
                latest if now.since(latest) <= MAX_LATENESS => DueOccurrence::Run(latest),
                latest => DueOccurrence::Skip(latest),
            },
        }
    }

    /// Returns the latest occurrence from the occurrence `first` until `now`.
    fn latest_until(&self, first: Timestamp, now: Timestamp) -> Timestamp {
        let after_now = jiff::Timestamp::from_millisecond(i64::try_from(now.0).unwrap_or(i64::MAX));
        let moment = after_now.unwrap_or(jiff::Timestamp::MAX).to_zoned(self.zone.clone());
        let latest = self.cron.find_previous_occurrence(&moment, true).ok();
        let latest = latest.and_then(|latest| u64::try_from(latest.timestamp().as_millisecond()).ok());
        latest.map(Timestamp).filter(|latest| *latest <= now).map_or(first, |latest| latest.max(first))
    }
}

/// Limits how late an occurrence may start without being missed.
const MAX_LATENESS: std::time::Duration = std::time::Duration::from_secs(60);

/// What a scheduler does next for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueOccurrence {
    /// No further occurrence exists.
    Never,
    /// The next occurrence is at this time.
    At(Timestamp),
    /// The plan runs for this occurrence. Earlier ones are missed.
    Run(Timestamp),
    /// All occurrences up to this one are missed.
    Skip(Timestamp),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules of Central Europe, so that no test depends on the database of the system.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn occurrences(cron: &str) -> Occurrences {
        Occurrences::new(cron, TimeZone::posix(BERLIN).expect("a time zone")).expect("a schedule")
    }

    fn at(time: &str) -> Timestamp {
        let moment: jiff::Timestamp = time.parse().expect("a time");
        Timestamp(u64::try_from(moment.as_millisecond()).expect("after 1970"))
    }

    /// Returns the next `count` occurrences after `time`, as local times.
    fn next(cron: &str, time: &str, count: usize) -> Vec<String> {
        let occurrences = occurrences(cron);
        let mut time = at(time);
        let zone = TimeZone::posix(BERLIN).expect("a time zone");
        let local = |time: Timestamp| {
            let moment = jiff::Timestamp::from_millisecond(i64::try_from(time.0).expect("small")).expect("a time");
            moment.to_zoned(zone.clone()).strftime("%m-%d %H:%M:%S%:z").to_string()
        };
        (0..count)
            .map(|_| {
                time = occurrences.next_after(time).expect("another one");
                local(time)
            })
            .collect()
    }

    #[test]
    fn occurrences_are_in_local_time() {
        let expected = ["03-27 07:00:00+01:00", "03-30 07:00:00+02:00", "03-31 07:00:00+02:00"];
        assert_eq!(next("0 7 * * 1-5", "2026-03-27T00:00:00Z", 3), expected);
        assert_eq!(next("0 7 * * MON-FRI", "2026-03-27T00:00:00Z", 3), expected);
        assert_eq!(next("30 0 12 * * *", "2026-03-27T11:00:29Z", 1), ["03-27 12:00:30+01:00"]);
    }

    #[test]
    fn time_that_does_not_exist_is_the_next_one() {
        let expected = ["03-28 02:30:00+01:00", "03-29 03:00:00+02:00", "03-30 02:30:00+02:00"];
        assert_eq!(next("30 2 * * *", "2026-03-28T00:00:00Z", 3), expected);
        let expected = ["03-29 01:00:00+01:00", "03-29 03:00:00+02:00", "03-29 04:00:00+02:00"];
        assert_eq!(next("0 * * * *", "2026-03-28T23:30:00Z", 3), expected);
    }

    #[test]
    fn time_that_exists_twice_occurs_once_unless_it_is_every_hour() {
        let expected = ["10-24 02:30:00+02:00", "10-25 02:30:00+02:00", "10-26 02:30:00+01:00"];
        assert_eq!(next("30 2 * * *", "2026-10-23T22:00:00Z", 3)[..3], expected);
        let expected = ["10-25 01:30:00+02:00", "10-25 02:30:00+02:00", "10-25 02:30:00+01:00", "10-25 03:30:00+01:00"];
        assert_eq!(next("30 * * * *", "2026-10-24T23:00:00Z", 4), expected);
    }

    #[test]
    fn missed_occurrences_are_handled_as_declared() {
        let daily = occurrences("0 7 * * *");
        let (last, now) = (at("2026-01-01T06:00:00Z"), at("2026-01-04T12:00:00Z"));
        let due = |missed| daily.due(last, now, missed);
        assert_eq!(due(MissedOccurrences::All), DueOccurrence::Run(at("2026-01-02T06:00:00Z")));
        assert_eq!(due(MissedOccurrences::Once), DueOccurrence::Run(at("2026-01-04T06:00:00Z")));
        assert_eq!(due(MissedOccurrences::Skip), DueOccurrence::Skip(at("2026-01-04T06:00:00Z")));
        let on_time = daily.due(last, at("2026-01-04T06:00:59Z"), MissedOccurrences::Skip);
        assert_eq!(on_time, DueOccurrence::Run(at("2026-01-04T06:00:00Z")));
        let now = at("2026-01-04T06:00:00Z");
        assert_eq!(daily.due(now, now, MissedOccurrences::All), DueOccurrence::At(at("2026-01-05T06:00:00Z")));
    }

    #[test]
    fn invalid_expressions_are_errors() {
        for cron in ["", "0 7 * *", "0 25 * * *", "0 7 * * 1-5 2026 1", "x 7 * * *", "0 7 * * FUNDAY"] {
            let error = Occurrences::new(cron, TimeZone::UTC).expect_err(cron);
            assert!(matches!(error, ScheduleError::Cron { .. }), "{cron}: {error}");
        }
        let error = Occurrences::new("0 0 30 2 *", TimeZone::UTC).expect_err("no such day");
        assert_eq!(error, ScheduleError::Never("0 0 30 2 *".to_owned()));
        let unknown = Schedule {
            cron: "@daily".into(),
            timezone: Some("Europe/Nowhere".into()),
            missed: MissedOccurrences::Skip,
        };
        assert_eq!(unknown.occurrences().err(), Some(ScheduleError::TimeZone("Europe/Nowhere".into())));
    }

    proptest::proptest! {
        #[test]
        fn occurrences_increase(minute in 0_u32..60, hour in 0_u32..24, start in 0_u64..4_000_000_000_000) {
            let daily = occurrences(&format!("{minute} {hour} * * *"));
            let first = daily.next_after(Timestamp(start)).expect("an occurrence");
            let second = daily.next_after(first).expect("an occurrence");
            proptest::prop_assert!(first.0 > start && second > first);
            let gap = second.since(first).as_secs();
            proptest::prop_assert!((22 * 3_600..=26 * 3_600).contains(&gap), "{gap} seconds");
            proptest::prop_assert_eq!(daily.latest_until(first, second), second);
        }
    }
}
