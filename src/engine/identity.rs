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
    pub public: Arc<[u8]>,
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
        let is_shared = Arc::ptr_eq(&self.presented, &self.public);
        let public = if is_shared { 0 } else { bytes(&self.public) };
        bytes(&self.presented) + public
    }
}

fn bytes(of: &Arc<[u8]>) -> usize {
    block(of.len().saturating_add(16))
}

impl Identity {
    /// From the store.
    pub(super) fn of_stored(stored: &StoredIdentity) -> Self {
        Self::new((*stored.presented).into(), &stored.public)
    }

    /// Both in one place where they are the same.
    fn new(presented: Arc<[u8]>, public: &[u8]) -> Self {
        let public = if *presented == *public {
            presented.clone()
        } else {
            public.into()
        };
        Self { presented, public }
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
