//! Formats times and durations for display.

use jiff::tz::TimeZone;

use super::text::format_elapsed;
use crate::model::Timestamp;

/// The time and the time zone for displaying a run.
#[derive(Debug, Clone)]
pub struct DisplayContext {
    /// The current time.
    pub now: Timestamp,
    /// The time zone of displayed times.
    pub zone: TimeZone,
}

/// Formats a time to the second.
pub fn format_time(at: Timestamp, zone: &TimeZone) -> String {
    format_time_with(at, zone, "%Y-%m-%d %H:%M:%S")
}

/// Formats a time by a `strftime` format.
pub(crate) fn format_time_with(at: Timestamp, zone: &TimeZone, format: &str) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    match moment {
        Some(moment) => moment.to_zoned(zone.clone()).strftime(format).to_string(),
        // Out of the range of the calendar, due to a broken clock; shown unchanged.
        None => format!("{} ms", at.0),
    }
}

/// Formats the time since the last event of a run. The event is in the future if the clock was set back.
pub(crate) fn last_event(at: Timestamp, viewpoint: &DisplayContext) -> String {
    match at <= viewpoint.now {
        true => format!("last event {} ago", format_duration(at, viewpoint.now)),
        false => format!("last event at {}, later than now", format_time(at, &viewpoint.zone)),
    }
}

/// Formats the time between two timestamps.
pub(crate) fn format_duration(from: Timestamp, to: Timestamp) -> String {
    format_elapsed(to.since(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_out_of_range_times_as_numbers() {
        assert_eq!(format_time(Timestamp(u64::MAX), &TimeZone::UTC), "18446744073709551615 ms");
    }
}
