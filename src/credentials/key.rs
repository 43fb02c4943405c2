//! A pre-shared key, which leaves no traces.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A pre-shared key: zeroed when dropped, compared in constant time, never shown.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

/// Longest key in bytes. RFC 4279 section 5.3 asks for 64, OpenSSL takes 256 in every release.
pub const MAX_KEY: usize = 256;

/// Keys below this many bytes are worth a warning: the suites have a strength of 128 bits, and a
/// key with less than that can be guessed from a recorded handshake (RFC 4279 section 7.2).
pub(crate) const WEAK_KEY: usize = 16;

/// Why a text is no key. Never holds a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("the key is empty")]
    Empty,
    /// More than [`MAX_KEY`] bytes.
    #[error("the key is longer than {MAX_KEY} bytes")]
    Long,
    /// An odd number of digits.
    #[error("the key has an odd number of hexadecimal digits")]
    OddHex,
    /// Something else than hexadecimal digits.
    #[error("the key is not hexadecimal")]
    NotHex,
    /// Not what follows `base64:`.
    #[error("the key is not base64")]
    NotBase64,
}

impl Key {
    /// A key of these bytes; any length.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has less than [`WEAK_KEY`] bytes.
    pub fn is_weak(&self) -> bool {
        self.0.len() < WEAK_KEY
    }

    /// From hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When there is anything else, or nothing, or too much.
    pub fn from_hex(text: &[u8]) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY.saturating_mul(2) {
            return Err(KeyError::Long);
        }
        // The whole room at once: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
        let (pairs, rest) = text.as_chunks::<2>();
        for [high, low] in pairs {
            let digit = |c: &u8| {
                char::from(*c)
                    .to_digit(16)
                    .and_then(|n| u8::try_from(n).ok())
            };
            let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                return Err(KeyError::NotHex);
            };
            bytes.push(high << 4 | low);
        }
        match rest {
            [] => Self::bounded(bytes),
            [last] if last.is_ascii_hexdigit() => Err(KeyError::OddHex),
            _ => Err(KeyError::NotHex),
        }
    }

    /// The bytes of a text as they are, which is what EMQX makes of the lines of its PSK file.
    ///
    /// # Errors
    ///
    /// When there is nothing or too much.
    pub fn from_text(text: &[u8]) -> Result<Self, KeyError> {
        Self::bounded(Zeroizing::new(text.to_vec()))
    }

    /// As in a configuration: hexadecimal digits, `base64:…` or `text:…`.
    ///
    /// # Errors
    ///
    /// When it is none of them, or nothing, or too long.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if let Some(text) = text.strip_prefix("text:") {
            return Self::from_text(text.as_bytes());
        }
        let Some(base64) = text.strip_prefix("base64:") else {
            return Self::from_hex(text.trim().as_bytes());
        };
        let base64 = base64.trim();
        if base64.len() > MAX_KEY.saturating_mul(2) {
            return Err(KeyError::Long);
        }
        let mut bytes = Zeroizing::new(vec![0; base64.len()]);
        let length = STANDARD
            .decode_slice(base64, &mut bytes)
            .map_err(|_| KeyError::NotBase64)?;
        bytes.truncate(length);
        Self::bounded(bytes)
    }

    fn bounded(bytes: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        match bytes.len() {
            0 => Err(KeyError::Empty),
            1..=MAX_KEY => Ok(Self(bytes)),
            _ => Err(KeyError::Long),
        }
    }

    /// The hexadecimal digits that [`from_hex`](Self::from_hex) reads.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len().saturating_mul(2)));
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        text
    }
}

/// The length is no secret.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_a_key() {
        for (text, bytes) in [
            ("00ff10Ab", &[0, 255, 16, 0xab][..]),
            (" 61 ", b"a"),
            ("base64:AAEC", &[0, 1, 2]),
            ("base64:/w==", &[255]),
            ("text:secret: ", b"secret: "),
        ] {
            assert_eq!(Key::parse(text).unwrap().as_bytes(), bytes, "{text}");
        }
        for (text, error) in [
            ("", KeyError::Empty),
            ("text:", KeyError::Empty),
            ("base64:", KeyError::Empty),
            ("abc", KeyError::OddHex),
            ("0g", KeyError::NotHex),
            ("0", KeyError::OddHex),
            ("00 11", KeyError::NotHex),
            ("é0", KeyError::NotHex),
            ("secret", KeyError::NotHex),
            ("base64:A", KeyError::NotBase64),
            ("base64:??==", KeyError::NotBase64),
        ] {
            assert_eq!(Key::parse(text), Err(error), "{text}");
        }
        let longest = "ab".repeat(MAX_KEY);
        assert_eq!(Key::parse(&longest).unwrap().as_bytes().len(), MAX_KEY);
        assert_eq!(Key::parse(&format!("{longest}00")), Err(KeyError::Long));
        let long = format!("text:{}", "x".repeat(MAX_KEY + 1));
        assert_eq!(Key::parse(&long), Err(KeyError::Long));
        let long = format!("base64:{}", "AAAA".repeat(MAX_KEY / 3 + 1));
        assert_eq!(Key::parse(&long), Err(KeyError::Long));
    }

    #[test]
    fn is_not_shown() {
        let key = Key::parse("text:hidden").unwrap();
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "Key(…) Some(Key(…))");
    }

    #[test]
    fn weak_and_equal() {
        let key = |length| Key::new(vec![7; length]);
        assert!(key(WEAK_KEY - 1).is_weak() && !key(WEAK_KEY).is_weak());
        assert_eq!(key(16), key(16));
        assert_ne!(key(16), key(17));
        assert_ne!(key(2), Key::new(vec![7, 8]));
    }

    proptest! {
        #[test]
        fn hex_reads_back(bytes in proptest::collection::vec(any::<u8>(), 1..MAX_KEY)) {
            let key = Key::new(bytes);
            prop_assert_eq!(Key::from_hex(key.to_hex().as_bytes()), Ok(key));
        }
    }
}
