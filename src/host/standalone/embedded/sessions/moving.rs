//! A session on its way from one connection of its client to the next, and what becomes of messages.

use std::collections::VecDeque;
use std::time::Instant;

use rmqtt::inflight::{MomentStatus, OutInflightMessage};
use rmqtt::session::OfflineInfo;
use rmqtt::types::{From as Origin, Message, Publish, Reason, Tx};

/// A session between two connections: the broker has taken it from the one and not given it to the
/// other yet. What comes meanwhile waits here, behind what was there.
pub(super) struct Moving {
    pub(super) since: Instant,
    pub(super) waiting: VecDeque<(Origin, Publish)>,
    /// What the old connection had; not yet while the broker collects it.
    pub(super) state: Option<OfflineInfo>,
}

/// What became of a message for a client.
pub(in super::super) enum Came {
    /// It is the broker's business alone.
    Untracked(Origin, Publish),
    Taken,
    Failed(Origin, Publish, Reason),
}

pub(super) fn send(inbox: &Tx, origin: Origin, publish: Publish) -> Came {
    match inbox.unbounded_send(Message::Forward(origin, publish)) {
        Ok(()) => Came::Taken,
        Err(error) => match error.into_inner() {
            Message::Forward(origin, publish) => Came::Failed(
                origin,
                publish,
                Reason::from_static("the session has ended"),
            ),
            _ => Came::Taken,
        },
    }
}

/// Sends what was sent before once more (MQTT 5 §4.4).
pub(super) fn resend(inbox: &Tx, mut message: OutInflightMessage) -> Came {
    if message.status != MomentStatus::UnComplete {
        message.publish.dup = true;
        return send(inbox, message.from, message.publish);
    }
    match inbox.unbounded_send(Message::SendRerelease(message)) {
        Ok(()) => Came::Taken,
        Err(error) => match error.into_inner() {
            Message::SendRerelease(message) => {
                let reason = Reason::from_static("the session has ended");
                Came::Failed(message.from, message.publish, reason)
            }
            _ => Came::Taken,
        },
    }
}
