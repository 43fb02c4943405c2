//! CoAP messages as a device writes and reads them (RFC 7252 §3). Written apart from the gateway's
//! own message layer, so that a mistake there cannot hide behind the same mistake here.

/// `Content-Format` and `Accept` numbers the devices know.
pub(super) mod format {
    pub(crate) const TEXT: u16 = 0;
    pub(crate) const LINK: u16 = 40;
    pub(crate) const OCTETS: u16 = 42;
    pub(crate) const TLV: u16 = 11542;
    pub(crate) const OLD_TLV: u16 = 1542;
    pub(crate) const CBOR: u16 = 60;
    pub(crate) const SENML_JSON: u16 = 110;
    pub(crate) const SENML_CBOR: u16 = 112;
}

/// Option numbers.
pub(super) mod option {
    pub(crate) const OBSERVE: u16 = 6;
    pub(crate) const LOCATION_PATH: u16 = 8;
    pub(crate) const URI_PATH: u16 = 11;
    pub(crate) const CONTENT_FORMAT: u16 = 12;
    pub(crate) const MAX_AGE: u16 = 14;
    pub(crate) const URI_QUERY: u16 = 15;
    pub(crate) const ACCEPT: u16 = 17;
    pub(crate) const BLOCK2: u16 = 23;
    pub(crate) const BLOCK1: u16 = 27;
    pub(crate) const SIZE1: u16 = 60;
}

/// Codes, class and detail in one byte.
pub(super) mod code {
    pub(crate) const EMPTY: u8 = 0;
    pub(crate) const GET: u8 = 1;
    pub(crate) const POST: u8 = 2;
    pub(crate) const PUT: u8 = 3;
    pub(crate) const DELETE: u8 = 4;
    /// RFC 8132.
    pub(crate) const FETCH: u8 = 5;
    pub(crate) const IPATCH: u8 = 7;
    pub(crate) const CREATED: u8 = 0x41;
    pub(crate) const DELETED: u8 = 0x42;
    pub(crate) const CHANGED: u8 = 0x44;
    pub(crate) const CONTENT: u8 = 0x45;
    pub(crate) const CONTINUE: u8 = 0x5f;
    pub(crate) const BAD_REQUEST: u8 = 0x80;
    pub(crate) const BAD_OPTION: u8 = 0x82;
    pub(crate) const NOT_FOUND: u8 = 0x84;
    pub(crate) const METHOD_NOT_ALLOWED: u8 = 0x85;
    pub(crate) const NOT_ACCEPTABLE: u8 = 0x86;
    pub(crate) const INCOMPLETE: u8 = 0x88;
    pub(crate) const TOO_LARGE: u8 = 0x8d;
    pub(crate) const UNSUPPORTED_FORMAT: u8 = 0x8f;
    pub(crate) const SERVICE_UNAVAILABLE: u8 = 0xa3;

    /// As people write it: `4.03`.
    pub(crate) fn text(code: u8) -> String {
        format!("{}.{:02}", code >> 5, code & 0x1f)
    }
}

/// The message types of RFC 7252 §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Confirmable,
    NonConfirmable,
    Acknowledgement,
    Reset,
}

/// One message; options in the order given, sorted when written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) code: u8,
    pub(super) mid: u16,
    pub(super) token: Vec<u8>,
    pub(super) options: Vec<(u16, Vec<u8>)>,
    pub(super) payload: Vec<u8>,
}

impl Message {
    pub(super) const fn new(kind: Kind, code: u8, mid: u16, token: Vec<u8>) -> Self {
        Self {
            kind,
            code,
            mid,
            token,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// An ACK or RST without content.
    pub(super) const fn empty(kind: Kind, mid: u16) -> Self {
        Self::new(kind, code::EMPTY, mid, Vec::new())
    }

    pub(super) fn add(&mut self, number: u16, value: impl Into<Vec<u8>>) {
        self.options.push((number, value.into()));
    }

    /// An option of format `uint`: as few bytes as the number needs, none for 0.
    pub(super) fn add_uint(&mut self, number: u16, value: u32) {
        let bytes = value.to_be_bytes();
        let skip = usize::try_from(value.leading_zeros() / 8).unwrap_or(4);
        self.add(number, bytes.get(skip..).unwrap_or_default());
    }

    pub(super) fn all(&self, number: u16) -> impl Iterator<Item = &[u8]> {
        self.options
            .iter()
            .filter(move |(n, _)| *n == number)
            .map(|(_, value)| value.as_slice())
    }

    /// The first option `number`, read as `uint`; `None` when absent or over four bytes long.
    pub(super) fn uint(&self, number: u16) -> Option<u32> {
        let value = self.all(number).next()?;
        (value.len() <= 4).then(|| value.iter().fold(0, |sum, b| (sum << 8) | u32::from(*b)))
    }

    /// Why the server did not take a request, as far as it says.
    pub(super) fn reason(&self) -> String {
        let code = code::text(self.code);
        let text = String::from_utf8_lossy(&self.payload);
        if text.is_empty() {
            code
        } else {
            format!("{code} {text}")
        }
    }

    pub(super) fn write(mut self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Confirmable => 0x40,
            Kind::NonConfirmable => 0x50,
            Kind::Acknowledgement => 0x60,
            Kind::Reset => 0x70,
        };
        let mut out = Vec::with_capacity(16 + self.payload.len());
        out.push(kind | u8::try_from(self.token.len().min(8)).unwrap_or(8));
        out.push(self.code);
        out.extend(self.mid.to_be_bytes());
        out.extend(self.token.iter().take(8));
        self.options.sort_by_key(|(number, _)| *number);
        let mut last = 0;
        for (number, value) in &self.options {
            let (delta, delta_more) = nibble(usize::from(number - last));
            let (length, length_more) = nibble(value.len());
            out.push((delta << 4) | length);
            out.extend(delta_more);
            out.extend(length_more);
            out.extend(value);
            last = *number;
        }
        if !self.payload.is_empty() {
            out.push(0xff);
            out.extend(&self.payload);
        }
        out
    }

    /// `None` when the bytes are not a well-formed message.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(4)?;
        let [first, code, mid @ ..] = head else {
            return None;
        };
        if first >> 6 != 1 {
            return None;
        }
        let kind = match (first >> 4) & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        let token_length = usize::from(first & 0x0f);
        if token_length > 8 {
            return None;
        }
        let token;
        (token, rest) = rest.split_at_checked(token_length)?;
        let mid = u16::from_be_bytes(mid.try_into().ok()?);
        let mut message = Self::new(kind, *code, mid, token.to_vec());
        let mut number = 0_u16;
        while let Some((first, tail)) = rest.split_first() {
            if *first == 0xff {
                if tail.is_empty() {
                    return None;
                }
                message.payload = tail.to_vec();
                break;
            }
            rest = tail;
            let delta = extended(first >> 4, &mut rest)?;
            let length = extended(first & 0x0f, &mut rest)?;
            number = number.checked_add(u16::try_from(delta).ok()?)?;
            let value;
            (value, rest) = rest.split_at_checked(length)?;
            message.options.push((number, value.to_vec()));
        }
        Some(message)
    }
}

/// The four bits of an option's delta or length and the bytes that extend them (RFC 7252 §3.1).
fn nibble(value: usize) -> (u8, Vec<u8>) {
    match u16::try_from(value).unwrap_or(u16::MAX) {
        small @ 0..=12 => (small.to_be_bytes()[1], Vec::new()),
        middle @ 13..=268 => (13, vec![(middle - 13).to_be_bytes()[1]]),
        large => (14, (large - 269).to_be_bytes().to_vec()),
    }
}

fn extended(nibble: u8, rest: &mut &[u8]) -> Option<usize> {
    let more = match nibble {
        15 => return None,
        14 => 2,
        13 => 1,
        _ => return Some(usize::from(nibble)),
    };
    let (bytes, tail) = rest.split_at_checked(more)?;
    *rest = tail;
    let base = if more == 1 { 13 } else { 269 };
    Some(bytes.iter().fold(0, |sum, b| (sum << 8) | usize::from(*b)) + base)
}

/// A Block1 or Block2 option (RFC 7959 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u32,
    pub(super) more: bool,
    /// Size exponent, 0 (16 bytes) to 6 (1024 bytes).
    pub(super) exponent: u32,
}

impl Block {
    /// `None` for the reserved exponent 7.
    pub(super) const fn from_uint(value: u32) -> Option<Self> {
        if value & 7 == 7 {
            return None;
        }
        Some(Self {
            number: value >> 4,
            more: value & 8 != 0,
            exponent: value & 7,
        })
    }

    pub(super) const fn to_uint(self) -> u32 {
        (self.number << 4) | if self.more { 8 } else { 0 } | self.exponent
    }

    pub(super) const fn size(self) -> usize {
        16 << self.exponent
    }

    /// Where the block starts in the body.
    pub(super) fn offset(self) -> usize {
        usize::try_from(self.number)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.size())
    }
}

/// Largest payload sent in one piece.
pub(super) const BLOCK_EXPONENT: u32 = 6;

/// Gives a message the part of `body` that was asked for.
pub(super) fn add_slice(message: &mut Message, form: u16, body: &[u8], asked: Option<Block>) {
    message.add_uint(option::CONTENT_FORMAT, u32::from(form));
    let Some(mut block) = asked else { return };
    let end = block.offset().saturating_add(block.size());
    block.more = end < body.len();
    if block.more || block.number > 0 {
        message.add_uint(option::BLOCK2, block.to_uint());
    }
    message.payload = body
        .get(block.offset()..end.min(body.len()))
        .unwrap_or_default()
        .to_vec();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_a_registration_as_rfc_7252_says() {
        let mut message = Message::new(Kind::Confirmable, code::POST, 0x1234, vec![0xab]);
        message.add(option::URI_QUERY, *b"ep=a");
        message.add(option::URI_PATH, *b"rd");
        message.add_uint(option::CONTENT_FORMAT, 40);
        message.payload = b"</3/0>".to_vec();
        let bytes = message.clone().write();
        assert_eq!(
            bytes,
            [
                &[0x41, 0x02, 0x12, 0x34, 0xab, 0xb2][..],
                b"rd",
                &[0x11, 40, 0x34],
                b"ep=a",
                &[0xff],
                b"</3/0>"
            ]
            .concat()
        );
        message.options.sort_by_key(|(number, _)| *number);
        assert_eq!(Message::read(&bytes), Some(message));
    }

    #[test]
    fn uint_zero_is_empty() {
        let mut message = Message::empty(Kind::Confirmable, 1);
        message.add_uint(option::OBSERVE, 0);
        message.add_uint(option::ACCEPT, 11542);
        assert_eq!(message.options[0].1, Vec::<u8>::new());
        assert_eq!(message.options[1].1, vec![0x2d, 0x16]);
        assert_eq!(message.uint(option::ACCEPT), Some(11542));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Message::read(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            mid: u16,
            token in proptest::collection::vec(any::<u8>(), 0..=8),
            numbers in proptest::collection::btree_set(0_u16..3000, 0..6),
            length in 0_usize..400,
            payload: Vec<u8>,
        ) {
            let mut message = Message::new(Kind::NonConfirmable, code::PUT, mid, token);
            for number in numbers {
                message.add(number, vec![7; length]);
            }
            message.payload = payload;
            prop_assert_eq!(Message::read(&message.clone().write()), Some(message));
        }

        #[test]
        fn blocks_round_trip(value in 0_u32..0x0100_0000) {
            if let Some(block) = Block::from_uint(value) {
                prop_assert_eq!(block.to_uint(), value);
            }
        }
    }
}
