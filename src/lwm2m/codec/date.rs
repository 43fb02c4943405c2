//! Dates as text (RFC 3339, and ISO 8601 as devices write it).

/// Seconds since the Unix epoch of a date with a time: `2023-11-14T22:13:20+00:00`. A blank may
/// stand for the `T`; seconds, their fraction, which is left out, and the zone, else UTC, are
/// optional. `None` for anything else.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let mut rest = Rest(text.trim_end_matches('\0').trim().as_bytes());
    let year = rest.number(4)?;
    rest.one_of(b"-")?;
    let month = rest.number(2).filter(|month| (1..=12).contains(month))?;
    rest.one_of(b"-")?;
    let day = rest.number(2)?;
    rest.one_of(b"Tt ")?;
    let hour = rest.number(2).filter(|hour| *hour < 24)?;
    rest.one_of(b":")?;
    let minute = rest.number(2).filter(|minute| *minute < 60)?;
    let second = match rest.one_of(b":") {
        // 60 is a leap second.
        Some(_) => rest.number(2).filter(|second| *second <= 60)?,
        None => 0,
    };
    if rest.one_of(b".,").is_some() {
        rest.number(1)?;
        while rest.number(1).is_some() {}
    }
    let offset = rest.offset()?;
    if day == 0 || day > days_in(year, month) {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    rest.0.is_empty().then_some(seconds - offset)
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// A number of so many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        if !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(
            number
                .iter()
                .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')),
        )
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !bytes.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    /// Seconds that the zone is ahead of UTC.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-") {
            None | Some(b'Z' | b'z') => return Some(0),
            Some(b'-') => -1,
            Some(_) => 1,
        };
        let hours = self.number(2)?;
        let _ = self.one_of(b":");
        let minutes = self.number(2).unwrap_or(0);
        Some(sign * (hours * 60 + minutes) * 60)
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01, in the Gregorian calendar. The year begins in March, so that the day a
/// leap year has more is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_dates_in_every_form() {
        for text in [
            "2023-11-14T22:13:20+00:00",
            "2023-11-14T22:13:20Z",
            "2023-11-14t22:13:20z",
            "2023-11-14 22:13:20",
            "2023-11-14T22:13:20.999999Z",
            "2023-11-14T23:13:20+01:00",
            "2023-11-14T23:13:20+0100",
            "2023-11-14T23:13:20+01",
            "2023-11-14T16:43:20-05:30",
            "2023-11-14T22:13:20Z\0",
        ] {
            assert_eq!(parse_date(text), Some(1_700_000_000), "{text}");
        }
        for (text, seconds) in [
            ("1970-01-01T00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
        ] {
            assert_eq!(parse_date(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "x",
            "2023",
            "2023-11-14",
            "2023-13-14T22:13:20Z",
            "2023-11-31T22:13:20Z",
            "2023-02-29T22:13:20Z",
            "2023-11-00T22:13:20Z",
            "2023-11-14T24:13:20Z",
            "2023-11-14T22:13:20Zx",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+1",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
