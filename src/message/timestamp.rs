//! A moment, as messages carry it. Nothing here reads a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A moment in milliseconds since 1970-01-01T00:00:00Z, at most the end of the year 9999. It is the sender's clock:
/// a claim, good for showing and not for deciding.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(#[serde(deserialize_with = "up_to_max")] u64);

impl Timestamp {
    /// The last one: 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The moment `ms` milliseconds after the start of 1970; everything later than [`MAX`](Self::MAX) becomes `MAX`.
    #[must_use]
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self(if ms < Self::MAX.0 { ms } else { Self::MAX.0 })
    }

    /// Milliseconds since the start of 1970.
    #[must_use]
    pub const fn as_unix_ms(self) -> u64 {
        self.0
    }

    /// Year, month (1 to 12) and day (1 to 31) of the proleptic Gregorian calendar, UTC: `civil_from_days` of
    /// <https://howardhinnant.github.io/date_algorithms.html>, for days from 1970 on. Its years begin in March, so that
    /// the leap day is the last of its year, and its eras have 400 years.
    fn civil(self) -> (u64, u64, u64) {
        const DAYS_BEFORE_1970: u64 = 719_468; // since 0000-03-01
        const DAYS_OF_ERA: u64 = 146_097;
        let days = self.0 / 86_400_000 + DAYS_BEFORE_1970;
        let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = 400 * era + year_of_era + u64::from(month <= 2);
        (year, month, day)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, for example `2023-11-14T22:13:20.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        let (seconds, ms) = (self.0 / 1_000, self.0 % 1_000);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

/// Keeps the bound of [`Timestamp::from_unix_ms`] for stored values.
fn up_to_max<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    u64::deserialize(deserializer).map(|ms| Timestamp::from_unix_ms(ms).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_rfc_3339() {
        for (ms, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_unix_ms(ms).to_string(), shown);
        }
    }

    #[test]
    fn every_day_until_2401_follows_the_one_before() {
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..157_800 {
            assert_eq!(
                Timestamp::from_unix_ms(days * 86_400_000).civil(),
                (year, month, day),
                "day {days}"
            );
            let last = match month {
                2 => 28 + u64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert!(year > 2400);
    }

    #[test]
    fn stored_moments_keep_the_bound() {
        assert_eq!(
            serde_json::to_string(&Timestamp::from_unix_ms(7)).unwrap(),
            "7"
        );
        assert_eq!(
            serde_json::from_str::<Timestamp>("18446744073709551615").unwrap(),
            Timestamp::MAX
        );
    }
}
