//! The thread that writes: takes what shards have left, puts it together and commits it.

use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tracing::{error, info, warn};

use super::backend::{Backend, Contents};
use super::batch::Batch;
use super::clock::Clocks;
use super::database::Database;
use super::error::StoreError;
use super::feed::{Feed, Taken};
use super::log::Log;
use super::receipt::{NotDurable, Receipt};
use crate::config::StoreSync;
use crate::engine::{Restored, ShardId};
use crate::memory::{Kind, Memory};
use crate::mqtt::Origin;
use crate::telemetry::Counters;
use crate::time::Now;

/// How long a store that cannot be written is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// What a shard is told about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is written that the command of this number is sent.
    Noted(u64),
    /// Changes were lost, and there is room again.
    Lost,
}

/// Tells a shard.
pub(crate) type Tell = Box<dyn Fn(ShardId, &Arc<str>, Word) + Send>;

/// What a store is opened with.
#[derive(Debug)]
pub(crate) struct StoreOptions {
    pub(crate) path: PathBuf,
    pub(crate) sync: StoreSync,
}

/// What shards know of the store.
#[derive(Debug)]
pub(crate) struct Store {
    feed: Feed,
    /// It cannot be written at the moment.
    failing: AtomicBool,
    /// Batches of answers that the broker has not confirmed yet.
    unconfirmed: AtomicUsize,
    counters: Arc<Counters>,
}

/// A store that has been opened, before its thread runs.
pub(crate) struct Opened {
    database: Database,
    sync: StoreSync,
    /// What it has.
    pub(crate) contents: Contents,
}

impl Store {
    /// Takes the directory and reads what is there.
    pub(crate) fn open(options: &StoreOptions, now: Now) -> Result<Opened, StoreError> {
        let syncs = options.sync != StoreSync::Off;
        let (database, contents) = Database::open(&options.path, syncs, now.unix_ms)?;
        if contents.unreadable > 0 {
            warn!(
                records = contents.unreadable,
                "cannot read some records of the store"
            );
        }
        Ok(Opened {
            database,
            sync: options.sync,
            contents,
        })
    }

    pub(crate) fn new(memory: Arc<Memory>, counters: Arc<Counters>) -> Self {
        Self {
            feed: Feed::new(memory),
            failing: AtomicBool::new(false),
            unconfirmed: AtomicUsize::new(0),
            counters,
        }
    }

    /// A shard has something to be kept, all of it in one batch. Never waits.
    pub(crate) fn push(&self, shard: ShardId, changes: &Log) {
        let lost = self.feed.push(shard, changes);
        if lost > 0 {
            self.counters.store_lost.add_shared(lost);
        }
    }

    /// For a batch of answers: what is to be kept, and who is to be told, once the broker has them.
    pub(crate) fn when_answered(
        self: &Arc<Self>,
        shard: ShardId,
        changes: Log,
        receipts: Vec<Receipt>,
    ) -> Receipt {
        let store = Arc::clone(self);
        store.unconfirmed.fetch_add(1, Ordering::AcqRel);
        Receipt::new(move |outcome| {
            // Otherwise the process ends, and they are given again after the next start.
            if outcome.is_ok() {
                store.push(shard, &changes);
                receipts.into_iter().for_each(|it| store.certify(it));
            }
            store.unconfirmed.fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// Whether answers are on their way to the broker.
    pub(crate) fn awaits_broker(&self) -> bool {
        self.unconfirmed.load(Ordering::Acquire) > 0
    }

    /// What is written when everything is that was left so far, from other threads than the
    /// store's; nothing when that takes longer than `patience`.
    pub(crate) fn devices(&self, patience: Duration) -> Vec<Restored> {
        let (to, answer) = mpsc::channel();
        self.feed.ask(to);
        answer.recv_timeout(patience).unwrap_or_default()
    }

    /// Tells somebody when everything is written that was left so far.
    pub(crate) fn certify(&self, receipt: Receipt) {
        self.feed.certify(receipt);
    }

    /// Whether it can be written, as far as is known.
    pub(crate) fn is_durable(&self) -> bool {
        !self.failing.load(Ordering::Acquire)
    }

    /// Nothing more comes; the thread ends when everything is written.
    pub(crate) fn close(&self) {
        self.feed.close();
    }
}

/// The thread of a store.
pub(crate) struct Writer {
    store: Arc<Store>,
    backend: Box<dyn Backend>,
    together: Duration,
    memory: Arc<Memory>,
    /// The clock of the gateway.
    clock: Box<dyn Fn() -> Now + Send>,
    tell: Tell,
    /// Changes that are not written yet, because the last attempt failed.
    kept: Log,
    kept_bytes: usize,
}

impl Opened {
    /// Messages of a broker whose commands it has.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let commands = self.contents.devices.iter().flat_map(|it| &it.commands);
        commands.filter_map(|(command, _)| command.origin).collect()
    }

    /// The thread that writes to it.
    pub(crate) fn writer(
        self,
        store: Arc<Store>,
        memory: Arc<Memory>,
        clock: Box<dyn Fn() -> Now + Send>,
        tell: Tell,
    ) -> Writer {
        Writer {
            store,
            backend: Box::new(self.database),
            together: match self.sync {
                StoreSync::Always => Duration::ZERO,
                StoreSync::Every(together) => together,
                StoreSync::Off => Duration::from_millis(50),
            },
            memory,
            clock,
            tell,
            kept: Log::default(),
            kept_bytes: 0,
        }
    }
}

impl Writer {
    /// Runs until the store is closed and everything is written, or cannot be.
    pub(crate) fn run(mut self) {
        loop {
            let again = !self.kept.is_empty();
            let together = if again { RETRY } else { self.together };
            let mut taken = self.store.feed.take(again, together);
            let (closed, asked) = (taken.closed, mem::take(&mut taken.asked));
            let receipts = mem::take(&mut taken.receipts);
            let complete = taken.lost == 0;
            let written = self.write(taken);
            for receipt in receipts {
                let safe = (written && complete).then_some(());
                receipt.settle(safe.ok_or(NotDurable::Failed));
            }
            for to in asked {
                let contents = self.backend.load().unwrap_or_default();
                // Whoever asked may have given up.
                let _ = to.send(contents.devices);
            }
            if closed && (!written || self.kept.is_empty()) {
                return self.store.feed.end();
            }
        }
    }

    /// Whether everything is written.
    fn write(&mut self, taken: Taken) -> bool {
        let counters = self.store.counters.clone();
        if taken.lost > 0 {
            error!(
                changes = taken.lost,
                "the store cannot keep up: changes are lost"
            );
        }
        self.kept_bytes += taken.bytes;
        let mut log = mem::take(&mut self.kept);
        if log.is_empty() {
            log = taken.left;
        } else {
            log.extend(&taken.left);
        }
        let count = log.len() as u64;
        let batch = Batch::new(log);
        let now = (self.clock)();
        let clocks = Clocks::now(now.mono, now.unix_ms);
        // Commands that were answered meanwhile leave nothing to be written.
        let committed = match batch.is_empty() {
            true => Ok(()),
            false => self.backend.commit(&batch, &clocks),
        };
        let written = match committed {
            Ok(()) => {
                counters.store_commits.add_shared(1);
                counters.store_changes.add_shared(count);
                self.memory
                    .release(Kind::Store, mem::take(&mut self.kept_bytes));
                self.store.feed.give_back(batch.into_log());
                if self.store.failing.swap(false, Ordering::AcqRel) {
                    info!("the store can be written again");
                }
                true
            }
            Err(error) => {
                counters.store_failed.add_shared(1);
                if !self.store.failing.swap(true, Ordering::AcqRel) {
                    error!(%error, "cannot write the store: changes are kept only in memory");
                }
                self.kept = batch.into_rest();
                false
            }
        };
        // The service goes on without the disk.
        for (shard, endpoint, number) in taken.waiting {
            (self.tell)(shard, &endpoint, Word::Noted(number));
        }
        if written {
            for (endpoint, shard) in self.store.feed.take_stale() {
                (self.tell)(shard, &endpoint.into(), Word::Lost);
            }
        }
        written
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
