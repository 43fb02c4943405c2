//! How often something may happen, as people write it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// So many in a period, `"1000/s"`; all of them may come at once. Zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; 0 means no limit.
    pub count: u32,
    /// In how long a time; at least a millisecond.
    pub per: Duration,
}

/// Most that a rate may allow a second; more than a machine can receive.
const HIGHEST: u32 = 100_000_000;

/// Longest period.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected a rate such as \"1000/s\", \"500/1m\", \"infinity\" or a number per second")]
pub struct RateError;

impl Rate {
    /// No limit.
    pub const OFF: Self = Self::per_second(0);

    /// So many a second.
    pub const fn per_second(count: u32) -> Self {
        Self {
            count,
            per: Duration::from_secs(1),
        }
    }
}

/// EMQX's forms: `"1000/s"`, `"500/1m"`, `"100/10s"`, `"infinity"`, or a number a second.
impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let text = text.trim();
        if text == "infinity" {
            return Ok(Self::OFF);
        }
        let (count, per) = match text.split_once('/') {
            Some((count, per)) => (count.trim(), period(per.trim()).ok_or(RateError)?),
            None => (text, Duration::from_secs(1)),
        };
        let count = count
            .parse()
            .ok()
            .filter(|count| *count <= HIGHEST)
            .ok_or(RateError)?;
        Ok(Self { count, per })
    }
}

/// The form that is read back.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.per.as_millis();
        match self.count {
            0 => f.write_str("infinity"),
            count if millis == 1000 => write!(f, "{count}/s"),
            count if millis.is_multiple_of(1000) => write!(f, "{count}/{}s", millis / 1000),
            count => write!(f, "{count}/{millis}ms"),
        }
    }
}

/// `s`, `m`, `h` or `d`, perhaps with a number before it; `ms` with one.
fn period(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit)?;
    let number: u64 = match (number, unit) {
        ("", "ms") => return None,
        ("", _) => 1,
        _ => number.parse().ok()?,
    };
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let period = Duration::from_millis(number.checked_mul(millis)?);
    (!period.is_zero() && period <= LONGEST).then_some(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_emqx() {
        for (text, count, seconds) in [
            ("1000/s", 1000, 1),
            ("500/1m", 500, 60),
            ("100/10s", 100, 10),
            (" 7 / h ", 7, 3600),
            ("3/d", 3, 86_400),
            ("1000", 1000, 1),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count, rate.per.as_secs()), (count, seconds), "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for off in ["infinity", "0", "0/s", "0/1m"] {
            let rate: Rate = off.parse().unwrap();
            assert_eq!(rate.count, 0);
            assert_eq!(rate.to_string(), "infinity");
        }
        let short: Rate = "2/500ms".parse().unwrap();
        assert_eq!(short.to_string(), "2/500ms");
        for bad in [
            "",
            "/",
            "x",
            "5/",
            "/s",
            "-1",
            "5/ms",
            "5/0s",
            "5/2d",
            "5/1y",
            "1.5/s",
            "5/s/s",
            "1MB/s",
            "200000000/s",
        ] {
            assert_eq!(bad.parse::<Rate>(), Err(RateError), "{bad}");
        }
    }
}
