//! What a key is.

use std::time::Duration;

use serde_json::Value;

use crate::config::value::Parsed;

/// A key of `T`, the whole configuration or one listener.
pub(crate) struct Key<T: 'static> {
    /// Dotted name.
    pub(crate) name: &'static str,
    /// What a value looks like, for people.
    pub(crate) form: fn() -> String,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// Reads a value into the configuration.
    pub(crate) read: fn(&mut T, &Value) -> Parsed<()>,
    /// The value in the configuration, as one would write it.
    pub(crate) show: fn(&T) -> String,
    /// Whether the value is text, so that `--set` takes it as it stands.
    pub(crate) is_text: bool,
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Ten years: nothing lives longer, and sums of durations stay far from overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
pub(super) const MB: usize = 1 << 20;
pub(super) const GB: usize = 1 << 30;

/// Tables of keys, one after the other.
pub(crate) struct Keys<T: 'static>(pub(super) &'static [&'static [Key<T>]]);

impl<T> Keys<T> {
    /// All of them, in the order of the tables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Key<T>> {
        self.0.iter().copied().flatten()
    }

    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Key<T>> {
        self.iter().find(|key| key.name == name)
    }
}

/// One line of a table: `key!("name", field, form(arguments), "meaning")`. Where it stands, `Key`
/// and [`value`](crate::config::value) are in scope.
macro_rules! key {
    ($name:literal, $($field:ident).+, duration($low:expr, $high:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || format!(
                "duration, {} to {}", value::show_duration($low), value::show_duration($high)
            ),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::duration(from, $low, $high)?; Ok(()) },
            show: |of| format!("{:?}", value::show_duration(of.$($field).+)),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, size($low:expr, $high:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || format!(
                "size, {} to {}", value::show_bytes($low), value::show_bytes($high)
            ),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::bytes(from, $low, $high)?; Ok(()) },
            show: |of| format!("{:?}", value::show_bytes(of.$($field).+)),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, integer($low:expr, $high:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || format!("integer, {} to {}", $low, $high),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::integer(from, $low, $high)?; Ok(()) },
            show: |of| of.$($field).+.to_string(),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, rate, $meaning:literal) => {
        Key {
            name: $name,
            form: || "rate".to_owned(),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::rate(from)?; Ok(()) },
            show: |of| format!("{:?}", of.$($field).+.to_string()),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, flag, $meaning:literal) => {
        Key {
            name: $name,
            form: || "true or false".to_owned(),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::boolean(from)?; Ok(()) },
            show: |of| of.$($field).+.to_string(),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, text, $meaning:literal) => {
        Key {
            name: $name,
            form: || "string".to_owned(),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::filled_text(from)?; Ok(()) },
            show: |of| format!("{:?}", of.$($field).+),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, optional_text, $meaning:literal) => {
        Key {
            name: $name,
            form: || "string".to_owned(),
            meaning: $meaning,
            read: |into, from| {
                into.$($field).+ = Some(value::filled_text(from)?.into());
                Ok(())
            },
            show: |_| "none".to_owned(),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, address($default:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || "address".to_owned(),
            meaning: $meaning,
            read: |into, from| {
                into.$($field).+ = value::address(from, IpAddr::V4($default))?;
                Ok(())
            },
            show: |of| format!("{:?}", of.$($field).+.to_string()),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, choice($($word:literal = $chosen:expr),+), $meaning:literal)
    => {
        Key {
            name: $name,
            form: || [$(concat!("`\"", $word, "\"`")),+].join(" or "),
            meaning: $meaning,
            read: |into, from| {
                into.$($field).+ = value::choice(from, &[$(($word, $chosen)),+])?;
                Ok(())
            },
            show: |of| {
                let word = [$(($word, $chosen)),+]
                    .iter()
                    .find(|(_, chosen)| *chosen == of.$($field).+)
                    .map_or("", |(word, _)| *word);
                format!("{word:?}")
            },
            is_text: true,
        }
    };
}

pub(super) use key;
