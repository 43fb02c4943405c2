//! PSK identities, and how they are read from a ClientKeyExchange before OpenSSL sees it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::record::Fragment;

/// A PSK identity as the device presented it (RFC 4279 §5.1): any bytes, though most are UTF-8.
/// Shown with everything escaped that is not printable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<[u8]>);

impl Identity {
    /// The identity of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes, for whoever keeps them as well.
    pub(crate) fn shared(&self) -> Arc<[u8]> {
        self.0.clone()
    }

    /// Whether OpenSSL can deal with it; its callback gets identities as C strings.
    pub(super) fn is_usable(&self) -> bool {
        self.0.len() <= MAX_IDENTITY && !self.0.contains(&0)
    }
}

/// An identity is found by its bytes.
impl Borrow<[u8]> for Identity {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\'' => write!(f, "{c}")?,
                    _ => write!(f, "{}", c.escape_debug())?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// Longest identity in bytes; OpenSSL's limit. RFC 4279 §5.3 asks for 128.
pub(super) const MAX_IDENTITY: usize = 256;

/// Bytes of a ClientKeyExchange that matter: the identity with its length comes first, both in
/// plain PSK (RFC 4279 §2) and in ECDHE_PSK (RFC 5489 §2).
const MAX_PREFIX: usize = MAX_IDENTITY + 2;

/// Puts the identity together from fragments of a ClientKeyExchange, in any order.
#[derive(Default)]
pub(super) struct IdentityReader {
    /// The beginning of the message, where it is known. Empty until there is a need for it.
    prefix: Vec<Option<u8>>,
}

impl IdentityReader {
    /// Takes a fragment. Returns the identity when it is complete; one that is longer than allowed
    /// counts as complete and is cut off one byte behind the limit.
    pub(super) fn add(&mut self, fragment: &Fragment<'_>) -> Option<Identity> {
        if fragment.offset == 0
            && let Some(identity) = whole(fragment.body)
        {
            return Some(identity);
        }
        if self.prefix.is_empty() {
            self.prefix = vec![None; fragment.length.min(MAX_PREFIX.saturating_add(1))];
        }
        let places = self.prefix.iter_mut().skip(fragment.offset);
        let mut is_news = false;
        for (place, byte) in places.zip(fragment.body) {
            is_news |= place.replace(*byte) != Some(*byte);
        }
        // Repetitions cost no more than their bytes.
        if !is_news {
            return None;
        }
        let known: Vec<u8> = self.prefix.iter().map_while(|byte| *byte).collect();
        whole(&known)
    }
}

/// The identity at the beginning of `bytes`, if it is complete.
fn whole(bytes: &[u8]) -> Option<Identity> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(MAX_IDENTITY.saturating_add(1));
    rest.get(..length).map(Identity::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragment(message: &[u8], from: usize, to: usize) -> Fragment<'_> {
        Fragment {
            kind: 16,
            length: message.len(),
            sequence: 2,
            offset: from,
            body: &message[from..to],
        }
    }

    fn message(identity: &[u8]) -> Vec<u8> {
        let mut message = u16::try_from(identity.len())
            .unwrap()
            .to_be_bytes()
            .to_vec();
        message.extend(identity);
        message.extend([33; 34]);
        message
    }

    #[test]
    fn shown_escaped() {
        let shown = |bytes: &[u8]| Identity::new(bytes).to_string();
        assert_eq!(shown(b"urn:imei:1 x\n\0"), r"urn:imei:1 x\n\0");
        assert_eq!(shown("gerät'\u{202e}".as_bytes()), r"gerät'\u{202e}");
        assert_eq!(shown(b"\xff\\"), r"\xff\\");
        assert!(!Identity::new(b"a\0b").is_usable());
    }

    proptest! {
        #[test]
        fn fragments_in_any_order(
            identity in proptest::collection::vec(any::<u8>(), 0..300),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
            seed: u64,
        ) {
            let message = message(&identity);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let mut parts: Vec<_> = cuts.windows(2).collect();
            let middle = usize::try_from(seed).unwrap_or(0) % parts.len();
            parts.rotate_left(middle);
            let mut reader = IdentityReader::default();
            let mut found = None;
            for part in parts {
                let complete = reader.add(&fragment(&message, part[0], part[1]));
                found = found.or(complete);
            }
            let found = found.unwrap();
            let length = identity.len().min(MAX_IDENTITY + 1);
            prop_assert_eq!(found.as_bytes(), &identity[..length]);
            prop_assert_eq!(found.is_usable(), identity.len() <= 256 && !identity.contains(&0));
        }
    }
}
