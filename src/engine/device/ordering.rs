//! Commands wait for others that follow a device from shard to shard: see [`Moving`].

use super::moving::{LONGEST, Moving};
use super::state::Device;
use crate::engine::context::Context;
use crate::engine::peer::ShardId;
use crate::engine::sharding::Handoff;
use crate::time::Instant;

impl Device {
    /// It leaves the shard `own`.
    pub(in crate::engine) fn leave(&mut self, own: ShardId, now: Instant) {
        self.expire_moving(now);
        let latest = self.latest;
        let moving = self.moving.get_or_insert_with(|| {
            Box::new(Moving {
                shards: Vec::new(),
                complete: latest,
                word: 0,
                until: now + LONGEST,
            })
        });
        moving.word = 0;
        if !moving.shards.contains(&own) {
            moving.shards.push(own);
        }
    }

    /// Whether the first command that waits has to wait for others that may have been received
    /// before it. Asks for a word if it has not been asked for.
    pub(in crate::engine) fn awaits_others(&mut self, cx: &mut Context<'_>) -> bool {
        self.expire_moving(cx.now.mono);
        let Some(moving) = &mut self.moving else {
            return false;
        };
        let own = cx.env.shard;
        let first = self.queue.front_order();
        if first.is_none_or(|first| first <= moving.complete) {
            return false;
        }
        if moving.word != 0 {
            return true;
        }
        let mut way = moving.way(own);
        let Some(next) = way.pop() else {
            self.moving = None;
            return false;
        };
        moving.word = cx.env.directory.next_number();
        let handoff = Handoff::Flush {
            endpoint: self.endpoint.clone(),
            home: own,
            word: moving.word,
            way,
        };
        cx.effects.hand_off(next, handoff);
        true
    }

    /// A word is back: what could follow the device is here.
    pub(in crate::engine) fn flushed(&mut self, cx: &mut Context<'_>, word: u64) {
        // The word of an earlier stay says nothing of where the device was since.
        if self.moving.take_if(|moving| moving.word == word).is_some() {
            self.pump(cx);
        }
    }

    /// Commands have waited long enough.
    pub(super) fn expire_moving(&mut self, now: Instant) {
        self.moving.take_if(|moving| moving.until <= now);
    }
}
