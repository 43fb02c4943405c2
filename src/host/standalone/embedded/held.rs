//! What the broker holds for its subscribers: the bytes of all messages that wait in a queue, in
//! an inbox or for an acknowledgement, whoever's they are, and what gives way when it is too much.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rmqtt::context::ServerContext;

use super::super::outbox;
use super::sessions::Sessions;
use crate::memory::{Kind, Memory, Reservation};

/// Bytes held. A message counts once, however many subscribers wait for it, since they share it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bytes: AtomicUsize,
    memory: OnceLock<Arc<Memory>>,
}

impl Ledger {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What comes from now on is charged to this account as well.
    pub(super) fn attach(&self, memory: &Arc<Memory>) {
        // Once only; a second one would be a defect, and counts nothing.
        let _ = self.memory.set(Arc::clone(memory));
    }

    /// The same payload, which counts until its last clone is dropped.
    pub(super) fn count(self: &Arc<Self>, topic: usize, payload: Bytes) -> Bytes {
        // An owner without payload would be dropped at once.
        if payload.is_empty() {
            return payload;
        }
        let bytes = outbox::size(topic, payload.len());
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let memory = self.memory.get();
        let charged = memory.map(|it| Reservation::forced(it, Kind::Outboxes, bytes));
        Bytes::from_owner(Counted {
            payload,
            bytes,
            _charged: charged,
            ledger: Arc::clone(self),
        })
    }
}

struct Counted {
    payload: Bytes,
    bytes: usize,
    _charged: Option<Reservation>,
    ledger: Arc<Ledger>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ledger.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes messages from the sessions that have most of them, waiting or without acknowledgement,
/// until at most `goal` bytes are held; those without a connection give way first, or alone with
/// `absent_only`. Returns how many.
pub(super) async fn relieve(
    context: &ServerContext,
    ledger: &Ledger,
    goal: usize,
    absent_only: bool,
    kept: &Sessions,
) -> u64 {
    let sessions: Vec<_> = context
        .extends
        .shared()
        .await
        .iter()
        .filter_map(|entry| entry.session())
        .collect();
    let mut victims = Vec::with_capacity(sessions.len());
    for session in &sessions {
        let connected = session.connected().await.unwrap_or(false);
        let in_flight = session.out_inflight().read().await.len();
        let messages = session.deliver_queue().len().saturating_add(in_flight);
        if messages > 0 && !(absent_only && connected) {
            victims.push((connected, Reverse(messages), session));
        }
    }
    victims.sort_by_key(|(connected, messages, _)| (*connected, *messages));
    let mut dropped = 0;
    // Each step takes a message, so that this ends with them.
    for (_, _, session) in victims {
        while ledger.bytes() > goal {
            let publish = match session.deliver_queue().pop() {
                Some((_, publish)) => publish,
                None => match session.out_inflight().write().await.pop_front() {
                    Some(message) => message.publish,
                    None => break,
                },
            };
            kept.done(&session.id.client_id, &publish);
            dropped += 1;
        }
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c9_a_message_counts_until_its_last_subscriber_has_it() {
        let ledger = Arc::new(Ledger::default());
        let payload = ledger.count(10, Bytes::from(vec![7; 1000]));
        let bytes = outbox::size(10, 1000);
        assert_eq!(ledger.bytes(), bytes);
        let clones = vec![payload.clone(); 5];
        let part = payload.slice(990..);
        assert_eq!(ledger.bytes(), bytes);
        drop((payload, clones));
        assert_eq!((ledger.bytes(), &part[..]), (bytes, &[7; 10][..]));
        drop(part);
        assert_eq!(ledger.bytes(), 0);
        assert!(ledger.count(10, Bytes::new()).is_empty());
        assert_eq!(ledger.bytes(), 0);
    }
}
