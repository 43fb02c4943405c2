//! A session on its way from one connection of its client to the next, and what becomes of messages.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU16;
use std::time::Instant;

use rmqtt::inflight::{MomentStatus, OutInflightMessage};
use rmqtt::session::OfflineInfo;
use rmqtt::types::{From as Origin, Message, Publish, Reason, Tx};

use super::super::session_file::Flight;

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

/// Puts in what the broker library has lost of what a session still has to get: what it was about to send
/// when the connection broke, what stood behind that when a new connection took over, and releases (PUBREL)
/// that came while the session had no connection.
///
/// `owed` has all that, by number, in order; `number_of` gives the number of a message with a mark.
pub(super) fn complete<'a>(
    state: &mut OfflineInfo,
    waiting: &VecDeque<(Origin, Publish)>,
    owed: impl Iterator<Item = (u64, &'a (Origin, Publish), Option<Flight>)>,
    number_of: impl Fn(Option<u32>) -> Option<u64>,
) {
    let in_flight = state.inflight_messages.iter().map(|it| &it.publish);
    let queued = state.offline_messages.iter().chain(waiting);
    let there: HashSet<u64> = in_flight
        .chain(queued.map(|(_, publish)| publish))
        .filter_map(|publish| number_of(publish.delay_interval))
        .collect();
    let mut lost = VecDeque::new();
    for (number, message, flight) in owed.filter(|(number, ..)| !there.contains(number)) {
        let (origin, mut publish) = message.clone();
        let sent = flight.and_then(|it| Some((NonZeroU16::new(it.packet_id)?, it)));
        let Some((packet_id, flight)) = sent else {
            lost.push_back((number, (origin, publish)));
            continue;
        };
        publish.packet_id = Some(packet_id);
        let status = flight.status(publish.qos);
        let message = OutInflightMessage::new(status, origin, publish);
        state.inflight_messages.push(message);
    }
    if lost.is_empty() {
        return;
    }
    let mut queue = VecDeque::new();
    for queued in std::mem::take(&mut state.offline_messages) {
        let number = number_of(queued.1.delay_interval);
        while let Some((_, message)) =
            lost.pop_front_if(|(before, _)| number.is_some_and(|it| *before < it))
        {
            queue.push_back(message);
        }
        queue.push_back(queued);
    }
    queue.extend(lost.into_iter().map(|(_, message)| message));
    state.offline_messages = queue;
}
