//! What the client and its connection share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::outbox::Outbox;

pub(super) struct Shared {
    pub(super) outbox: Outbox,
    pub(super) subscriptions: Mutex<Subscriptions>,
    /// Set off by a change of the subscriptions.
    pub(super) changed: Notify,
    /// No new command of QoS 1 or 2 is taken.
    pub(super) pausing: AtomicBool,
    /// The connection ends as soon as everything is acknowledged.
    pub(super) closing: AtomicBool,
    /// Set off by a change of the two.
    pub(super) control: Notify,
}

#[derive(Default)]
pub(super) struct Subscriptions {
    pub(super) wanted: BTreeMap<String, u8>,
    /// What was asked for since the last look, in order.
    pub(super) changes: VecDeque<Change>,
}

pub(super) enum Change {
    Subscribe(String, u8),
    Unsubscribe(String),
}
