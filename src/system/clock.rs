//! Reads the wall clock for dates, IDs, and waits until a date. Not suitable for ordering events, since wall clocks can
//! be set back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Returns the time since 1970, or zero if the clock is set to an earlier time.
pub fn since_epoch() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the one place that cannot fail by it")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the local date, time, and time zone, such as `Monday, 2026-11-30, 20:28 in Europe/Lisbon (UTC+00:00)`.
pub fn local_time_text() -> String {
    local_text(&jiff::Zoned::now())
}

fn local_text(now: &jiff::Zoned) -> String {
    let zone = now.time_zone().iana_name().map(|name| format!(" in {name}")).unwrap_or_default();
    now.strftime(&format!("%A, %Y-%m-%d, %H:%M{} (UTC%:z)", zone.replace('%', "%%"))).to_string()
}

/// Returns a unique ID: a UUID of version 7, with the time and random bits.
pub fn new_id() -> Uuid {
    id_at(since_epoch())
}

fn id_at(since_epoch: Duration) -> Uuid {
    let time = uuid::Timestamp::from_unix(uuid::NoContext, since_epoch.as_secs(), since_epoch.subsec_nanos());
    Uuid::new_v7(time)
}

/// Parses a `Retry-After` header, as seconds or a date (RFC 9110, section 10.2.3). A date is relative to the `Date`
/// header of the same response, if present, since it uses the server's clock.
pub fn retry_after(value: &str, sent: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |text: &str| Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp());
    let until = date(value)?;
    let sent = sent.and_then(date).unwrap_or_else(jiff::Timestamp::now);
    Some(Duration::try_from(until.duration_since(sent)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_forms_of_retry_after() {
        // The local clock does not matter.
        let sent = Some("Fri, 20 Nov 2026 10:00:00 GMT");
        let seconds = |text| retry_after(text, sent).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds("4"), Some(4.0));
        assert_eq!(seconds(" 0.5 "), Some(0.5));
        assert_eq!(seconds("Fri, 20 Nov 2026 10:00:30 GMT"), Some(30.0));
        assert_eq!(seconds("Fri, 20 Nov 2026 09:00:00 GMT"), Some(0.0));
        for nonsense in ["soon", "", "-1", "NaN", "1e400"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
        for sent in [None, Some("yesterday")] {
            assert_eq!(retry_after("Fri, 20 Nov 1970 10:00:30 GMT", sent), Some(Duration::ZERO));
            assert_eq!(retry_after("7", sent), Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn local_time_names_the_day_and_the_zone() {
        let moment: jiff::Zoned = "2026-11-30T20:28:00+09:00[Asia/Tokyo]".parse().expect("a time");
        assert_eq!(local_text(&moment), "Monday, 2026-11-30, 20:28 in Asia/Tokyo (UTC+09:00)");
    }

    #[test]
    fn ids_differ_at_any_clock_time() {
        for clock in [Duration::ZERO, Duration::from_secs(4_102_444_800), Duration::MAX] {
            assert_ne!(id_at(clock), id_at(clock));
        }
    }
}
