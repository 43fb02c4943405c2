//! The way of commands into the gateway, and how it closes at the end.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rmqtt::types::ClientId;

use super::super::common::Commands;
use crate::host::Message;

/// A command is either handed over, and then answered, or not acknowledged.
///
/// MQTT 3.1.1 knows no refusal of a message, few clients of MQTT 5 send again what was refused, and
/// the broker cannot leave a message unacknowledged without ending the connection, which may end only
/// when its client has got every answer. So a client that
/// goes on to send commands at the end has them answered until a marker, put into its inbox behind
/// the last answer, comes out before its next command goes in.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Held for reading while a command is handed over.
    phase: RwLock<Phase>,
    /// Commands handed over.
    passed: AtomicU64,
    /// The newest marker in the inbox of a client.
    marked: Mutex<HashMap<ClientId, u64>>,
    last_marker: AtomicU64,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Open,
    /// Open to those clients that still have to get something, so that they cannot be cut off yet.
    Closing(HashSet<ClientId>),
    Closed,
}

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Through,
    /// Its client has to get something still.
    Owed,
    Refused,
}

impl Gate {
    /// Commands that were handed over, to the end.
    pub(super) fn passed(&self) -> u64 {
        let _none_under_way = self.phase.write();
        self.passed.load(Ordering::Acquire)
    }

    /// From now on only clients of `owed` come through, until each has what it is owed.
    pub(super) fn begin_to_close(&self, owed: HashSet<ClientId>) {
        *self.phase.write() = Phase::Closing(owed);
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Closes, unless more than `passed` commands have come through; whether it is closed.
    pub(super) fn close_after(&self, passed: u64) -> bool {
        let mut phase = self.phase.write();
        let unchanged = self.passed.load(Ordering::Acquire) == passed;
        if unchanged {
            *phase = Phase::Closed;
        }
        unchanged
    }

    /// Closes, whatever is still on its way.
    pub(super) fn close(&self) {
        *self.phase.write() = Phase::Closed;
    }

    /// Whether [`Gate::begin_to_close`] was called.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// What becomes of a command of `client`.
    pub(super) fn verdict(&self, client: Option<&ClientId>) -> Verdict {
        match &*self.phase.read() {
            Phase::Open => Verdict::Through,
            Phase::Closing(owed) if client.is_some_and(|it| owed.contains(it)) => Verdict::Owed,
            Phase::Closing(_) | Phase::Closed => Verdict::Refused,
        }
    }

    /// Hands a command over, if the gate is not closed by now.
    pub(super) fn hand_over(&self, commands: &dyn Commands, message: Message) {
        let phase = self.phase.read();
        if !matches!(*phase, Phase::Closed) {
            self.passed.fetch_add(1, Ordering::AcqRel);
            commands.deliver(message);
        }
    }

    /// Number of a new marker for a client; older ones count no more.
    pub(super) fn mark(&self, client: ClientId) -> u64 {
        let number = self.last_marker.fetch_add(1, Ordering::Relaxed);
        self.marked.lock().insert(client, number);
        number
    }

    /// A marker has come out. If it is the newest one, its client has what it is owed.
    pub(super) fn marker_out(&self, client: &ClientId, number: u64) {
        let mut marked = self.marked.lock();
        if marked.get(client) == Some(&number) {
            marked.remove(client);
            if let Phase::Closing(owed) = &mut *self.phase.write() {
                owed.remove(client);
            }
        }
    }

    /// Whether a marker is still in the inbox of a client.
    pub(super) fn is_marked(&self, client: &ClientId) -> bool {
        self.marked.lock().contains_key(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Commands for Nobody {
        fn is_command(&self, _: &str) -> bool {
            true
        }

        fn deliver(&self, _: Message) {}
    }

    fn command() -> Message {
        Message {
            topic: "t".to_owned(),
            payload: Vec::new(),
            expiry: None,
            reply: None,
        }
    }

    #[test]
    fn c8_a_client_is_cut_off_only_behind_its_last_answer() {
        let gate = Gate::default();
        let (a, b) = (ClientId::from("a"), ClientId::from("b"));
        assert_eq!(gate.verdict(None), Verdict::Through);
        gate.begin_to_close([a.clone()].into());
        assert_eq!(gate.verdict(Some(&a)), Verdict::Owed);
        assert_eq!(gate.verdict(Some(&b)), Verdict::Refused);
        let first = gate.mark(a.clone());
        // A command comes before the marker is out: its answer has a marker of its own.
        let second = gate.mark(a.clone());
        gate.marker_out(&a, first);
        assert!(gate.is_marked(&a));
        assert_eq!(gate.verdict(Some(&a)), Verdict::Owed);
        gate.marker_out(&a, second);
        assert!(!gate.is_marked(&a));
        assert_eq!(gate.verdict(Some(&a)), Verdict::Refused);
    }

    #[test]
    fn c8_it_closes_only_when_nothing_has_come_through_meanwhile() {
        let gate = Gate::default();
        let before = gate.passed();
        gate.hand_over(&Nobody, command());
        assert!(!gate.close_after(before));
        assert!(gate.close_after(gate.passed()));
        let before = gate.passed();
        gate.hand_over(&Nobody, command());
        assert_eq!(gate.passed(), before);
        assert_eq!(gate.verdict(None), Verdict::Refused);
    }
}
