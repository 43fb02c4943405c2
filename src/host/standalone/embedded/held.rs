//! What the broker holds for its subscribers: the bytes of all messages that wait in a queue, in
//! an inbox or for an acknowledgement, whoever's they are, and what gives way when it is too much.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rmqtt::context::ServerContext;

use super::super::outbox;
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

/// Takes the oldest messages out of the longest queues until at most `goal` bytes are held or the
/// queues are empty. Returns how many.
pub(super) async fn relieve(context: &ServerContext, ledger: &Ledger, goal: usize) -> u64 {
    let mut queues: Vec<_> = context
        .extends
        .shared()
        .await
        .iter()
        .filter_map(|entry| entry.session())
        .map(|session| (session.deliver_queue().len(), session))
        .filter(|(waiting, _)| *waiting > 0)
        .collect();
    // The longest first. Each step takes a message, so that this ends with the queues.
    queues.sort_by_key(|(waiting, _)| std::cmp::Reverse(*waiting));
    let mut dropped = 0;
    for (_, session) in queues {
        while ledger.bytes() > goal {
            if session.deliver_queue().pop().is_none() {
                break;
            }
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
