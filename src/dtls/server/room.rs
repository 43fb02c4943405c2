//! The part of the server that deals with too many sessions: which of them give way.

use std::time::Duration;

use super::super::shares::Victim;
use super::super::table::Key;
use super::super::{CloseReason, Output, SessionId};
use super::Server;
use crate::time::Instant;

/// A busy session is not put behind the others of its credential and source with each record, but
/// after so long, and when it is its turn to give way.
const GRAIN: Duration = Duration::from_secs(15);

/// Sessions that are put behind the others for one that gives way, at most.
const MAX_MOVED: usize = 32;

impl Server {
    /// Whose key a session has, where that is not the identity that it presented: a credential may
    /// serve identities with suffixes. Its sessions are counted together.
    pub fn set_credential(&mut self, session: SessionId, identity: &[u8]) {
        let SessionId(key) = session;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.seat.owner().as_bytes() == identity {
            return;
        }
        self.idle.remove(&session.seat, key);
        let owner = self.context.shares.lock().owner(identity);
        session.seat.set_owner(owner);
        self.idle.touch(&self.sessions, key);
        self.is_crowded = true;
    }

    /// Another server of the listener had [`Output::Crowded`] to say: closes sessions of this one
    /// that should give way.
    pub fn give_way(&mut self) {
        self.is_crowded = true;
        self.make_room(false);
    }

    /// Keeps to [`Options::max_sessions`](super::super::Options::max_sessions) and the limits beside
    /// it. Not done at once with the session that is too many: it may displace an older one of its
    /// identity, and who it belongs to is said afterwards. Others are `told` when it is their turn.
    pub(super) fn make_room(&mut self, told: bool) {
        // One for each session that came: a lowered limit drops nothing.
        let mut is_over = self.is_crowded && self.context.is_over();
        while self.is_crowded {
            let Some(victim) = self.context.shares.lock().victim(is_over) else {
                break;
            };
            is_over = false;
            let key = match &victim {
                // Not the one that has just come, while others have older ones.
                Victim::Any if told && self.sessions.len() < 2 => None,
                _ => self.idlest(&victim),
            };
            let Some(key) = key else {
                if told {
                    self.outputs.push_back(Output::Crowded);
                }
                break;
            };
            self.counters.dtls_sessions_evicted.inc();
            if victim != Victim::Any {
                self.counters.dtls_sessions_over_share.inc();
            }
            self.close_session(key, CloseReason::Evicted);
        }
        self.is_crowded = false;
    }

    /// The session of this server that was not used for the longest time among those of `victim`.
    fn idlest(&mut self, victim: &Victim) -> Option<Key> {
        for _ in 0..MAX_MOVED {
            let key = self.first_of(victim)?;
            let used = self.order.used(key)?;
            let Some(session) = self.sessions.get_mut(key) else {
                break;
            };
            if session.unnoted(used).is_zero() {
                break;
            }
            session.note(used);
            self.idle.touch(&self.sessions, key);
        }
        self.first_of(victim)
    }

    fn first_of(&self, victim: &Victim) -> Option<Key> {
        match victim {
            Victim::Any => self.order.first().map(|(key, _)| key),
            group => self.idle.first(&self.sessions, group),
        }
    }

    /// A session was used.
    pub(super) fn note_use(&mut self, now: Instant, key: Key) {
        self.order.touch(now, key);
        if let Some(session) = self.sessions.get_mut(key)
            && session.unnoted(now) >= GRAIN
        {
            session.note(now);
            self.idle.touch(&self.sessions, key);
        }
    }
}
