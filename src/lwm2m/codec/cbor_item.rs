//! CBOR items (RFC 8949), read without copies and written.

use std::borrow::Cow;

use ciborium_ll::{Decoder, Error, Header};

use super::error::DecodeError;
use super::scalar::{Number, Scalar, utf8};
use crate::lwm2m::Value;

/// How deep arrays and maps may nest where their content is skipped.
const MAX_NESTING: usize = 16;

/// Ends an item of indefinite length (RFC 8949 §3.2.1).
const BREAK: u8 = 0xff;

/// Tag 1 (RFC 8949 §3.4.2).
const EPOCH: u8 = 0xc1;

/// Starts a float of 64 bits (RFC 8949 §3.3).
const FLOAT64: u8 = 0xfb;

/// Tags that change what an integer or byte string means (RFC 8949 §3.4): big numbers, decimal
/// fractions, big floats.
const NUMBER_TAGS: std::ops::RangeInclusive<u64> = 2..=5;
const DECIMAL_FRACTION: u64 = 4;

/// Items one after the other.
pub(super) struct Reader<'a> {
    format: &'static str,
    rest: &'a [u8],
}

/// How many items of an array, or pairs of a map, are still to be read; `None` until a break.
pub(super) struct Items(pub(super) Option<usize>);

impl Items {
    /// Whether there is one more.
    pub(super) fn more(&mut self, reader: &mut Reader<'_>) -> bool {
        match &mut self.0 {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => match reader.rest.split_first() {
                Some((&BREAK, rest)) => {
                    reader.rest = rest;
                    false
                }
                _ => true,
            },
        }
    }
}

/// What an item starts with, and the tag that makes it a number, if any.
pub(super) struct Start {
    pub(super) header: Header,
    number_tag: Option<u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(format: &'static str, payload: &'a [u8]) -> Self {
        Self {
            format,
            rest: payload,
        }
    }

    #[cold]
    pub(super) fn malformed(&self, reason: &str) -> DecodeError {
        DecodeError::Malformed {
            format: self.format,
            reason: reason.to_owned(),
        }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes follow the end"))
        }
    }

    /// Most items start with a byte that says it all, or are a float64: they are read here because
    /// the decoder is many times slower.
    #[inline]
    fn header(&mut self) -> Result<Header, DecodeError> {
        let Some((first, rest)) = self.rest.split_first() else {
            return Err(self.malformed("it ends within an item"));
        };
        let argument = first & 0x1f;
        if argument > 23 {
            return match (first, rest.split_first_chunk()) {
                (&FLOAT64, Some((number, rest))) => {
                    self.rest = rest;
                    Ok(Header::Float(f64::from_be_bytes(*number)))
                }
                _ => self.long_header(),
            };
        }
        let length = Some(usize::from(argument));
        let header = match first >> 5 {
            0 => Header::Positive(argument.into()),
            1 => Header::Negative(argument.into()),
            2 => Header::Bytes(length),
            3 => Header::Text(length),
            4 => Header::Array(length),
            5 => Header::Map(length),
            6 => Header::Tag(argument.into()),
            _ => Header::Simple(argument),
        };
        self.rest = rest;
        Ok(header)
    }

    fn long_header(&mut self) -> Result<Header, DecodeError> {
        let mut decoder = Decoder::from(self.rest);
        let header = decoder.pull().map_err(|error| {
            self.malformed(match error {
                Error::Io(_) => "it ends within an item",
                Error::Syntax(_) => "an item starts with a byte that is not valid CBOR",
            })
        })?;
        let used = decoder.offset();
        self.rest = self.rest.get(used..).unwrap_or_default();
        Ok(header)
    }

    /// The start of the next item, behind its tags.
    #[inline]
    pub(super) fn start(&mut self) -> Result<Start, DecodeError> {
        let mut number_tag = None;
        loop {
            match self.header()? {
                Header::Tag(tag) if NUMBER_TAGS.contains(&tag) => number_tag = Some(tag),
                Header::Tag(_) => {}
                Header::Break => return Err(self.malformed("a break out of place")),
                header => return Ok(Start { header, number_tag }),
            }
        }
    }

    /// The next item.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<Scalar<'a>, DecodeError> {
        let start = self.start()?;
        self.scalar_from(start)
    }

    /// The item that starts with `start`.
    #[inline]
    pub(super) fn scalar_from(&mut self, start: Start) -> Result<Scalar<'a>, DecodeError> {
        if let Some(tag) = start.number_tag {
            return match start.header {
                Header::Array(length) if tag == DECIMAL_FRACTION => self.decimal_fraction(length),
                header => self.skip_from(header, MAX_NESTING).map(|()| Scalar::None),
            };
        }
        Ok(match start.header {
            Header::Positive(number) => Scalar::Number(Number::Whole(number.into())),
            Header::Negative(number) => Scalar::Number(Number::Whole(!i128::from(number))),
            Header::Float(number) => Scalar::Number(Number::Real(number)),
            Header::Simple(20) => Scalar::Boolean(false),
            Header::Simple(21) => Scalar::Boolean(true),
            Header::Text(length) => Scalar::Text(self.text(length)?),
            Header::Bytes(length) => Scalar::Bytes(self.string(length, false)?),
            header => {
                self.skip_from(header, MAX_NESTING)?;
                Scalar::None
            }
        })
    }

    /// A text whose header has been read.
    pub(super) fn text(&mut self, length: Option<usize>) -> Result<Cow<'a, str>, DecodeError> {
        utf8(self.string(length, true)?).map_err(|_| self.malformed("a text string is not UTF-8"))
    }

    /// Text or bytes whose header has been read. Only what comes in several chunks is copied.
    fn string(&mut self, length: Option<usize>, text: bool) -> Result<Cow<'a, [u8]>, DecodeError> {
        if let Some(length) = length {
            return self.bytes(length).map(Cow::Borrowed);
        }
        let mut whole = Cow::Borrowed(&[][..]);
        loop {
            let chunk = match self.header()? {
                Header::Break => return Ok(whole),
                Header::Text(Some(length)) if text => self.bytes(length)?,
                Header::Bytes(Some(length)) if !text => self.bytes(length)?,
                _ => return Err(self.malformed("a string holds something other than its chunks")),
            };
            if whole.is_empty() {
                whole = Cow::Borrowed(chunk);
            } else {
                whole.to_mut().extend_from_slice(chunk);
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.malformed("it ends within an item"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// `[exponent, mantissa]`, which SenML allows for numbers (RFC 8428 §6).
    fn decimal_fraction(&mut self, length: Option<usize>) -> Result<Scalar<'a>, DecodeError> {
        let mut items = Items(length);
        let mut parts = [0_i128; 2];
        for part in &mut parts {
            *part = match items.more(self).then(|| self.header()).transpose()? {
                Some(Header::Positive(number)) => number.into(),
                Some(Header::Negative(number)) => !i128::from(number),
                _ => return Err(self.malformed("a decimal fraction needs two integers")),
            };
        }
        if items.more(self) {
            return Err(self.malformed("a decimal fraction needs two integers"));
        }
        let [exponent, mantissa] = parts;
        // No float reaches beyond these exponents.
        let exponent = i32::try_from(exponent.clamp(-400, 400)).unwrap_or_default();
        let scale = 10_f64.powi(exponent.abs());
        let number = match (exponent, mantissa) {
            (_, 0) => 0.0,
            (..0, _) => mantissa as f64 / scale,
            _ => mantissa as f64 * scale,
        };
        Ok(Scalar::Number(Number::Real(number)))
    }

    /// Reads over the next item.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        let start = self.start()?;
        self.skip_from(start.header, MAX_NESTING)
    }

    /// Reads over the item that starts with `header`.
    pub(super) fn skip_rest(&mut self, header: Header) -> Result<(), DecodeError> {
        self.skip_from(header, MAX_NESTING)
    }

    fn skip_from(&mut self, header: Header, nesting: usize) -> Result<(), DecodeError> {
        let (length, width) = match header {
            Header::Array(length) => (length, 1),
            Header::Map(length) => (length, 2),
            Header::Text(length) => return self.string(length, true).map(|_| ()),
            Header::Bytes(length) => return self.string(length, false).map(|_| ()),
            _ => return Ok(()),
        };
        let nesting = nesting
            .checked_sub(1)
            .ok_or(DecodeError::Limit("nesting"))?;
        let mut items = Items(length);
        while items.more(self) {
            for _ in 0..width {
                let start = self.start()?;
                self.skip_from(start.header, nesting)?;
            }
        }
        Ok(())
    }
}

/// The major types of RFC 8949 §3.1 that are written.
#[derive(Debug, Clone, Copy)]
enum Major {
    Positive = 0,
    Negative = 1,
    Bytes = 2,
    Text = 3,
    Array = 4,
    Map = 5,
}

/// Items in their shortest form, but for floats: decoders of small devices often lack those of 16
/// bits.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn head(&mut self, major: Major, argument: u64) {
        let major = (major as u8) << 5;
        if let Ok(byte) = u8::try_from(argument) {
            if byte < 24 {
                self.0.push(major | byte);
            } else {
                self.0.extend([major | 24, byte]);
            }
        } else if let Ok(number) = u16::try_from(argument) {
            self.0.push(major | 25);
            self.0.extend(number.to_be_bytes());
        } else if let Ok(number) = u32::try_from(argument) {
            self.0.push(major | 26);
            self.0.extend(number.to_be_bytes());
        } else {
            self.0.push(major | 27);
            self.0.extend(argument.to_be_bytes());
        }
    }

    /// Says that the next item is a time (RFC 8949 §3.4.2).
    pub(super) fn epoch(&mut self) {
        self.0.push(EPOCH);
    }

    /// The start of an array of `length` items.
    pub(super) fn array(&mut self, length: usize) {
        self.head(Major::Array, length as u64);
    }

    /// The start of a map of `length` pairs.
    pub(super) fn map(&mut self, length: usize) {
        self.head(Major::Map, length as u64);
    }

    pub(super) fn integer(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) => self.head(Major::Positive, number),
            Err(_) => self.head(Major::Negative, !number as u64),
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.head(Major::Text, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn null(&mut self) {
        self.0.push(0xf6);
    }

    fn float(&mut self, number: f64) {
        let short = number as f32;
        if f64::from(short).to_bits() == number.to_bits() {
            self.0.push(0xfa);
            self.0.extend(short.to_be_bytes());
        } else {
            self.0.push(FLOAT64);
            self.0.extend(number.to_be_bytes());
        }
    }

    /// A value as LwM2M Core 1.2 Appendix C has it in CBOR.
    pub(super) fn value(&mut self, value: &Value<'_>) {
        match value {
            Value::String(text) | Value::CoreLink(text) => self.text(text),
            Value::Integer(number) | Value::Time(number) => self.integer(*number),
            Value::Unsigned(number) => self.head(Major::Positive, *number),
            Value::Float(number) => self.float(*number),
            Value::Boolean(value) => self.0.push(if *value { 0xf5 } else { 0xf4 }),
            Value::Opaque(bytes) => {
                self.head(Major::Bytes, bytes.len() as u64);
                self.0.extend_from_slice(bytes);
            }
            Value::ObjectLink { object, instance } => self.text(&format!("{object}:{instance}")),
        }
    }
}
