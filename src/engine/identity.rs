//! Who is at the other end of a DTLS session.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use super::stored::StoredIdentity;
use crate::credentials::Credential;
use crate::memory::{Heap, block};

/// Who is at the other end of a DTLS session. Two are equal when the presented identities are.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What is presented, and behind it what is configured, unless it begins with that.
    bytes: Arc<[u8]>,
    /// Bytes of what is presented.
    presented: u16,
    /// What is configured: the bytes from there on.
    public: (u16, u16),
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.presented() == other.presented()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.presented().hash(state);
    }
}

impl Heap for Identity {
    fn heap(&self) -> usize {
        block(self.bytes.len().saturating_add(16))
    }
}

impl Identity {
    /// From the store.
    pub(super) fn of_stored(stored: &StoredIdentity) -> Self {
        Self::new((*stored.presented).into(), &stored.public)
    }

    /// One that is longer than any that comes in a handshake is cut off.
    fn new(presented: Arc<[u8]>, public: &[u8]) -> Self {
        let length = |of: &[u8]| u16::try_from(of.len()).unwrap_or(u16::MAX);
        let (whole, own) = (length(&presented), length(public));
        if presented.starts_with(public) {
            return Self {
                bytes: presented,
                presented: whole,
                public: (0, own),
            };
        }
        Self {
            bytes: [&*presented, public].concat().into(),
            presented: whole,
            public: (whole, whole.saturating_add(own)),
        }
    }

    /// As sent in the handshake, suffix included.
    pub fn presented(&self) -> &[u8] {
        let end = usize::from(self.presented);
        self.bytes.get(..end).unwrap_or_default()
    }

    /// The same for whoever keeps it as well, in one place where that can be.
    pub(super) fn shared(&self) -> Arc<[u8]> {
        if self.bytes.len() == usize::from(self.presented) {
            self.bytes.clone()
        } else {
            self.presented().into()
        }
    }

    /// As configured.
    pub fn public(&self) -> &[u8] {
        let (begin, end) = self.public;
        let place = usize::from(begin)..usize::from(end);
        self.bytes.get(place).unwrap_or_default()
    }

    /// For people; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.presented()).into_owned()
    }
}

/// A DTLS session that is established.
#[derive(Debug, Clone)]
pub struct SecureSession {
    /// Who.
    pub identity: Arc<Identity>,
    /// By which key, and which endpoints are its own.
    pub credential: Arc<Credential>,
    /// Whether a certificate shows who it is, and no key.
    pub is_certified: bool,
    /// Where it is, when that is not the address of its [`Peer`](super::Peer): a device with a
    /// connection id keeps its peer wherever it moves.
    pub address: Option<Box<SocketAddr>>,
    /// The store brought it back: whatever else its identity has connected with is newer.
    pub came_back: bool,
}

impl SecureSession {
    /// A session of `presented`, proved by `credential`.
    pub fn new(presented: &[u8], credential: Arc<Credential>) -> Self {
        Self::of(presented.into(), credential)
    }

    /// The same, where somebody else keeps the identity as well.
    pub(crate) fn of(presented: Arc<[u8]>, credential: Arc<Credential>) -> Self {
        Self {
            identity: Arc::new(Identity::new(presented, &credential.identity)),
            credential,
            is_certified: false,
            address: None,
            came_back: false,
        }
    }

    /// The same, brought back by the store.
    #[must_use]
    pub fn restored(mut self) -> Self {
        self.came_back = true;
        self
    }

    /// The same, proved by a certificate. With `endpoint_rule = "owned"` such a device may register
    /// its own name and what its credential lists, and no other: which names belong to other devices
    /// only those know who issue certificates.
    #[must_use]
    pub fn certified(mut self) -> Self {
        self.is_certified = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_is_kept_once() {
        let identity = |public: &[u8]| Identity::new(b"fleet.7".as_slice().into(), public);
        assert_eq!(size_of::<Identity>(), 24);
        for public in ["fleet.7", "fleet", "", "other", "fleet.7.8"] {
            let identity = identity(public.as_bytes());
            assert_eq!(identity.public(), public.as_bytes());
            assert_eq!(identity.presented(), b"fleet.7");
            assert_eq!(&*identity.shared(), b"fleet.7");
            let more = if "fleet.7".starts_with(public) {
                0
            } else {
                public.len()
            };
            assert_eq!(identity.bytes.len(), 7 + more, "{public}");
        }
    }
}
