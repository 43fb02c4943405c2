//! What the client and its connection share.

use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::outbox::Outbox;
use super::owner::Owner;
use super::subscriptions::Subscriptions;

pub(super) struct Shared {
    pub(super) outbox: Outbox,
    /// Where gateways say which devices are theirs.
    pub(super) owner: Option<Owner>,
    pub(super) subscriptions: Mutex<Subscriptions>,
    /// Set off by a change of the subscriptions.
    pub(super) changed: Notify,
    /// No new command of QoS 1 or 2 is taken.
    pub(super) pausing: AtomicBool,
    /// The connection ends as soon as everything is acknowledged.
    pub(super) closing: AtomicBool,
    /// Messages of the broker that are handled and not acknowledged yet, by their number.
    pub(super) handled: Mutex<Vec<u64>>,
    /// Set off by a change of the three.
    pub(super) control: Notify,
}
