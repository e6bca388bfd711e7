//! Times and durations as people write them.

use crate::codes;
use crate::text::TextFault;
use jiff::civil::date;
use jiff::{SignedDuration, Span, SpanRelativeTo};
pub(crate) use kvgossip_agent::duration_text as show_duration;
use kvgossip_grants::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Maximum duration, in seconds: a hundred years of 366 days.
const MAX_DURATION_S: u64 = 100 * 366 * 86_400;

/// Returns the system time; 1970-01-01 if the system clock is set to an earlier time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO.saturating_add(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A point in time, absolute or relative to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// An absolute time, written in RFC 3339.
    At(Timestamp),
    /// A duration from now, forwards or backwards as the option implies.
    Away(Duration),
}

impl When {
    /// Returns the time, with durations counted forwards.
    pub(crate) fn after(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Away(by) => now.saturating_add(micros(by)),
        }
    }

    /// Returns the time, with durations counted backwards.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Away(by) => now.saturating_sub(micros(by)),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Parses RFC 3339, `now`, or a duration such as `30d` or `12h`.
pub(crate) fn when(text: &str) -> Result<When, TextFault> {
    if text == "now" {
        return Ok(When::Away(Duration::ZERO));
    }
    if let Ok(by) = duration(text) {
        return Ok(When::Away(by));
    }
    let time =
        text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_microsecond()).ok());
    let time = time.and_then(|micros| Timestamp::from_micros(micros).ok());
    time.map(When::At).ok_or_else(|| {
        let reason =
            "write a time such as 2030-01-31T12:00:00Z, from 1970 to 9999-12-30, or a duration such as 30d or 12h";
        TextFault::whole(codes::TIME_MALFORMED, "a time", reason, text)
    })
}

/// Parses a duration such as `30d`, `12h` or `90s`; a day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, TextFault> {
    let fault = || {
        let reason =
            "write a number and a unit, such as 30d, 12h, 5m or 90s; 100 years at most, no months or years";
        TextFault::whole(codes::TIME_MALFORMED, "a duration", reason, text)
    };
    // ISO 8601 durations and signs are rejected: one spelling is enough.
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.ends_with("ago") {
        return Err(fault());
    }
    let span: Span = jiff::fmt::friendly::SpanParser::new().parse_span(text).map_err(|_| fault())?;
    let signed: SignedDuration =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| fault())?;
    let duration = Duration::try_from(signed).map_err(|_| fault())?;
    if duration.as_secs() <= MAX_DURATION_S { Ok(duration) } else { Err(fault()) }
}

/// Formats a time as RFC 3339 in UTC, to the second.
pub(crate) fn show(time_us: u64) -> String {
    // The range of jiff's timestamps ends a day before the end of the year 9999; that of its civil times does not.
    let seconds = i64::try_from(time_us / 1_000_000).map(SignedDuration::from_secs).ok();
    let time = seconds.and_then(|since| date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since).ok());
    time.map_or_else(|| format!("{time_us} us"), |time| format!("{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        match when(text) {
            Ok(When::At(time)) => time.as_micros(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn times_and_durations_are_read() {
        assert_eq!(at("1970-01-01T00:00:01Z"), 1_000_000);
        assert_eq!(at("2030-01-31T12:00:00.000001Z"), 1_896_091_200_000_001);
        assert_eq!(at("2030-01-31T12:00:00+02:00"), at("2030-01-31T10:00:00Z"));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("1w 12h"), Ok(Duration::from_secs(7 * 86_400 + 43_200)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(when("12h"), Ok(When::Away(Duration::from_secs(43_200))));
        assert_eq!(when("now"), Ok(When::Away(Duration::ZERO)));
    }

    #[test]
    fn durations_count_in_the_direction_of_the_option() {
        let now = Timestamp::from_micros(10_000_000).unwrap();
        assert_eq!(when("2s").unwrap().after(now).as_micros(), 12_000_000);
        assert_eq!(when("2s").unwrap().before(now).as_micros(), 8_000_000);
        assert_eq!(when("36500d").unwrap().before(now), Timestamp::ZERO);
    }

    #[test]
    fn what_is_no_time() {
        for text in
            ["", "yesterday", "30", "-30d", "1969-12-31T23:59:59Z", "2030-01-31", "30d ago", "1y", "9999999d"]
        {
            assert!(when(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(show(1_896_091_200_999_999), "2030-01-31T12:00:00Z");
        assert_eq!(show(Timestamp::MAX.as_micros()), "9999-12-31T23:59:59Z");
        assert_eq!(show(u64::MAX), "18446744073709551615 us");
        assert_eq!(show_duration(1_234), "1.2 ms");
        assert_eq!(show_duration(61_500_000), "61.5 s");
    }
}
