//! The part of the server that deals with sessions that outlive the process.

use std::sync::Arc;

use super::super::certified::Certified;
use super::super::identity::Identity;
use super::super::saved::SavedSession;
use super::super::session::Session;
use super::super::table::Key;
use super::super::{CloseReason, Output, SessionId};
use super::Server;
use crate::network::NetworkPath;
use crate::time::Instant;

impl Server {
    /// Sessions of our own record layer are to be kept from now on: [`Output::Keep`] says when.
    pub fn begin_keeping(&mut self) {
        self.is_keeping = true;
    }

    /// A session as it is now; `None`: it is over, or OpenSSL's.
    pub fn save(&self, session: SessionId) -> Option<SavedSession> {
        self.sessions.get(session.0)?.save()
    }

    /// What [`Server::save`] gave is on the disk.
    pub fn note_kept(&mut self, session: SessionId, reserved: u64) {
        if let Some(session) = self.sessions.get_mut(session.0) {
            session.note_kept(reserved);
        }
    }

    /// Takes in a session of before a restart, which is kept already ([`SavedSession::skip`]), of a device
    /// whose certificate is still good ([`Context::admits`](super::super::Context::admits)) if it was let in
    /// by one. `None`: it cannot be used any more.
    pub fn restore(
        &mut self,
        now: Instant,
        peer: NetworkPath,
        saved: &SavedSession,
        certified: Option<Arc<Certified>>,
    ) -> Option<SessionId> {
        let identity = Identity::new(&saved.identity);
        let (protection, suite) = super::super::session::Own::restore(saved)?;
        if !self.context.options.suites.contains(&suite) {
            return None;
        }
        let id = protection.id();
        if id.is_some_and(|id| self.session_of_id(id).is_some()) {
            return None;
        }
        let key = self.take_in(now, peer, identity.clone(), suite, protection);
        if id.is_none() || self.peers.session(&self.sessions, peer).is_none() {
            self.peers.set_session(&self.sessions, peer, key);
        }
        let session = SessionId(key);
        self.outputs.push_back(Output::Established {
            peer,
            session,
            identity,
            resumed: true,
            suite,
            key: None,
            certified,
        });
        Some(session)
    }

    /// Ends without a word to devices whose sessions are kept; all others are told.
    pub fn suspend(&mut self, _now: Instant) {
        self.abandon_handshakes();
        for key in self.sessions.keys() {
            if self.sessions.get(key).is_some_and(Session::is_of_openssl) {
                self.close_session(key, CloseReason::Local);
            }
        }
    }

    /// Asks for a session to be kept, if it is time for that.
    pub(super) fn keep_if_due(&mut self, key: Key) {
        if !self.is_keeping {
            return;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(is_awaited) = session.take_due() {
            self.outputs.push_back(Output::Keep {
                session: SessionId(key),
                is_awaited,
            });
        }
    }
}
