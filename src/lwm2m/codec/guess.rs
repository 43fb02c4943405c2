//! What bytes without a definition are: TLV does not tell types apart.
//!
//! Only 1, 2, 4 and 8 bytes can be a number, and some of those are readable as text as well:
//! `41 4e 66 66` is 12.9 and "ANff". One and two bytes are taken for a number; four and eight are
//! weighed. What a resource has shown beyond doubt is remembered by the caller
//! ([`Guesses`](super::Guesses)), so that its type does not flip with its value.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::lwm2m::Value;

/// What the values of a resource without a definition are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// A number; whether it is a whole one has not been seen.
    Number,
    /// A signed integer of 1, 2, 4 or 8 bytes.
    Integer,
    /// A float of 32 or 64 bits, or a shorter integer where it is whole.
    Float,
    /// Text in UTF-8.
    Text,
    /// Bytes.
    Opaque,
}

/// The bytes as a value, and what they show beyond doubt: that is to be remembered. `known` is
/// what was remembered of the resource; bytes that cannot be of that type are guessed anew.
pub(super) fn guess(bytes: &[u8], known: Option<Guess>) -> (Value<'_>, Option<Guess>) {
    match known.and_then(|known| as_known(bytes, known)) {
        Some((value, guess)) => (value, Some(guess)),
        None => anew(bytes),
    }
}

fn as_known(bytes: &[u8], known: Guess) -> Option<(Value<'_>, Guess)> {
    let value = match known {
        Guess::Number => return number(bytes),
        Guess::Integer => Value::Integer(signed(bytes)?),
        Guess::Float => match (small_integer(bytes), float(bytes)) {
            (Some(whole), _) => Value::Float(whole as f64),
            (None, number) => Value::Float(number?),
        },
        Guess::Text => Value::String(Cow::Borrowed(readable(bytes)?)),
        Guess::Opaque => Value::Opaque(Cow::Borrowed(bytes)),
    };
    Some((value, known))
}

fn anew(bytes: &[u8]) -> (Value<'_>, Option<Guess>) {
    let text = readable(bytes).filter(|text| !text.is_empty());
    match (text, number(bytes)) {
        // What can be read as either shows nothing.
        (Some(text), Some(_)) if is_rather_text(text, bytes) => {
            (Value::String(Cow::Borrowed(text)), None)
        }
        (Some(_), Some((value, _))) => (value, None),
        (Some(text), None) => (Value::String(Cow::Borrowed(text)), Some(Guess::Text)),
        (None, Some((value, shown))) => (value, Some(shown)),
        (None, None) if bytes.is_empty() => (Value::Opaque(Cow::Borrowed(bytes)), None),
        (None, None) => (Value::Opaque(Cow::Borrowed(bytes)), Some(Guess::Opaque)),
    }
}

/// The bytes as a number, float or integer, and which of them it shows itself to be.
fn number(bytes: &[u8]) -> Option<(Value<'_>, Guess)> {
    let whole = signed(bytes)?;
    Some(match (bytes.len(), plausible_float(bytes)) {
        (_, Some(number)) => (Value::Float(number), Guess::Float),
        // Zero is the same in both, and what is short may be a float that is whole.
        (4 | 8, None) if whole != 0 && small_integer(bytes).is_some() => {
            (Value::Integer(whole), Guess::Integer)
        }
        // Or a huge integer, a time say, or a float that is not an everyday one.
        (_, None) => (Value::Integer(whole), Guess::Number),
    })
}

/// Whether bytes that can be read are rather a text than a number.
fn is_rather_text(text: &str, bytes: &[u8]) -> bool {
    /// More decimal digits than this, in four bytes, are no measured value.
    const DIGITS_32: usize = 5;
    /// The same in eight bytes.
    const DIGITS_64: usize = 12;
    match (plausible_float(bytes), bytes.len()) {
        (Some(number), 4) => decimal_digits(number as f32) > DIGITS_32 && is_word(text),
        // Floats up to 131,072 begin with `?` or `@`, as no text does.
        (Some(number), _) => decimal_digits(number) > DIGITS_64 && !text.starts_with(['?', '@']),
        (None, 4) => is_word(text),
        // Eight bytes that can be read are an integer of more than 10^18.
        (None, 8) => true,
        (None, _) => false,
    }
}

/// Whether this looks like a word, a version, a number in digits: letters and digits in an order
/// that people write them in. Bytes that happen to be readable seldom do.
fn is_word(text: &str) -> bool {
    let Some(first) = text.chars().next() else {
        return false;
    };
    // Numbers that begin with the code of a digit are no everyday floats and no times.
    if first.is_ascii_digit() || matches!(first, ' ' | '-' | '+' | '.') {
        return true;
    }
    let known = |c: char| c.is_alphanumeric() || " .:-_/,%()+°\t\r\n".contains(c);
    if !text.chars().all(known) {
        return false;
    }
    let mut words = text.split(|c: char| !c.is_alphabetic());
    words.all(|word| {
        let mut letters = word.chars().skip(1);
        let upper = word.chars().all(|c| !c.is_lowercase());
        upper || letters.all(|c| !c.is_uppercase())
    })
}

/// How many decimal digits are needed to write the number so that no other one is meant.
fn decimal_digits(number: impl fmt::LowerExp) -> usize {
    /// Counts the digits before the exponent, which are written first.
    struct Digits {
        count: usize,
        exponent: bool,
    }
    impl fmt::Write for Digits {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                self.exponent |= byte == b'e';
                self.count += usize::from(byte.is_ascii_digit() && !self.exponent);
            }
            Ok(())
        }
    }
    let mut digits = Digits {
        count: 0,
        exponent: false,
    };
    // Counting cannot fail.
    let _ = write!(digits, "{number:e}");
    digits.count
}

/// UTF-8 without control characters but those of white space.
fn readable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    (!text.contains(control)).then_some(text)
}

/// Four or eight bytes that make an everyday floating-point number and, as an integer, a huge one:
/// devices send sensor values so, and hardly ever such integers. Unix times are no such floats.
fn plausible_float(bytes: &[u8]) -> Option<f64> {
    if small_integer(bytes).is_some() {
        return None;
    }
    let ordinary = match bytes.len() {
        4 => 1e-3..1e7,
        _ => 1e-9..1e15,
    };
    float(bytes).filter(|number| ordinary.contains(&number.abs()))
}

/// An integer that, as a float, would be next to nothing.
fn small_integer(bytes: &[u8]) -> Option<i64> {
    let huge = match bytes.len() {
        8 => 1 << 53,
        _ => 1 << 24,
    };
    signed(bytes).filter(|number| number.unsigned_abs() <= huge)
}

/// A big-endian float of 4 or 8 bytes.
fn float(bytes: &[u8]) -> Option<f64> {
    match *bytes {
        [a, b, c, d] => Some(f64::from(f32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(f64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

/// A big-endian signed integer of 1, 2, 4 or 8 bytes.
pub(super) fn signed(bytes: &[u8]) -> Option<i64> {
    Some(match *bytes {
        [a] => i64::from(i8::from_be_bytes([a])),
        [a, b] => i64::from(i16::from_be_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "guess_tests.rs"]
mod tests;
