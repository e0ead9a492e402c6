//! What is looked for in a conversation: words, and a time.

use jiff::{
    ToSpan as _,
    civil::{Date, DateTime},
    tz::TimeZone,
};
use sealwire::Timestamp;

/// What `/search` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// In small letters; all of them have to be there.
    pub words: Vec<String>,
    /// Both ends included.
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Query {
    /// Reads `[WHEN] [WORDS]`, where WHEN is `today`, `yesterday`, `2026-11-28`, `2026-11`, or two of these as `A..B`, of
    /// which either may be missing.
    pub fn parse(text: &str, today: Date, zone: &TimeZone) -> Self {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let days = words.first().and_then(|first| span(first, today));
        if days.is_some() {
            words.remove(0);
        }
        let (from, until) = days.unwrap_or_default();
        let start = |day: Date| instant(day.at(0, 0, 0, 0), zone);
        let until = until.and_then(|day| day.checked_add(1.day()).ok());
        Self {
            words: words.iter().map(|word| word.to_lowercase()).collect(),
            from: Timestamp::from_unix_ms(from.map_or(0, start)),
            until: Timestamp::from_unix_ms(until.map_or(u64::MAX, |day| start(day) - 1)),
        }
    }

    pub fn fits(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.words.iter().all(|word| text.contains(word.as_str()))
    }
}

/// First and last day.
type Days = (Option<Date>, Option<Date>);

fn span(word: &str, today: Date) -> Option<Days> {
    let Some((from, until)) = word.split_once("..") else {
        let (first, last) = days(word, today)?;
        return Some((Some(first), Some(last)));
    };
    let end = |word: &str| match word {
        "" => Some(None),
        word => days(word, today).map(Some),
    };
    let (from, until) = (end(from)?, end(until)?);
    let has_end = from.is_some() || until.is_some();
    has_end.then(|| (from.map(|days| days.0), until.map(|days| days.1)))
}

/// The first and the last day of what a word names.
fn days(word: &str, today: Date) -> Option<(Date, Date)> {
    let one = |day| Some((day, day));
    match word {
        "today" => return one(today),
        "yesterday" => return one(today.yesterday().ok()?),
        _ => {}
    }
    let parts: Vec<&str> = word.split('-').collect();
    let is_date = parts[0].len() == 4 && parts[1..].iter().all(|part| part.len() == 2);
    match parts[..] {
        [_, _, _] if is_date => one(word.parse().ok()?),
        [year, month] if is_date => {
            let first = Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?;
            Some((first, first.last_of_month()))
        }
        _ => None,
    }
}

fn instant(at: DateTime, zone: &TimeZone) -> u64 {
    let at = zone.to_ambiguous_zoned(at).compatible();
    let ms = at.map(|at| at.timestamp().as_millisecond());
    ms.ok()
        .and_then(|ms| u64::try_from(ms).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<String>, String, String) {
        let today = jiff::civil::date(2026, 3, 1);
        let query = Query::parse(text, today, &TimeZone::UTC);
        (
            query.words,
            query.from.to_string(),
            query.until.to_string()[..10].to_owned(),
        )
    }

    #[test]
    fn words_and_times_are_told_apart() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let day = |from: &str| format!("{from}T00:00:00.000Z");
        let (found, from, _) = parse("Red 2026-11 fox");
        assert_eq!(found, words(&["red", "2026-11", "fox"]));
        assert_eq!(from, day("1970-01-01"));
        let cases = [
            ("2026-11-28", "2026-11-28", "2026-11-28"),
            ("2024-02 fox", "2024-02-01", "2024-02-29"),
            ("today", "2026-03-01", "2026-03-01"),
            ("yesterday", "2026-02-28", "2026-02-28"),
            ("2026-01-05..2026-02", "2026-01-05", "2026-02-28"),
            ("..yesterday", "1970-01-01", "2026-02-28"),
        ];
        for (text, from, until) in cases {
            let (_, first, last) = parse(text);
            assert_eq!((first, last.as_str()), (day(from), until), "{text}");
        }
        for text in ["2026-13", "2026-1", "..", "1-2", "2026"] {
            assert_eq!(parse(text).0, words(&[text]));
        }
    }

    #[test]
    fn all_words_have_to_be_there_in_any_case() {
        let query = Query::parse("FOX red", jiff::civil::date(2026, 3, 1), &TimeZone::UTC);
        assert!(query.fits("A red Fox") && !query.fits("a red hen"));
    }
}
