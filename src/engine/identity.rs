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
    /// As sent in the handshake, suffix included.
    pub presented: Arc<[u8]>,
    /// As configured.
    public: Public,
}

/// What is configured: most often what is presented, or that without a suffix.
#[derive(Debug, Clone)]
enum Public {
    /// So many bytes of it.
    Prefix(u16),
    Other(Box<[u8]>),
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.presented == other.presented
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.presented.hash(state);
    }
}

impl Heap for Identity {
    fn heap(&self) -> usize {
        let public = match &self.public {
            Public::Prefix(_) => 0,
            Public::Other(public) => block(public.len()),
        };
        block(self.presented.len().saturating_add(16)) + public
    }
}

impl Identity {
    /// From the store.
    pub(super) fn of_stored(stored: &StoredIdentity) -> Self {
        Self::new((*stored.presented).into(), &stored.public)
    }

    fn new(presented: Arc<[u8]>, public: &[u8]) -> Self {
        let length = u16::try_from(public.len()).ok();
        let length = length.filter(|_| presented.starts_with(public));
        let public = length.map_or_else(|| Public::Other(public.into()), Public::Prefix);
        Self { presented, public }
    }

    /// As configured.
    pub fn public(&self) -> &[u8] {
        match &self.public {
            Public::Prefix(length) => self.presented.get(..usize::from(*length)),
            Public::Other(public) => Some(&**public),
        }
        .unwrap_or_default()
    }

    /// For people; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.presented).into_owned()
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
        for public in ["fleet.7", "fleet", "", "other", "fleet.7.8"] {
            let identity = identity(public.as_bytes());
            assert_eq!(identity.public(), public.as_bytes());
            let is_prefix = "fleet.7".starts_with(public);
            assert_eq!(identity.heap() > block(16 + 7), !is_prefix, "{public}");
        }
    }
}
