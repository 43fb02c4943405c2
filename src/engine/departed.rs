//! Where devices went that left for another shard a moment ago: commands that were routed by the
//! old state of the directory follow them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::ShardId;
use crate::time::Instant;

/// Endpoints that left, each until its time is over.
#[derive(Debug, Default)]
pub(super) struct Departed {
    shards: HashMap<Arc<str>, (ShardId, Instant)>,
    /// In order of time; an endpoint that came back or left again leaves a stale element behind.
    order: VecDeque<(Instant, Arc<str>)>,
}

impl Departed {
    pub(super) fn insert(&mut self, endpoint: Arc<str>, shard: ShardId, until: Instant) {
        self.shards.insert(endpoint.clone(), (shard, until));
        self.order.push_back((until, endpoint));
    }

    /// The shard an endpoint went to.
    pub(super) fn get(&self, endpoint: &str) -> Option<ShardId> {
        self.shards.get(endpoint).map(|(shard, _)| *shard)
    }

    /// The endpoint is back: a trail that led on would send its commands round in circles.
    pub(super) fn remove(&mut self, endpoint: &str) {
        self.shards.remove(endpoint);
    }

    /// When [`Departed::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((until, endpoint)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            if self
                .shards
                .get(&endpoint)
                .is_some_and(|(_, known)| *known == until)
            {
                self.shards.remove(&endpoint);
            }
        }
    }

    /// Elements held, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
