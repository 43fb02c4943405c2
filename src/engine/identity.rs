//! Who is at the other end of a DTLS session.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::credentials::Credential;

/// Who is at the other end of a DTLS session. Two are equal when the presented identities are.
#[derive(Debug, Clone)]
pub struct Identity {
    /// As sent in the handshake, suffix included.
    pub presented: Arc<[u8]>,
    /// As configured.
    pub public: Box<[u8]>,
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

impl Identity {
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
    /// By which key.
    pub credential: Arc<Credential>,
}

impl SecureSession {
    /// A session of `presented`, proved by `credential`.
    pub fn new(presented: &[u8], credential: Arc<Credential>) -> Self {
        let identity = Identity {
            presented: presented.into(),
            public: credential.identity.clone(),
        };
        Self {
            identity: Arc::new(identity),
            credential,
        }
    }
}
