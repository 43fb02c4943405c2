//! The sessions of a listener that outlive the process: brought back from the store, and kept there.

use std::sync::Arc;

use super::super::awaited::{Awaited, AwaitedSessions};
use super::{Keeping, Secure, mark};
use crate::dtls::{Certified, SessionId};
use crate::network::{LocalAddress, NetworkPath};
use crate::store::KeptSession;
use crate::time::Instant;

impl Secure {
    /// Sessions of before a restart, which are taken in by [`Secure::restore_some`], or as soon as
    /// their devices speak. To be called before anything else.
    pub(in crate::runtime) fn expect(&mut self, kept: Vec<(u64, KeptSession)>) {
        if let Some(Keeping { locals, .. }) = &self.keeping {
            self.awaited = AwaitedSessions::new(kept, locals);
        }
    }

    /// Takes in at most so many of them; whether there are more.
    pub(in crate::runtime) fn restore_some(&mut self, now: Instant, most: usize) -> bool {
        for _ in 0..most {
            let Some(session) = self.awaited.pop() else {
                break;
            };
            self.take_in(now, *session);
        }
        self.is_restoring()
    }

    /// Whether some are not taken in yet.
    pub(in crate::runtime) fn is_restoring(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Those that are not taken in yet, for whoever goes on in its place.
    pub(in crate::runtime) fn take_awaited(&mut self) -> Vec<(u64, KeptSession)> {
        let left = std::iter::from_fn(|| self.awaited.pop());
        left.map(|it| (it.name, it.kept)).collect()
    }

    /// A session goes on; one whose key has changed or is gone ends.
    fn take_in(&mut self, now: Instant, Awaited { name, kept, path }: Awaited) {
        let is_valid = match &kept.certified {
            Some(certified) => self.settings.context.admits(certified),
            None => match self.settings.credentials.find(&kept.session.identity) {
                Some(found) => mark(&found) == kept.credential,
                None => kept.credential == [0; 8] && self.host.provides_psk(),
            },
        };
        let certified = kept.certified.map(Arc::new);
        if is_valid
            && (self.server)
                .restore(now, path, &kept.session, certified)
                .is_some()
        {
            self.restoring.push_back(name);
            self.counters.dtls_sessions_restored.inc();
        } else if let Some(keeping) = &self.keeping {
            keeping.store.forget(name);
        }
    }

    /// A device that speaks is first.
    pub(super) fn recall(&mut self, now: Instant, from: NetworkPath, datagram: &[u8]) {
        if self.awaited.is_empty() {
            return;
        }
        for session in self.awaited.take_path(from) {
            self.take_in(now, *session);
        }
        if let Some(session) = self.awaited.take_id(datagram) {
            self.take_in(now, *session);
        }
    }

    /// What was to be kept of a session is on the disk.
    pub(in crate::runtime) fn note_kept(&mut self, number: u32, reserved: u64) {
        if let Some(session) = self.numbered(number) {
            self.server.note_kept(session, reserved);
        }
    }

    /// The process ends: sessions that are kept go on with the next one, all others end.
    pub(in crate::runtime) fn suspend(&mut self, now: Instant) {
        if self.keeping.is_none() {
            return self.server.close_all(now);
        }
        let all: Vec<_> = self.sessions.keys().collect();
        for id in all {
            self.keep(id, false);
        }
        self.server.suspend(now);
    }

    pub(super) fn keep(&self, id: SessionId, is_awaited: bool) {
        let (Some(keeping), Some(session)) = (&self.keeping, self.sessions.get(id)) else {
            return;
        };
        let Some(at) = self.server.address_of(id) else {
            return;
        };
        let Some(saved) = self.server.save(id).filter(|_| session.name != 0) else {
            return;
        };
        let local = session.peer(self.listener, at).local;
        let is_known = local != LocalAddress::default();
        let kept = KeptSession {
            listener: (*self.settings.name).into(),
            shard: self.shard,
            local: keeping.locals.address(local).filter(|_| is_known),
            credential: mark(&session.credential),
            session: saved,
            certified: session.certified().map(|it| Certified::clone(it)),
        };
        let waiting = (self.shard, self.listener, session.number);
        (keeping.store).keep(session.name, kept, is_awaited.then_some(waiting));
    }
}
