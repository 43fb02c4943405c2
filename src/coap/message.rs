//! CoAP messages (RFC 7252 §3). What is sent is built by `coap-lite`. What is received is read here:
//! `coap-lite` takes other versions, reserved classes and Empty messages with content, and copies
//! each option. A received message is one copy of its datagram, with codes and options by number,
//! so that unknown ones survive; every notification passes here.

use std::ops::Range;

use coap_lite::{MessageClass, MessageType as LiteType, Packet};
use thiserror::Error;

/// Option numbers (RFC 7252 §12.2, RFC 7641, RFC 7959).
pub mod option {
    /// Uri-Host
    pub const URI_HOST: u16 = 3;
    /// ETag
    pub const ETAG: u16 = 4;
    /// Observe
    pub const OBSERVE: u16 = 6;
    /// Uri-Port
    pub const URI_PORT: u16 = 7;
    /// Location-Path
    pub const LOCATION_PATH: u16 = 8;
    /// Uri-Path
    pub const URI_PATH: u16 = 11;
    /// Content-Format
    pub const CONTENT_FORMAT: u16 = 12;
    /// Max-Age
    pub const MAX_AGE: u16 = 14;
    /// Uri-Query
    pub const URI_QUERY: u16 = 15;
    /// Accept
    pub const ACCEPT: u16 = 17;
    /// Block2
    pub const BLOCK2: u16 = 23;
    /// Block1
    pub const BLOCK1: u16 = 27;
    /// Size2
    pub const SIZE2: u16 = 28;
    /// Proxy-Uri
    pub const PROXY_URI: u16 = 35;
    /// Proxy-Scheme
    pub const PROXY_SCHEME: u16 = 39;
    /// Size1
    pub const SIZE1: u16 = 60;
    /// Echo (RFC 9175)
    pub const ECHO: u16 = 252;
}

/// A CoAP code, class and detail in one byte (RFC 7252 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u8);

#[allow(missing_docs)] // the names are the registry's (RFC 7252 §12.1)
impl Code {
    pub const EMPTY: Self = Self(0);
    pub const GET: Self = Self(1);
    pub const POST: Self = Self(2);
    #[cfg(feature = "internals")]
    pub const PUT: Self = Self(3);
    pub const DELETE: Self = Self(4);
    pub const CREATED: Self = Self::new(2, 1);
    pub const DELETED: Self = Self::new(2, 2);
    pub const CHANGED: Self = Self::new(2, 4);
    pub const CONTENT: Self = Self::new(2, 5);
    pub const CONTINUE: Self = Self::new(2, 31);
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    pub const UNAUTHORIZED: Self = Self::new(4, 1);
    pub const BAD_OPTION: Self = Self::new(4, 2);
    pub const FORBIDDEN: Self = Self::new(4, 3);
    pub const NOT_FOUND: Self = Self::new(4, 4);
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::new(4, 8);
    pub const PRECONDITION_FAILED: Self = Self::new(4, 12);
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::new(4, 13);
    #[cfg(feature = "internals")]
    pub const INTERNAL_SERVER_ERROR: Self = Self::new(5, 0);
    pub const BAD_GATEWAY: Self = Self::new(5, 2);
    pub const SERVICE_UNAVAILABLE: Self = Self::new(5, 3);
    pub const GATEWAY_TIMEOUT: Self = Self::new(5, 4);
    pub const PROXYING_NOT_SUPPORTED: Self = Self::new(5, 5);

    /// `class.detail`
    pub const fn new(class: u8, detail: u8) -> Self {
        Self(class << 5 | detail)
    }

    /// 0 request, 2 success, 4 client error, 5 server error.
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// A method, `0.01` to `0.31`.
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }

    /// `2.xx`
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }
}

/// Message types (RFC 7252 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// CON
    Confirmable,
    /// NON
    NonConfirmable,
    /// ACK
    Acknowledgement,
    /// RST
    Reset,
}

/// A token of ours: always eight random bytes, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

impl Token {
    /// The token in a message, if it has the length of ours.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// Why a datagram is no CoAP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Fewer than four bytes, or another version than 1: to be ignored (RFC 7252 §3).
    #[error("not a CoAP 1 header")]
    Header,
    /// Anything else; a Confirmable one is to be reset (RFC 7252 §4.2).
    #[error("malformed message: {reason}")]
    Format {
        /// What is wrong.
        reason: &'static str,
        /// Message type, for the rejection.
        kind: MessageType,
        /// Message id, for the rejection.
        mid: u16,
    },
}

/// A received message that has passed all checks of RFC 7252 §3.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Box<[u8]>,
    kind: MessageType,
    code: Code,
    mid: u16,
    token: Range<usize>,
    options: Range<usize>,
    payload: Range<usize>,
}

/// Where the options of a message are: after header and token, up to the payload marker.
type Layout = (MessageType, Code, Range<usize>);

/// Length of the header before the token.
const HEADER: usize = 4;

/// Byte between options and payload.
const PAYLOAD_MARKER: u8 = 0xff;

/// Walks header, token, options and payload marker (RFC 7252 §3 and §3.1).
fn check(datagram: &[u8]) -> Result<Layout, MessageError> {
    let [first, code, mid_high, mid_low, rest @ ..] = datagram else {
        return Err(MessageError::Header);
    };
    if first >> 6 != 1 {
        return Err(MessageError::Header);
    }
    let kind = match first >> 4 & 3 {
        0 => MessageType::Confirmable,
        1 => MessageType::NonConfirmable,
        2 => MessageType::Acknowledgement,
        _ => MessageType::Reset,
    };
    let mid = u16::from_be_bytes([*mid_high, *mid_low]);
    let malformed = |reason| MessageError::Format { reason, kind, mid };
    let token_length = usize::from(first & 15);
    if token_length > 8 {
        return Err(malformed("token longer than 8 bytes"));
    }
    let code = Code(*code);
    if code == Code::EMPTY {
        if token_length != 0 || !rest.is_empty() {
            return Err(malformed("Empty message with content"));
        }
        return Ok((kind, code, HEADER..HEADER));
    }
    if matches!(code.class(), 1 | 6 | 7) {
        return Err(malformed("reserved code class"));
    }
    let options = rest
        .get(token_length..)
        .ok_or_else(|| malformed("truncated token"))?;
    let mut walk = Options::new(options);
    while walk.step().map_err(malformed)?.is_some() {}
    let start = HEADER + token_length;
    Ok((kind, code, start..datagram.len() - walk.rest.len()))
}

/// A walk over options (RFC 7252 §3.1). It stops at the payload marker or the end.
struct Options<'a> {
    rest: &'a [u8],
    number: u16,
}

impl<'a> Options<'a> {
    const fn new(rest: &'a [u8]) -> Self {
        Self { rest, number: 0 }
    }

    fn step(&mut self) -> Result<Option<(u16, &'a [u8])>, &'static str> {
        let (head, tail) = match self.rest {
            [] => return Ok(None),
            [PAYLOAD_MARKER] => return Err("payload marker without payload"),
            [PAYLOAD_MARKER, ..] => return Ok(None),
            [head, tail @ ..] => (head, tail),
        };
        let (delta, tail) = extended(head >> 4, tail).ok_or("bad option delta")?;
        let (length, tail) = extended(head & 15, tail).ok_or("bad option length")?;
        let (value, rest) = tail.split_at_checked(length).ok_or("truncated option")?;
        let number = u16::try_from(usize::from(self.number) + delta);
        self.number = number.map_err(|_| "option number beyond 65535")?;
        self.rest = rest;
        Ok(Some((self.number, value)))
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.step().ok().flatten()
    }
}

/// An option delta or length with its extension bytes (RFC 7252 §3.1).
fn extended(nibble: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    match (nibble, rest) {
        (0..=12, _) => Some((usize::from(nibble), rest)),
        (13, [byte, rest @ ..]) => Some((usize::from(*byte) + 13, rest)),
        (14, [high, low, rest @ ..]) => {
            Some((usize::from(u16::from_be_bytes([*high, *low])) + 269, rest))
        }
        _ => None,
    }
}

impl Message {
    /// Parses a datagram. Never panics.
    ///
    /// # Errors
    /// [`MessageError`] says whether to ignore or to reset it.
    pub fn parse(datagram: &[u8]) -> Result<Self, MessageError> {
        let (kind, code, options) = check(datagram)?;
        let mid = match datagram {
            [_, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => return Err(MessageError::Header),
        };
        Ok(Self {
            bytes: datagram.into(),
            kind,
            code,
            mid,
            token: HEADER..options.start,
            // The payload marker is left out.
            payload: options.end.saturating_add(1)..datagram.len(),
            options,
        })
    }

    /// Message type.
    pub const fn kind(&self) -> MessageType {
        self.kind
    }

    /// Code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Message id.
    pub const fn mid(&self) -> u16 {
        self.mid
    }

    /// Token, 0 to 8 bytes.
    pub fn token(&self) -> &[u8] {
        self.bytes.get(self.token.clone()).unwrap_or_default()
    }

    /// Payload, may be empty.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload.clone()).unwrap_or_default()
    }

    /// Number and value of each option, in order.
    pub fn options(&self) -> impl Iterator<Item = (u16, &[u8])> {
        Options::new(self.bytes.get(self.options.clone()).unwrap_or_default())
    }

    /// Values of a repeatable option, in order.
    pub fn option_values(&self, number: u16) -> impl Iterator<Item = &[u8]> {
        self.options()
            .filter(move |(known, _)| *known == number)
            .map(|(_, value)| value)
    }

    /// The first value of an option.
    pub fn first_option(&self, number: u16) -> Option<&[u8]> {
        self.option_values(number).next()
    }

    /// An option of format uint (RFC 7252 §3.2); a value longer than `max_len` bytes is treated
    /// as an unrecognised option (§5.4.3), here: absent.
    pub fn uint_option(&self, number: u16, max_len: usize) -> Option<u32> {
        let bytes = self.first_option(number)?;
        if bytes.len() > max_len.min(4) {
            return None;
        }
        Some(
            bytes
                .iter()
                .fold(0, |value, byte| value << 8 | u32::from(*byte)),
        )
    }

    /// Content-Format number.
    pub fn content_format(&self) -> Option<u16> {
        self.uint_option(option::CONTENT_FORMAT, 2)
            .and_then(|number| u16::try_from(number).ok())
    }

    /// Observe value, 24 bits.
    pub fn observe(&self) -> Option<u32> {
        self.uint_option(option::OBSERVE, 3)
    }

    /// The first critical option (odd number, RFC 7252 §5.4.1) not in `known`.
    pub fn unknown_critical(&self, known: &[u16]) -> Option<u16> {
        self.options()
            .map(|(number, _)| number)
            .find(|number| number & 1 == 1 && !known.contains(number))
    }

    /// Option numbers and values that identify a request for block-wise transfer: everything but
    /// the Block and Size options (RFC 7959 §2.2, RFC 7252 §5.4.2).
    pub fn cache_key_options(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.options().filter(|(number, _)| {
            !matches!(
                *number,
                option::BLOCK1 | option::BLOCK2 | option::SIZE1 | option::SIZE2 | option::ECHO
            )
        })
    }
}

/// Builds a message to send, by `coap-lite`.
#[derive(Debug, Clone)]
pub struct Builder(Packet);

impl Builder {
    /// A message of `kind` and `code` with `mid` and `token` (at most 8 bytes).
    pub fn new(kind: MessageType, code: Code, mid: u16, token: &[u8]) -> Self {
        let mut packet = Packet::new();
        packet.header.set_type(match kind {
            MessageType::Confirmable => LiteType::Confirmable,
            MessageType::NonConfirmable => LiteType::NonConfirmable,
            MessageType::Acknowledgement => LiteType::Acknowledgement,
            MessageType::Reset => LiteType::Reset,
        });
        packet.header.code = MessageClass::from(code.0);
        packet.header.message_id = mid;
        packet.set_token(token.get(..token.len().min(8)).unwrap_or_default().to_vec());
        Self(packet)
    }

    /// Adds one value of an option, after those it has already.
    #[must_use]
    pub fn option(mut self, number: u16, value: impl AsRef<[u8]>) -> Self {
        self.0.add_option(number.into(), value.as_ref().to_vec());
        self
    }

    /// Adds a uint option in its shortest form, zero as no bytes (RFC 7252 §3.2).
    #[must_use]
    pub fn uint(self, number: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let skip = usize::try_from(value.leading_zeros() / 8).unwrap_or(4);
        self.option(number, bytes.get(skip..).unwrap_or_default())
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.0.payload = payload.into();
        self
    }

    /// The datagram. Sizes are the caller's business: block-wise transfer keeps them small.
    pub fn build(self) -> Vec<u8> {
        // Fails only for a token longer than 15 bytes, which `new` cannot produce.
        self.0.to_bytes_unlimited().unwrap_or_default()
    }
}

/// An Empty message: ACK or RST of `mid` (RFC 7252 §4.2). Written out, since each Confirmable
/// notification is answered by one.
pub fn empty(kind: MessageType, mid: u16) -> Vec<u8> {
    let [high, low] = mid.to_be_bytes();
    vec![0x40 | (kind as u8) << 4, Code::EMPTY.0, high, low]
}

/// Type and message id of an Empty message; `None` for any other datagram. Copies nothing: anybody
/// can send many of them.
pub fn as_empty(datagram: &[u8]) -> Option<(MessageType, u16)> {
    /// Version 1, no token (RFC 7252 §3), with any type.
    const HEAD: u8 = 0x40;
    let [first, 0, high, low] = datagram else {
        return None;
    };
    let kind = match first ^ HEAD {
        0x00 => MessageType::Confirmable,
        0x10 => MessageType::NonConfirmable,
        0x20 => MessageType::Acknowledgement,
        0x30 => MessageType::Reset,
        _ => return None,
    };
    Some((kind, u16::from_be_bytes([*high, *low])))
}

#[cfg(test)]
mod tests;
