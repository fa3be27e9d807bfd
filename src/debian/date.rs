//! Moments in the spellings that Debian uses. All are UTC, in seconds since 1970.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment between the years 1970 and 9999, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

impl Moment {
    /// The moment `seconds` after the start of 1970. Later ones than the end of the year 9999
    /// become that.
    pub fn from_unix(seconds: u64) -> Self {
        Self(seconds.min(LAST))
    }

    /// Seconds since the start of 1970.
    pub fn unix(self) -> u64 {
        self.0
    }

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        Self::from_unix(self.0.saturating_add(duration.as_secs()))
    }

    /// Reads `Sat, 12 Sep 2026 07:55:41 UTC`, the format of dates in a Release file (the week
    /// day is not checked). `None` for anything else, and for zones other than UTC, which the
    /// [repository format](https://wiki.debian.org/DebianRepository/Format) requires.
    pub fn parse_release(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(", ")?;
        let mut words = rest.split_ascii_whitespace();
        let day = number(words.next()?, 1..=2)?;
        let name = words.next()?;
        let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
        let year = number(words.next()?, 4..=4)?;
        let mut clock = words.next()?.split(':');
        let mut part = || number(clock.next()?, 2..=2);
        let (hour, minute, second) = (part()?, part()?, part()?);
        let zone = words.next()?;
        if clock.next().is_some() || words.next().is_some() {
            return None;
        }
        matches!(zone, "UTC" | "GMT" | "Z" | "+0000").then_some(())?;
        Self::from_civil([year, month, day, hour, minute, second])
    }

    /// Reads `2026-09-12T07:55:41Z`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('Z')?;
        let (date, clock) = digits.split_once('T')?;
        let mut date = date.split('-');
        let mut clock = clock.split(':');
        let parts = [
            number(date.next()?, 4..=4)?,
            number(date.next()?, 2..=2)?,
            number(date.next()?, 2..=2)?,
            number(clock.next()?, 2..=2)?,
            number(clock.next()?, 2..=2)?,
            number(clock.next()?, 2..=2)?,
        ];
        if date.next().is_some() || clock.next().is_some() {
            return None;
        }
        Self::from_civil(parts)
    }

    /// Reads `20261123T090000Z`, the time stamps of snapshot archives.
    pub fn parse_snapshot(text: &str) -> Option<Self> {
        if text.len() != 16 || !text.is_ascii() {
            return None;
        }
        let (date, clock) = (&text[..8], text.strip_suffix('Z')?[8..].strip_prefix('T')?);
        Self::from_civil([
            number(&date[..4], 4..=4)?,
            number(&date[4..6], 2..=2)?,
            number(&date[6..], 2..=2)?,
            number(&clock[..2], 2..=2)?,
            number(&clock[2..4], 2..=2)?,
            number(&clock[4..], 2..=2)?,
        ])
    }

    /// Writes `20261123T090000Z`, the time stamps of snapshot archives.
    pub fn snapshot(self) -> String {
        let [year, month, day, hour, minute, second] = self.civil();
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    /// `None` unless the parts are a moment of the calendar.
    fn from_civil([year, month, day, hour, minute, second]: [u64; 6]) -> Option<Self> {
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return None;
        }
        if !(1..=days_in_month(year, month)).contains(&day) {
            return None;
        }
        // A leap second, which RFC 5322 allows, counts as the second before it.
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let days = days_before_year(year) - days_before_year(1970)
            + (1..month).map(|month| days_in_month(year, month)).sum::<u64>()
            + (day - 1);
        Some(Self(days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second.min(59)))
    }

    /// Year, month, day, hour, minute, second.
    fn civil(self) -> [u64; 6] {
        let (mut days, seconds) = (self.0 / SECONDS_PER_DAY, self.0 % SECONDS_PER_DAY);
        let origin = days_before_year(1970);
        let mut year = 1970 + days / 366;
        while days_before_year(year + 1) - origin <= days {
            year += 1;
        }
        days -= days_before_year(year) - origin;
        let mut month = 1;
        while days >= days_in_month(year, month) {
            days -= days_in_month(year, month);
            month += 1;
        }
        [year, month, days + 1, seconds / 3600, seconds / 60 % 60, seconds % 60]
    }
}

impl From<SystemTime> for Moment {
    /// Times before 1970 become the start of 1970.
    fn from(time: SystemTime) -> Self {
        Self::from_unix(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }
}

impl fmt::Display for Moment {
    /// RFC 3339: `2026-09-12T07:55:41Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second] = self.civil();
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "A moment in UTC, to the second: 2026-09-12T07:55:41Z.",
        })
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a time like 2026-09-12T07:55:41Z"))
        })
    }
}

/// Days between the start of year 1 and the start of `year` in the Gregorian calendar.
fn days_before_year(year: u64) -> u64 {
    let years = year - 1;
    years * 365 + years / 4 - years / 100 + years / 400
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

/// Decimal digits and nothing else.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    (digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_read_and_written() {
        for (release, rfc3339, unix) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", "1970-01-01T00:00:00Z", 0),
            ("Sat, 12 Sep 2026 07:55:41 UTC", "2026-09-12T07:55:41Z", 1_789_199_741),
            ("Tue, 29 Feb 2000 23:59:59 GMT", "2000-02-29T23:59:59Z", 951_868_799),
            ("Mon, 1 Mar 2100 00:00:00 +0000", "2100-03-01T00:00:00Z", 4_107_542_400),
            ("Fri, 31 Dec 9999 23:59:59 UTC", "9999-12-31T23:59:59Z", LAST),
        ] {
            let moment = Moment::parse_release(release).unwrap();
            assert_eq!(moment.unix(), unix, "{release}");
            assert_eq!(moment.to_string(), rfc3339);
            assert_eq!(Moment::parse_rfc3339(rfc3339), Some(moment));
            assert_eq!(Moment::parse_snapshot(&moment.snapshot()), Some(moment));
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "Sat, 12 Sep 2026 07:55:41",
            "Sat, 12 Sep 2026 07:55:41 CEST",
            "Sat, 12 Sep 2026 07:55:41 UTC more",
            "Sat, 31 Sep 2026 07:55:41 UTC",
            "Sat, 29 Feb 2100 07:55:41 UTC",
            "Sat, +2 Sep 2026 07:55:41 UTC",
            "Sat, 12 Sep 2026 24:00:00 UTC",
            "Sat, 12 Sep 1969 07:55:41 UTC",
            "Sat, 12 Sep 2026 07:55:41:00 UTC",
        ] {
            assert_eq!(Moment::parse_release(text), None, "{text}");
        }
        for text in ["2026-9-12T07:55:41Z", "2026-09-12 07:55:41Z", "2026-13-12T07:55:41Z"] {
            assert_eq!(Moment::parse_rfc3339(text), None, "{text}");
        }
        for text in ["20261123T090000", "20261123 090000Z", "2026112ÄT09000Z"] {
            assert_eq!(Moment::parse_snapshot(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_second_survives_writing_and_reading(seconds in 0..=LAST) {
            let moment = Moment::from_unix(seconds);
            proptest::prop_assert_eq!(Moment::parse_rfc3339(&moment.to_string()), Some(moment));
            proptest::prop_assert_eq!(Moment::parse_snapshot(&moment.snapshot()), Some(moment));
        }
    }
}
