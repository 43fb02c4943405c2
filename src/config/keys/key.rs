//! What a key is.

use std::time::Duration;

use serde_json::Value;

use crate::config::value::Parsed;

/// A key of `T`, the whole configuration or one listener.
pub(crate) struct Key<T: 'static> {
    /// Dotted name.
    pub(crate) name: &'static str,
    /// What a value looks like, for people.
    #[cfg_attr(not(feature = "internals"), expect(dead_code))] // for the documentation
    pub(crate) form: fn() -> String,
    /// What it means.
    #[cfg_attr(not(feature = "internals"), expect(dead_code))] // for the documentation
    pub(crate) meaning: &'static str,
    /// Reads a value into the configuration.
    pub(crate) read: fn(&mut T, &Value) -> Parsed<()>,
    /// The value in the configuration, as one would write it.
    #[cfg_attr(not(any(feature = "http", feature = "internals")), expect(dead_code))]
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

/// One line of a table: `key!("name", field, form(arguments), "meaning")`, where a form that no
/// other key has is `by(its description, reads a value, shows a value)`. Where it stands, `Key` and
/// [`value`](crate::config::value) are in scope.
macro_rules! key {
    ($name:literal, $($field:ident).+, by($form:expr, $read:expr, $show:expr), $meaning:literal) => {
        key!(@ $name, $($field).+, $form, $read, $show, $meaning, false)
    };
    // The same for text.
    ($name:literal, $($field:ident).+, text_by($form:expr, $read:expr, $show:expr), $meaning:literal)
    => {
        key!(@ $name, $($field).+, $form, $read, $show, $meaning, true)
    };
    ($name:literal, $($field:ident).+, duration($low:expr, $high:expr), $meaning:literal) => {
        key!($name, $($field).+, by(
            || format!("duration, {} to {}", value::show_duration($low), value::show_duration($high)),
            |from| value::duration(from, $low, $high),
            |it| value::quoted(&value::show_duration(*it))
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, size($low:expr, $high:expr), $meaning:literal) => {
        key!($name, $($field).+, by(
            || format!("size, {} to {}", value::show_bytes($low), value::show_bytes($high)),
            |from| value::bytes(from, $low, $high),
            |it| value::quoted(&value::show_bytes(*it))
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, integer($low:expr, $high:expr), $meaning:literal) => {
        key!($name, $($field).+, by(
            || format!("integer, {} to {}", $low, $high),
            |from| value::integer(from, $low, $high),
            ToString::to_string
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, rate, $meaning:literal) => {
        key!($name, $($field).+, text_by(|| "rate".to_owned(), value::rate, value::quoted), $meaning)
    };
    ($name:literal, $($field:ident).+, flag, $meaning:literal) => {
        key!($name, $($field).+, by(
            || "true or false".to_owned(),
            value::boolean,
            ToString::to_string
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, text, $meaning:literal) => {
        key!($name, $($field).+, text_by(
            || "string".to_owned(),
            value::filled_text,
            value::quoted
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, optional_text, $meaning:literal) => {
        key!($name, $($field).+, text_by(
            || "string".to_owned(),
            |from| value::filled_text(from).map(|text| Some(text.into())),
            |it| it.as_ref().map_or_else(|| "none".to_owned(), |it| format!("{it:?}"))
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, address($default:expr), $meaning:literal) => {
        key!($name, $($field).+, text_by(
            || "address".to_owned(),
            |from| value::address(from, IpAddr::V4($default)),
            value::quoted
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, optional_address, $meaning:literal) => {
        key!($name, $($field).+, text_by(
            || "address".to_owned(),
            |from| value::address(from, IpAddr::V4(Ipv4Addr::LOCALHOST)).map(Some),
            |_| "none".to_owned()
        ), $meaning)
    };
    ($name:literal, $($field:ident).+, choice($($word:literal = $chosen:expr),+), $meaning:literal)
    => {
        key!($name, $($field).+, text_by(
            || [$(concat!("`\"", $word, "\"`")),+].join(" or "),
            |from| value::choice(from, &[$(($word, $chosen)),+]),
            |it| value::quoted(value::show_choice(it, &[$(($word, $chosen)),+]))
        ), $meaning)
    };
    (@ $name:literal, $($field:ident).+, $form:expr, $read:expr, $show:expr, $meaning:literal,
     $is_text:literal) => {
        Key {
            name: $name,
            form: $form,
            meaning: $meaning,
            read: |into, from| value::set(&mut into.$($field).+, from, $read),
            show: |of| value::show_by(&of.$($field).+, $show),
            is_text: $is_text,
        }
    };
}

pub(super) use key;
