//! The sessions that can be resumed by their id (RFC 5246 §7.3), in few bytes each: OpenSSL's own object takes
//! a kilobyte, and what differs between two of them is a twelfth of that.

mod shape;

use std::collections::VecDeque;
use std::hash::RandomState;

use openssl::ssl::{SslSession, SslSessionRef};
use parking_lot::Mutex;
use zeroize::{Zeroize as _, Zeroizing};

use super::identity::Identity;
use crate::tables::digest::Digest;
use crate::tables::numbers::Numbers;
use shape::{MASTER, Own, Shapes};

/// Entries of a piece of the list.
const PIECE: u32 = 64;

/// The sessions of a context that can be resumed.
pub(super) struct Resumption {
    /// At most so many.
    most: usize,
    state: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In the order in which they came, in pieces of which none but the last one has free places; `None` for those
    /// that have gone.
    pieces: VecDeque<Vec<Option<Entry>>>,
    /// The number of the first place there is, of the first one that may have an entry, and of the next one.
    begin: u32,
    first: u32,
    next: u32,
    /// Their numbers.
    numbers: Numbers,
    /// How many there are.
    length: usize,
    shapes: Shapes,
}

struct Entry {
    digest: Digest,
    session: Resumable,
}

enum Resumable {
    /// What it has of its own. Its id is known to whoever asks for it.
    Packed {
        shape: u16,
        time: u32,
        identity: Identity,
        master: Master,
    },
    /// As ASN.1, which holds the master secret.
    Asn1(Box<Zeroizing<Vec<u8>>>),
    /// As it is: ASN.1 has only the first certificate of a chain.
    Whole(SslSession),
}

/// Zeroed where it is when its entry goes.
struct Master([u8; MASTER]);

impl Drop for Master {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Resumption {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            state: RandomState::new(),
            inner: Mutex::default(),
        }
    }

    /// Remembers a session, of a device that has shown a certificate or not. Whoever keeps its `identity` shares
    /// it. The oldest one gives way.
    pub(super) fn keep(&self, session: SslSession, identity: Option<Identity>, is_certified: bool) {
        let digest = self.digest(session.id());
        let mut inner = self.inner.lock();
        inner.forget(digest);
        if is_certified {
            inner.add(digest, Resumable::Whole(session));
        } else {
            let Ok(der) = session.to_der().map(Zeroizing::new) else {
                return;
            };
            inner.pack(digest, session.id(), identity, der);
        }
        let places = self.most.saturating_mul(2);
        while inner.length > self.most || inner.places() > places {
            inner.forget_first();
        }
    }

    /// The session with an id, and the identity that it has shown if that is kept by itself.
    pub(super) fn find(&self, id: &[u8]) -> Option<(SslSession, Option<Identity>)> {
        let inner = self.inner.lock();
        let number = inner.number(self.digest(id))?;
        match &inner.entry(number)?.session {
            Resumable::Packed {
                shape,
                time,
                identity,
                master,
            } => {
                let own = Own {
                    id,
                    master: &master.0,
                    time: *time,
                    identity: identity.as_bytes(),
                };
                let der = inner.shapes.rebuild(*shape, &own)?;
                Some((SslSession::from_der(&der).ok()?, Some(identity.clone())))
            }
            Resumable::Asn1(der) => Some((SslSession::from_der(der).ok()?, None)),
            Resumable::Whole(session) => Some((session.clone(), None)),
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
    /// Adds a session by what it has of its own, or as a whole if that is not all of it.
    fn pack(
        &mut self,
        digest: Digest,
        id: &[u8],
        known: Option<Identity>,
        der: Zeroizing<Vec<u8>>,
    ) {
        let own = Own::of(&der).filter(|own| own.id == id);
        let shape = own.and_then(|own| self.shapes.enter(&der, &own));
        let (Some(own), Some(shape)) = (own, shape) else {
            return self.add(digest, Resumable::Asn1(Box::new(der)));
        };
        let known = known.filter(|known| known.as_bytes() == own.identity);
        let packed = Resumable::Packed {
            shape,
            time: own.time,
            identity: known.unwrap_or_else(|| Identity::new(own.identity)),
            master: Master([0; MASTER]),
        };
        self.add(digest, packed);
        // Not before it is in its place: what is moved leaves its bytes behind.
        let last = self.pieces.back_mut().and_then(|piece| piece.last_mut());
        if let Some(Some(Entry {
            session: Resumable::Packed { master, .. },
            ..
        })) = last
        {
            master.0.copy_from_slice(own.master);
        }
    }

    fn add(&mut self, digest: Digest, session: Resumable) {
        let is_full = |piece: &Vec<_>| piece.len() >= PIECE as usize;
        if self.pieces.back().is_none_or(is_full) {
            self.pieces.push_back(Vec::with_capacity(PIECE as usize));
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.push(Some(Entry { digest, session }));
            let entries = (&self.pieces, self.begin);
            let hash_of = |number| hash_of(entries, number);
            self.numbers.insert(digest.value(), self.next, hash_of);
            self.next = self.next.wrapping_add(1);
            self.length = self.length.saturating_add(1);
        }
    }

    /// How many places there are from the first entry on.
    fn places(&self) -> usize {
        self.next.wrapping_sub(self.first) as usize
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        let (piece, at) = place(self.begin, number);
        self.pieces.get(piece)?.get(at)?.as_ref()
    }

    fn number(&self, digest: Digest) -> Option<u32> {
        let is_it = |number| self.entry(number).is_some_and(|it| it.digest == digest);
        self.numbers.find(digest.value(), is_it)
    }

    fn forget(&mut self, digest: Digest) {
        let Some(number) = self.number(digest) else {
            return;
        };
        self.free(number);
        while self.first != self.next && self.entry(self.first).is_none() {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        self.free(self.first);
        self.first = self.first.wrapping_add(1);
        if self.first.wrapping_sub(self.begin) == PIECE {
            self.pieces.pop_front();
            self.begin = self.first;
        }
        if self.length == 0 {
            self.pieces = VecDeque::new();
            (self.begin, self.first) = (self.next, self.next);
        }
    }

    /// The entry with this number goes.
    fn free(&mut self, number: u32) {
        let Some(entry) = self.entry(number) else {
            return;
        };
        let hash = entry.digest.value();
        if let Resumable::Packed { shape, .. } = entry.session {
            self.shapes.leave(shape);
        }
        let entries = (&self.pieces, self.begin);
        self.numbers
            .remove(hash, number, |number| hash_of(entries, number));
        // It is dropped where it is, and so is its secret.
        let (piece, at) = place(self.begin, number);
        if let Some(place) = self.pieces.get_mut(piece).and_then(|it| it.get_mut(at)) {
            *place = None;
        }
        self.length = self.length.saturating_sub(1);
    }
}

/// In which piece a number is, and where in it.
const fn place(begin: u32, number: u32) -> (usize, usize) {
    let place = number.wrapping_sub(begin);
    ((place / PIECE) as usize, (place % PIECE) as usize)
}

fn hash_of((pieces, begin): (&VecDeque<Vec<Option<Entry>>>, u32), number: u32) -> u64 {
    let (piece, at) = place(begin, number);
    let entry = pieces.get(piece).and_then(|it| it.get(at)?.as_ref());
    entry.map_or(0, |entry| entry.digest.value())
}

#[cfg(test)]
#[path = "resumption/tests.rs"]
mod tests;
