//! What shards leave for the thread that writes: bounded in bytes, and nobody waits.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::{Change, Restored, ShardId};
use crate::memory::{Kind, Memory};

/// A change and where it comes from.
pub(super) type Left = (ShardId, Change);

#[derive(Debug, Default)]
struct Inner {
    left: Vec<Left>,
    /// Charged for it.
    bytes: usize,
    /// Somebody waits for its being written.
    urgent: bool,
    closed: bool,
    asked: Vec<Sender<Vec<Restored>>>,
    /// Changes that found no room since this was last asked.
    lost: u64,
}

impl Inner {
    fn is_quiet(&self) -> bool {
        self.left.is_empty() && self.asked.is_empty() && self.lost == 0 && !self.closed
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    inner: Mutex<Inner>,
    changed: Condvar,
    memory: Arc<Memory>,
}

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) left: Vec<Left>,
    /// To be given back once it is written.
    pub(super) bytes: usize,
    pub(super) lost: u64,
    pub(super) asked: Vec<Sender<Vec<Restored>>>,
    /// Nothing more comes.
    pub(super) closed: bool,
}

impl Feed {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            inner: Mutex::new(Inner::default()),
            changed: Condvar::new(),
            memory,
        }
    }

    /// Leaves a change; false when there is no room for it.
    pub(super) fn push(&self, shard: ShardId, change: Change) -> bool {
        let bytes = change.bytes();
        let urgent = matches!(change, Change::Sent { confirm: true, .. });
        // What somebody waits for must arrive.
        if urgent {
            self.memory.reserve(Kind::Store, bytes);
        } else if self.memory.try_reserve(Kind::Store, bytes).is_err() {
            self.inner.lock().lost += 1;
            return false;
        }
        let mut inner = self.inner.lock();
        let wakes = inner.left.is_empty() || urgent && !inner.urgent;
        inner.left.push((shard, change));
        inner.bytes += bytes;
        inner.urgent |= urgent;
        drop(inner);
        if wakes {
            self.changed.notify_one();
        }
        true
    }

    /// Nothing more comes: what is left is to be written at once.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.changed.notify_all();
    }

    /// Somebody wants to know what is written when all of this is.
    pub(super) fn ask(&self, to: Sender<Vec<Restored>>) {
        let mut inner = self.inner.lock();
        inner.asked.push(to);
        inner.urgent = true;
        drop(inner);
        self.changed.notify_all();
    }

    /// Waits for changes, unless some are to be tried `again`, and then `together` for others to be
    /// written with them, unless somebody waits for it.
    pub(super) fn take(&self, again: bool, together: Duration) -> Taken {
        let mut inner = self.inner.lock();
        while !again && inner.is_quiet() {
            self.changed.wait(&mut inner);
        }
        if !together.is_zero() && !inner.urgent && !inner.closed {
            let hurries = |inner: &mut Inner| !inner.urgent && !inner.closed;
            self.changed.wait_while_for(&mut inner, hurries, together);
        }
        inner.urgent = false;
        Taken {
            left: mem::take(&mut inner.left),
            bytes: mem::take(&mut inner.bytes),
            lost: mem::take(&mut inner.lost),
            asked: mem::take(&mut inner.asked),
            closed: inner.closed,
        }
    }
}
