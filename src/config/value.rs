//! The value forms of a configuration: durations, byte sizes, addresses and the like.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::choices::{AutoObserve, FormatDefault};
use crate::admission::{AccessRuleError, AccessRules, MAX_RULES, Rate};
use crate::lwm2m::Path;
use crate::lwm2m::codec::ContentFormat;
use crate::lwm2m::codec::names::NAMES;

/// Why a value is refused, in words that follow the name of its key.
pub(crate) type Parsed<T> = Result<T, String>;

/// Puts what `read` makes of a value where it belongs.
pub(crate) fn set<T>(
    place: &mut T,
    value: &Value,
    read: impl FnOnce(&Value) -> Parsed<T>,
) -> Parsed<()> {
    *place = read(value)?;
    Ok(())
}

/// What `show` makes of a field.
pub(crate) fn show_by<T>(field: &T, show: impl FnOnce(&T) -> String) -> String {
    show(field)
}

/// The form of a text.
pub(crate) fn quoted<T: ToString + ?Sized>(it: &T) -> String {
    format!("{:?}", it.to_string())
}

/// A value as it is named in a message, short enough for one line.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "nothing".to_owned(),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(60) {
                Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
                None => text,
            }
        }
    }
}

pub(crate) fn text(value: &Value) -> Parsed<String> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Err("must not hold a NUL character".to_owned())
        }
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("expected a string, found {}", shown(other))),
    }
}

pub(crate) fn filled_text(value: &Value) -> Parsed<String> {
    let text = text(value)?;
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(text)
}

/// Origins of web pages (RFC 6454 §6.2): scheme, host and perhaps a port.
pub(crate) fn origins(value: &Value) -> Parsed<Vec<String>> {
    let wrong = || {
        format!(
            "expected a list of origins such as \"https://console.example\", found {}",
            shown(value)
        )
    };
    let list = value.as_array().ok_or_else(wrong)?;
    let origin = |entry: &Value| {
        let text = entry.as_str()?;
        let (scheme, authority) = text.split_once("://")?;
        let is_fit = !scheme.is_empty()
            && !authority.is_empty()
            && !authority.contains(['/', '*', ' ', '?', '#']);
        is_fit.then(|| text.to_owned())
    };
    let origins: Option<Vec<String>> = list.iter().map(origin).collect();
    origins.ok_or_else(wrong)
}

/// `true`, `false`, and `"on"`, `"off"` as EMQX writes them.
pub(crate) fn boolean(value: &Value) -> Parsed<bool> {
    match value {
        Value::Bool(on) => Ok(*on),
        Value::String(text) if matches!(text.as_str(), "true" | "on") => Ok(true),
        Value::String(text) if matches!(text.as_str(), "false" | "off") => Ok(false),
        other => Err(format!("expected true or false, found {}", shown(other))),
    }
}

fn in_range<T: PartialOrd + Display + Copy>(n: T, lowest: T, highest: T) -> Parsed<T> {
    if n < lowest || n > highest {
        return Err(format!("{n} is out of range {lowest} to {highest}"));
    }
    Ok(n)
}

/// A whole number, also written as a string.
pub(crate) fn integer<T>(value: &Value, lowest: u64, highest: u64) -> Parsed<T>
where
    T: TryFrom<u64>,
{
    let number = match value {
        Value::Number(number) => number.as_i128().or_else(|| {
            number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
                .map(|n| n as i128)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let Some(number) = number else {
        return Err(format!("expected a whole number, found {}", shown(value)));
    };
    let number = in_range(number, i128::from(lowest), i128::from(highest))?;
    u64::try_from(number)
        .ok()
        .and_then(|n| T::try_from(n).ok())
        .ok_or_else(|| format!("{number} is too large"))
}

/// A number with or without a fraction.
pub(crate) fn number(value: &Value, lowest: f64, highest: f64) -> Parsed<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number
        .filter(|n| n.is_finite())
        .ok_or_else(|| format!("expected a number, found {}", shown(value)))?;
    in_range(number, lowest, highest)
}

/// `max_connections`: a whole number, or `"infinity"` for no limit.
pub(crate) fn count_or_infinity(value: &Value) -> Parsed<usize> {
    match value {
        Value::String(text) if text == "infinity" => Ok(usize::MAX),
        other => integer(other, 1, u64::from(u32::MAX))
            .map_err(|reason| format!("{reason} (or \"infinity\")")),
    }
}

const DURATION_FORMS: &str =
    "expected a duration such as \"22s\", \"5m\", \"1h30m\", \"500ms\" or a number of seconds";

/// `"22s"`, `"5m"`, `"1h30m"`, `"500ms"`, or a number of seconds.
pub(crate) fn duration(value: &Value, lowest: Duration, highest: Duration) -> Parsed<Duration> {
    let wrong = || format!("{DURATION_FORMS}, found {}", shown(value));
    let duration = match value {
        Value::Number(number) => seconds(number.as_f64().ok_or_else(wrong)?).ok_or_else(wrong)?,
        Value::String(text) => {
            let text = text.trim();
            match text.parse::<f64>() {
                Ok(number) => seconds(number).ok_or_else(wrong)?,
                Err(_) => parse_duration(text).ok_or_else(wrong)?,
            }
        }
        _ => return Err(wrong()),
    };
    if duration < lowest || duration > highest {
        return Err(format!(
            "{} is out of range {} to {}",
            show_duration(duration),
            show_duration(lowest),
            show_duration(highest)
        ));
    }
    Ok(duration)
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let letters = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let (unit, after) = after.split_at_checked(letters)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after.trim_start();
    }
    (!text.is_empty()).then_some(total)
}

/// `"1000/s"`, `"500/1m"`, `"infinity"`, or a number a second.
pub(crate) fn rate(value: &Value) -> Parsed<Rate> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    text.parse()
        .map_err(|error| format!("{error}, found {}", shown(value)))
}

/// A list of rules, or one.
pub(crate) fn access_rules(value: &Value) -> Parsed<AccessRules> {
    let texts = match value {
        Value::Array(texts) => texts.as_slice(),
        Value::String(_) => std::slice::from_ref(value),
        _ => return Err(format!("expected a list of rules, found {}", shown(value))),
    };
    let rule = |text: &Value| {
        let rule = text.as_str().unwrap_or_default().parse();
        rule.map_err(|error: AccessRuleError| format!("{}: {error}", shown(text)))
    };
    let rules = texts.iter().map(rule).collect::<Parsed<_>>()?;
    AccessRules::new(rules).ok_or_else(|| format!("has more than {MAX_RULES} rules"))
}

/// The shortest exact form that [`duration`] reads back.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 {
        "0s".to_owned()
    } else {
        format!("{millis}ms")
    }
}

/// `"4MB"`, `"64KB"`, or a number of bytes; as in EMQX, 1KB is 1,024 bytes.
pub(crate) fn bytes(value: &Value, lowest: usize, highest: usize) -> Parsed<usize> {
    let wrong = || {
        format!(
            "expected a size such as \"64KB\", \"4MB\" or a number of bytes, found {}",
            shown(value)
        )
    };
    let size = match value {
        Value::Number(number) => number.as_u64().ok_or_else(wrong)?,
        Value::String(text) => parse_bytes(text.trim()).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    let size = usize::try_from(size).map_err(|_| format!("{size} is too large"))?;
    if size < lowest || size > highest {
        return Err(format!(
            "{} is out of range {} to {}",
            show_bytes(size),
            show_bytes(lowest),
            show_bytes(highest)
        ));
    }
    Ok(size)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text.get(digits.len()..)?.trim().to_ascii_lowercase();
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The shortest exact form that [`bytes`] reads back.
pub(crate) fn show_bytes(size: usize) -> String {
    for (unit, shift) in [("GB", 30), ("MB", 20), ("KB", 10)] {
        if size != 0 && size.is_multiple_of(1 << shift) {
            return format!("{}{unit}", size >> shift);
        }
    }
    size.to_string()
}

/// `"ip:port"`, `"[ip6]:port"`, `":port"` (every address), `"port"` or a number (the address of
/// `default`).
pub(crate) fn address(value: &Value, default: IpAddr) -> Parsed<SocketAddr> {
    let wrong = || {
        format!(
            "expected \"ip:port\", \":port\" or a port, found {}",
            shown(value)
        )
    };
    match value {
        Value::Number(number) => {
            let port = number.as_u64().and_then(|port| u16::try_from(port).ok());
            Ok(SocketAddr::new(default, port.ok_or_else(wrong)?))
        }
        Value::String(text) => {
            let text = text.trim();
            if let Ok(port) = text.parse::<u16>() {
                return Ok(SocketAddr::new(default, port));
            }
            if let Some(port) = text.strip_prefix(':')
                && let Ok(port) = port.parse::<u16>()
            {
                return Ok(SocketAddr::from(([0, 0, 0, 0], port)));
            }
            match SocketAddr::from_str(text) {
                Ok(address) => Ok(address),
                Err(_)
                    if text.rsplit_once(':').is_some_and(|(host, _)| {
                        host.starts_with(|c: char| c.is_ascii_alphabetic()) && !host.contains(':')
                    }) =>
                {
                    Err(format!(
                        "needs an IP address, not the host name in {text:?}"
                    ))
                }
                Err(_) => Err(wrong()),
            }
        }
        _ => Err(wrong()),
    }
}

/// One of a few words. A number is compared as it is written with two decimals, so that
/// `bad_version = 4.00` works without quotes.
pub(crate) fn choice<T: Copy>(value: &Value, words: &[(&'static str, T)]) -> Parsed<T> {
    let word = match value {
        Value::String(word) => word.clone(),
        Value::Number(number) => number
            .as_f64()
            .map(|n| format!("{n:.2}"))
            .unwrap_or_default(),
        _ => String::new(),
    };
    words
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, chosen)| *chosen)
        .ok_or_else(|| {
            let known: Vec<_> = words
                .iter()
                .map(|(known, _)| format!("{known:?}"))
                .collect();
            format!("expected {}, found {}", known.join(" or "), shown(value))
        })
}

/// The word that [`choice`] reads back.
pub(crate) fn show_choice<T: PartialEq>(it: &T, words: &[(&'static str, T)]) -> &'static str {
    let mut words = words.iter();
    words
        .find(|(_, chosen)| chosen == it)
        .map_or("", |(word, _)| *word)
}

/// `"auto"`, or the name or number of a content format with a codec.
pub(crate) fn format(value: &Value) -> Parsed<FormatDefault> {
    let name = match value {
        Value::String(name) => name.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    if name == "auto" {
        return Ok(FormatDefault::Auto);
    }
    ContentFormat::from_name(&name)
        .filter(|format| format.name().is_some())
        .map(FormatDefault::Fixed)
        .ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(known, _)| *known).collect();
            format!(
                "expected auto, {} or a content format number, found {}",
                known.join(", "),
                shown(value)
            )
        })
}

/// The form that [`format`] reads back.
pub(crate) fn show_format(format: FormatDefault) -> String {
    match format {
        FormatDefault::Auto => "auto".to_owned(),
        FormatDefault::Fixed(format) => {
            let number = || format.0.to_string();
            format.name().map_or_else(number, str::to_owned)
        }
    }
}

fn path(text: &str) -> Parsed<Path> {
    Path::from_str(text).map_err(|reason| format!("{text:?} is not a path: {reason}"))
}

/// `series.paths`: a list of paths, or one string with commas.
pub(crate) fn series_paths(value: &Value) -> Parsed<Vec<Path>> {
    let paths: Vec<Path> = match value {
        Value::Array(list) => list
            .iter()
            .map(|entry| text(entry).and_then(|text| path(text.trim())))
            .collect::<Parsed<_>>()?,
        Value::String(text) => text
            .split(',')
            .map(|text| path(text.trim()))
            .collect::<Parsed<_>>()?,
        other => {
            return Err(format!(
                "expected paths such as [\"/3/0/9\", \"/3303\"], found {}",
                shown(other)
            ));
        }
    };
    if paths.len() > 256 {
        return Err("holds more than 256 paths".to_owned());
    }
    Ok(paths)
}

/// `series.mapping`: a table from the paths of resources to ids.
pub(crate) fn series_mapping(value: &Value) -> Parsed<BTreeMap<Path, String>> {
    let Value::Object(table) = value else {
        return Err(format!(
            "expected a table such as {{ \"/3303/0/5700\" = \"temperature\" }}, found {}",
            shown(value)
        ));
    };
    if table.len() > 65_536 {
        return Err("holds more than 65536 paths".to_owned());
    }
    let mut mapping = BTreeMap::new();
    for (name, value) in table {
        let path = path(name)?;
        if path.depth() < 3 {
            return Err(format!("{name:?} is not the path of a resource"));
        }
        let id = filled_text(value).map_err(|reason| format!("{name:?} {reason}"))?;
        if id.len() > 256 {
            return Err(format!("the id for {name:?} is longer than 256 bytes"));
        }
        if mapping.insert(path, id).is_some() {
            return Err(format!("{name:?} is given twice"));
        }
    }
    Ok(mapping)
}

/// `false`, `true`, `"off"`, `"on"`, a list of paths, or one string with commas.
pub(crate) fn auto_observe(value: &Value) -> Parsed<AutoObserve> {
    fn observed(text: &str) -> Parsed<Path> {
        let path = path(text.trim())?;
        if path.depth() == 0 {
            return Err("the root path cannot be observed".to_owned());
        }
        Ok(path)
    }
    let paths: Vec<Path> = match value {
        Value::Array(list) => list
            .iter()
            .map(|entry| text(entry).and_then(|text| observed(&text)))
            .collect::<Parsed<_>>()?,
        Value::String(text) if text.contains('/') => {
            text.split(',').map(observed).collect::<Parsed<_>>()?
        }
        other => {
            return match boolean(other) {
                Ok(true) => Ok(AutoObserve::All),
                Ok(false) => Ok(AutoObserve::Off),
                Err(_) => Err(format!(
                    "expected true, false or paths such as [\"/3/0/9\", \"/3303\"], found {}",
                    shown(other)
                )),
            };
        }
    };
    if paths.is_empty() {
        return Ok(AutoObserve::Off);
    }
    if paths.len() > 256 {
        return Err("holds more than 256 paths".to_owned());
    }
    Ok(AutoObserve::Paths(paths))
}

#[cfg(test)]
mod tests;
