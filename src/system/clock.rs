//! Reads the wall clock, and makes of it what the monotonic clock cannot give: dates, ids, and waits until a date.
//! Never orders anything: wall clocks are set back and forth.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Returns the time since 1970, which is zero where the clock stands before that.
pub fn since_epoch() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the one place that cannot fail by it")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns an id that no other process makes: the time and random bits (UUID version 7).
pub fn new_id() -> Uuid {
    id_at(since_epoch())
}

fn id_at(since_epoch: Duration) -> Uuid {
    let time = uuid::Timestamp::from_unix(uuid::NoContext, since_epoch.as_secs(), since_epoch.subsec_nanos());
    Uuid::new_v7(time)
}

/// Reads a `Retry-After` header: seconds, or a date (RFC 9110, 10.2.3). A date is by the server's clock, so it counts from
/// the `Date` header of the same response where there is one.
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
    fn both_forms_of_retry_after_are_read_and_a_date_counts_from_the_servers_own() {
        // Either clock may stand anywhere.
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
    fn ids_differ_wherever_the_clock_stands() {
        for clock in [Duration::ZERO, Duration::from_secs(4_102_444_800), Duration::MAX] {
            assert_ne!(id_at(clock), id_at(clock));
        }
    }
}
