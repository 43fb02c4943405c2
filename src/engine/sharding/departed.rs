//! Where devices went that left for another shard a moment ago: commands that were routed by the
//! old state of the directory follow them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::peer::ShardId;
use crate::memory::Heap;
use crate::time::Instant;

/// How long a device that was asked of another shard is waited for.
pub(in crate::engine) const HANDOFF_TIMEOUT: Duration = Duration::from_secs(10);

/// Endpoints that left, each until its time is over.
#[derive(Debug, Default)]
pub(in crate::engine) struct Departed {
    shards: HashMap<Arc<str>, (ShardId, Instant)>,
    /// The same in order of time.
    order: BTreeSet<(Instant, Arc<str>)>,
}

/// What a trail takes beside the name, and the device's own note of its move, in bytes.
const TRAIL: usize = 220;

/// What a trail takes.
fn bytes_of(endpoint: &Arc<str>) -> usize {
    TRAIL + endpoint.heap()
}

impl Departed {
    /// Returns the bytes that this takes, and those that it frees.
    pub(in crate::engine) fn insert(
        &mut self,
        endpoint: Arc<str>,
        shard: ShardId,
        until: Instant,
    ) -> (usize, usize) {
        let bytes = bytes_of(&endpoint);
        let mut freed = 0;
        if let Some((_, old)) = self.shards.insert(endpoint.clone(), (shard, until)) {
            self.order.remove(&(old, endpoint.clone()));
            freed = bytes;
        }
        self.order.insert((until, endpoint));
        (bytes, freed)
    }

    /// The shard an endpoint went to.
    pub(in crate::engine) fn get(&self, endpoint: &str) -> Option<ShardId> {
        self.shards.get(endpoint).map(|(shard, _)| *shard)
    }

    /// The endpoint is back: a trail that led on would send its commands round in circles.
    /// Returns the bytes that this frees.
    pub(in crate::engine) fn remove(&mut self, endpoint: &str) -> usize {
        let Some((endpoint, (_, until))) = self.shards.remove_entry(endpoint) else {
            return 0;
        };
        let freed = bytes_of(&endpoint);
        self.order.remove(&(until, endpoint));
        freed
    }

    /// When [`Departed::expire`] has something to do.
    pub(in crate::engine) fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|(until, _)| *until)
    }

    /// Returns the bytes that this frees.
    pub(in crate::engine) fn expire(&mut self, now: Instant) -> usize {
        let mut freed = 0;
        while self.deadline().is_some_and(|until| until <= now)
            && let Some((_, endpoint)) = self.order.pop_first()
        {
            freed += bytes_of(&endpoint);
            self.shards.remove(&endpoint);
        }
        freed
    }

    /// Bytes it takes, counted anew.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn recount(&self) -> usize {
        self.order
            .iter()
            .map(|(_, endpoint)| bytes_of(endpoint))
            .sum()
    }

    /// Endpoints remembered.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_an_endpoint_that_leaves_again_and_again_is_remembered_once() {
        let at = Instant::from_micros;
        let mut departed = Departed::default();
        for time in 0..1000 {
            departed.insert("a".into(), 1, at(time));
            departed.insert("b".into(), 2, at(time + 5));
        }
        assert_eq!((departed.len(), departed.shards.len()), (2, 2));
        departed.remove("b");
        departed.remove("b");
        assert_eq!((departed.len(), departed.deadline()), (1, Some(at(999))));
        departed.expire(at(998));
        assert_eq!(departed.get("a"), Some(1));
        departed.expire(at(999));
        assert_eq!((departed.get("a"), departed.len()), (None, 0));
    }
}
