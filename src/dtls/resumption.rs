//! The sessions that can be resumed by their id (RFC 5246 §7.3), in few bytes each: OpenSSL's own object takes
//! a kilobyte, and what is in it is a fifth of that.

use std::collections::VecDeque;
use std::hash::RandomState;

use openssl::ssl::{SslSession, SslSessionRef};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::digest::{Digest, DigestMap};

/// Room for so many is kept.
const SMALL: usize = 64;

/// The sessions of a context that can be resumed.
pub(super) struct Resumption {
    /// At most so many.
    most: usize,
    state: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: DigestMap<Entry>,
    /// In the order in which they came. One that has gone meanwhile is told apart by its number.
    order: VecDeque<(Digest, u32)>,
    /// Of the next one.
    number: u32,
}

struct Entry {
    number: u32,
    session: Resumable,
}

enum Resumable {
    /// As ASN.1, which holds the master secret.
    Packed(Zeroizing<Box<[u8]>>),
    /// As it is: ASN.1 has only the first certificate of a chain.
    Whole(SslSession),
}

impl Resumption {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            state: RandomState::new(),
            inner: Mutex::default(),
        }
    }

    /// Remembers a session, of a device that has shown a certificate or not. The oldest one gives way.
    pub(super) fn keep(&self, session: SslSession, is_certified: bool) {
        let digest = self.digest(session.id());
        let session = if is_certified {
            Resumable::Whole(session)
        } else {
            match session.to_der() {
                Ok(bytes) => Resumable::Packed(Zeroizing::new(bytes.into())),
                Err(_) => return,
            }
        };
        let mut inner = self.inner.lock();
        let number = inner.number;
        inner.number = number.wrapping_add(1);
        inner.sessions.insert(digest, Entry { number, session });
        inner.order.push_back((digest, number));
        while inner.sessions.len() > self.most {
            let Some((digest, number)) = inner.order.pop_front() else {
                break;
            };
            inner.forget(digest, |entry| entry.number == number);
        }
        inner.tidy();
    }

    /// The session with an id.
    pub(super) fn find(&self, id: &[u8]) -> Option<SslSession> {
        let inner = self.inner.lock();
        match &inner.sessions.get(&self.digest(id))?.session {
            Resumable::Packed(bytes) => SslSession::from_der(bytes).ok(),
            Resumable::Whole(session) => Some(session.clone()),
        }
    }

    /// A session cannot be resumed any more.
    pub(super) fn forget(&self, session: &SslSessionRef) {
        let mut inner = self.inner.lock();
        inner.forget(self.digest(session.id()), |_| true);
        inner.tidy();
    }

    /// None can be resumed any more.
    pub(super) fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }

    fn digest(&self, id: &[u8]) -> Digest {
        Digest::new(&self.state, &id)
    }
}

impl Inner {
    fn forget(&mut self, digest: Digest, is_meant: impl Fn(&Entry) -> bool) {
        if self.sessions.get(&digest).is_some_and(is_meant) {
            self.sessions.remove(&digest);
        }
    }

    /// Drops the places of those that have gone, once they are as many as the others.
    fn tidy(&mut self) {
        if self.order.len() > self.sessions.len().saturating_mul(2).max(SMALL) {
            let sessions = &self.sessions;
            let is_there = |digest, number| sessions.get(&digest).is_some_and(|it| it.number == number);
            self.order.retain(|(digest, number)| is_there(*digest, *number));
            self.order.shrink_to(SMALL.max(self.order.len()));
            self.sessions.shrink_to(SMALL.max(self.sessions.len().saturating_mul(2)));
        }
    }
}
