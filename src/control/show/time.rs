//! Durations and times for people.

/// How long ago, as Docker says it: "22 seconds", "About a minute", "3 weeks".
///
/// Source: `HumanDuration` in docker/go-units.
pub fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        _ => match hours {
            1 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1440 => format!("{} weeks", hours / 24 / 7),
            1440..17520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", seconds / 3600 / 24 / 365),
        },
    }
}

/// RFC 3339 in UTC with what there is of nanoseconds.
pub(super) fn rfc3339(since_1970_ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(since_1970_ns.into());
    time.map_or_else(|_| String::new(), |time| time.to_string())
}

/// The inverse: nanoseconds since 1970.
pub(super) fn since_1970(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// The moment that a filter's `until` means, in nanoseconds since 1970: an age (`24h`, `1h30m`), seconds since 1970,
/// or a date with or without a time, in UTC where it says no more.
pub fn moment(text: &str, now_ns: u64) -> Option<u64> {
    if let Ok(age) = text.parse::<jiff::SignedDuration>() {
        return now_ns.checked_sub(u64::try_from(age.as_nanos()).ok()?);
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000_000_000);
    }
    since_1970(text).or_else(|| {
        let date: jiff::civil::DateTime = text.parse().ok()?;
        let time = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        u64::try_from(time.as_nanosecond()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_docker_says_them() {
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, text) in table {
            assert_eq!(duration(seconds * 1_000_000_000), text);
        }
    }

    #[test]
    fn ages_and_dates_are_moments() {
        let table = [
            ("10s", Some(90)),
            ("1m30s", Some(10)),
            ("24h", None),
            ("7", Some(7)),
            ("1970-01-01T00:01:00Z", Some(60)),
            ("1970-01-01T01:01:00+01:00", Some(60)),
            ("1970-01-01T00:01:00", Some(60)),
            ("1970-01-02", Some(86_400)),
            ("xyz", None),
            ("", None),
        ];
        for (text, seconds) in table {
            let expected = seconds.map(|seconds: u64| seconds * 1_000_000_000);
            assert_eq!(moment(text, 100_000_000_000), expected, "{text}");
        }
        assert_eq!(since_1970(&rfc3339(1_514_566_947_250_921_600)), Some(1_514_566_947_250_921_600));
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(rfc3339(1_514_566_947_250_921_600), "2017-12-29T17:02:27.2509216Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }
}
