//! What the gateway's threads and the broker's main thread share.

use std::sync::Arc;

use super::abi::Level;
use super::outbox::Outbox;
use super::wake::Bell;
use crate::host::{Host, Publish};
use crate::memory::Memory;
use crate::runtime;
use crate::telemetry::limited;

/// See the module.
pub(super) struct Shared {
    pub(super) outbox: Outbox,
    pub(super) bell: Arc<Bell>,
}

impl Shared {
    pub(super) fn log(&self, level: Level, line: String) {
        self.outbox.log(level, line);
        self.bell.ring();
    }
}

impl Host for Shared {
    fn name(&self) -> &'static str {
        "mosquitto"
    }

    fn takes_states(&self) -> bool {
        true
    }

    fn attach(&self, memory: &Arc<Memory>) {
        self.outbox.attach(memory);
    }

    fn publish(&self, batch: &mut Vec<Publish>) {
        let overflow = self.outbox.push(batch);
        self.bell.ring();
        if overflow {
            limited!(
                WARN,
                self.outbox.counters,
                runtime::monotonic(),
                PublishDropped,
                "messages dropped: the broker does not take them fast enough"
            );
        }
    }

    /// The broker shows every message to its plugins.
    fn subscribe(&self, _: &str, _: u8) {}

    fn unsubscribe(&self, _: &str) {}
}
