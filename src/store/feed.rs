//! What shards leave for the thread that writes: bounded in bytes, and nobody waits.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::{Restored, ShardId};
use crate::memory::{Kind as Account, Memory};

use super::log::{Kind, Log};
use super::receipt::{NotDurable, Receipt};

/// Bytes of changes that make the store smaller, which may go beyond the account.
const FREEING_MAX: usize = 32 << 20;

/// Devices at most of which changes were lost and are to be told again.
const STALE_MAX: usize = 100_000;

/// A command that a shard waits to hear of.
pub(super) type Waiting = (ShardId, Arc<str>, u64);

#[derive(Debug, Default)]
struct Inner {
    left: Log,
    /// Charged for it.
    bytes: usize,
    /// An empty one, to be used next.
    spare: Log,
    waiting: Vec<Waiting>,
    /// Somebody waits for its being written.
    urgent: bool,
    closed: bool,
    /// The thread has ended.
    ended: bool,
    asked: Vec<Sender<Vec<Restored>>>,
    receipts: Vec<Receipt>,
    /// Changes that found no room since this was last asked.
    lost: u64,
    /// Devices of which changes were lost, and their shards.
    stale: HashMap<Box<str>, ShardId>,
}

impl Inner {
    fn is_quiet(&self) -> bool {
        self.left.is_empty()
            && self.asked.is_empty()
            && self.receipts.is_empty()
            && self.lost == 0
            && !self.closed
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
    pub(super) left: Log,
    /// Commands in it that shards wait to hear of.
    pub(super) waiting: Vec<Waiting>,
    /// To be given back once it is written.
    pub(super) bytes: usize,
    pub(super) lost: u64,
    pub(super) asked: Vec<Sender<Vec<Restored>>>,
    /// Who wants to know when this is written.
    pub(super) receipts: Vec<Receipt>,
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

    /// Leaves changes, to be taken together. Returns how many found no room.
    pub(super) fn push(&self, shard: ShardId, changes: &Log) -> u64 {
        let mut lost = 0;
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let (empty, hurried) = (inner.left.is_empty(), inner.urgent);
        for at in 0..changes.len() {
            let Some(line) = changes.line(at) else {
                continue;
            };
            let bytes = changes.bytes(at);
            let urgent = line.kind == Kind::Awaited;
            // What somebody waits for must arrive, and what frees room should.
            let freeing = line.kind.frees() && inner.bytes < FREEING_MAX;
            if urgent || freeing {
                self.memory.reserve(Account::Store, bytes);
            } else if self.memory.try_reserve(Account::Store, bytes).is_err() {
                lost += 1;
                if inner.stale.len() < STALE_MAX {
                    inner.stale.insert(line.endpoint.into(), shard);
                }
                continue;
            }
            inner.left.copy(changes, at);
            inner.bytes += bytes;
            if urgent {
                inner.urgent = true;
                let waiting = (shard, line.endpoint.into(), line.number);
                inner.waiting.push(waiting);
            }
        }
        inner.lost += lost;
        let wakes = empty && !inner.left.is_empty() || inner.urgent && !hurried || lost > 0;
        drop(guard);
        if wakes {
            self.changed.notify_one();
        }
        lost
    }

    /// A log that is written is used again.
    pub(super) fn give_back(&self, mut log: Log) {
        log.clear();
        self.inner.lock().spare = log;
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

    /// Somebody wants to be told when all of this is written. There are no more of them than of
    /// commands.
    pub(super) fn certify(&self, receipt: Receipt) {
        let mut inner = self.inner.lock();
        if inner.ended {
            drop(inner);
            return receipt.settle(Err(NotDurable::Failed));
        }
        inner.receipts.push(receipt);
        inner.urgent = true;
        drop(inner);
        self.changed.notify_one();
    }

    /// Nobody takes anything any more.
    pub(super) fn end(&self) {
        let mut inner = self.inner.lock();
        inner.ended = true;
        let receipts = mem::take(&mut inner.receipts);
        drop(inner);
        for receipt in receipts {
            receipt.settle(Err(NotDurable::Failed));
        }
    }

    /// Devices of which changes were lost, to be told again now that there is room.
    pub(super) fn take_stale(&self) -> HashMap<Box<str>, ShardId> {
        mem::take(&mut self.inner.lock().stale)
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
        let next = mem::take(&mut inner.spare);
        Taken {
            left: mem::replace(&mut inner.left, next),
            waiting: mem::take(&mut inner.waiting),
            bytes: mem::take(&mut inner.bytes),
            lost: mem::take(&mut inner.lost),
            asked: mem::take(&mut inner.asked),
            receipts: mem::take(&mut inner.receipts),
            closed: inner.closed,
        }
    }
}
