//! The sessions that can be resumed by their id (RFC 5246 §7.3), in few bytes each: OpenSSL's own object takes
//! a kilobyte, and what is in it is a fifth of that.

use std::collections::VecDeque;
use std::hash::RandomState;

use openssl::ssl::{SslSession, SslSessionRef};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::tables::digest::{Digest, DigestIndex};

/// The sessions of a context that can be resumed.
pub(super) struct Resumption {
    /// At most so many.
    most: usize,
    state: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In the order in which they came; `None` for those that have gone.
    entries: VecDeque<Option<Entry>>,
    /// Number of the first of these.
    first: u32,
    /// Their numbers.
    numbers: DigestIndex,
    /// How many there are.
    length: usize,
}

struct Entry {
    digest: Digest,
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
        inner.forget(digest);
        inner.add(Entry { digest, session });
        let places = self.most.saturating_mul(2);
        while inner.length > self.most || inner.entries.len() > places {
            inner.forget_first();
        }
    }

    /// The session with an id.
    pub(super) fn find(&self, id: &[u8]) -> Option<SslSession> {
        let inner = self.inner.lock();
        let at = inner.place(self.digest(id))?;
        match &inner.entries.get(at)?.as_ref()?.session {
            Resumable::Packed(bytes) => SslSession::from_der(bytes).ok(),
            Resumable::Whole(session) => Some(session.clone()),
        }
    }

    /// A session cannot be resumed any more.
    pub(super) fn forget(&self, session: &SslSessionRef) {
        let digest = self.digest(session.id());
        self.inner.lock().forget(digest);
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
    fn add(&mut self, entry: Entry) {
        let place = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.numbers
            .set(entry.digest, self.first.wrapping_add(place));
        self.entries.push_back(Some(entry));
        self.length = self.length.saturating_add(1);
    }

    fn place(&self, digest: Digest) -> Option<usize> {
        let number = self.numbers.get(digest)?;
        usize::try_from(number.wrapping_sub(self.first)).ok()
    }

    fn forget(&mut self, digest: Digest) {
        let Some(at) = self.place(digest) else {
            return;
        };
        self.numbers.remove(digest);
        if self.entries.get_mut(at).and_then(Option::take).is_some() {
            self.length = self.length.saturating_sub(1);
        }
        while matches!(self.entries.front(), Some(None)) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first = self.first.wrapping_add(1);
            if let Some(entry) = entry {
                self.numbers.remove(entry.digest);
                self.length = self.length.saturating_sub(1);
            }
        }
        if self.entries.capacity() > self.entries.len().saturating_mul(8).max(64) {
            self.entries.shrink_to(self.entries.len().saturating_mul(2));
        }
    }
}
