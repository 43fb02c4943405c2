//! The threads of a gateway: its shards, and one that watches the PSK files.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::clock::{Clock, monotonic};
use super::error::StartError;
use super::gateway::{Gateway, Inner, STORE_THREAD};
use super::mail::{Change, Mail};
use super::shard::{self, Shard};
use super::signals::block_signals;
use crate::engine::{Restored, Settings, ShardId};
use crate::lwm2m::model::ObjectModels;
use crate::store::{Clocks, Opened};
use crate::telemetry::LogReason;
use crate::time::Instant;

/// How often PSK files are looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(2);

impl Gateway {
    /// Starts all of them.
    pub(super) fn start_threads(
        &self,
        settings: &Arc<Settings>,
        models: &Arc<ObjectModels>,
        changes: Vec<Vec<Change>>,
        opened: Option<Opened>,
    ) -> Result<(), StartError> {
        let inner = &self.inner;
        let (clock, mut restored) = self.start_store(opened)?;
        let (done, restoring) = mpsc::channel::<()>();
        let count = u16::try_from(inner.mailboxes.len()).unwrap_or(u16::MAX);
        let session_numbers = Arc::new(AtomicU32::new(1));
        let stopped = Arc::new(AtomicUsize::new(0));
        let shards = inner.mailboxes.iter().zip(&inner.counters).zip(changes);
        for (index, ((mailbox, counters), changes)) in (0..).zip(shards) {
            let (engine_seed, shard_seed) = (seed()?, seed()?);
            let plan = (settings.clone(), models.clone());
            let shard = Shard {
                engine: shard::engine(
                    plan.clone(),
                    counters.clone(),
                    (inner.directory.clone(), inner.memory.clone()),
                    (index, count),
                    engine_seed,
                    &*inner.host,
                    inner.store.is_some(),
                ),
                plan,
                index,
                directory: inner.directory.clone(),
                memory: inner.memory.clone(),
                store: inner.store.clone(),
                restored_at: None,
                restored: restored
                    .get_mut(usize::from(index))
                    .map(mem::take)
                    .unwrap_or_default(),
                listeners: Vec::new(),
                mailbox: mailbox.clone(),
                mail: Vec::new(),
                mail_bytes: 0,
                stop_at: None,
                stopped: stopped.clone(),
                mailboxes: inner.mailboxes.clone(),
                host: inner.host.clone(),
                counters: counters.clone(),
                clock,
                session_numbers: session_numbers.clone(),
                rng: ChaCha8Rng::from_seed(shard_seed),
                gate: shard::gate(settings, inner.mailboxes.len()),
                refusals: 0,
            };
            // Only commands are ever refused.
            let mail = Mail::Reconfigure(settings.clone(), models.clone(), changes);
            let _ = mailbox.push(mail);
            let done = done.clone();
            self.start_thread(format!("lwm2m-{index}"), move || {
                let mut shard = shard;
                shard.restore();
                drop(done);
                shard.run();
            })?;
        }
        drop(done);
        // Commands for devices that are not back yet would be answered 4.04. Nothing is ever sent
        // here: it ends when the last shard is done.
        let _ = restoring.recv();
        let watched = Arc::downgrade(inner);
        self.start_thread("lwm2m-files".to_owned(), move || watch_files(&watched))
    }

    /// Starts the thread of the store, if there is one. Returns the clock, which goes on where the
    /// store has left it, and what each shard has to take in.
    fn start_store(
        &self,
        opened: Option<Opened>,
    ) -> Result<(Clock, Vec<Vec<Restored>>), StartError> {
        let inner = &self.inner;
        let (Some(mut opened), Some(store)) = (opened, inner.store.clone()) else {
            return Ok((Clock::new(), Vec::new()));
        };
        let contents = mem::take(&mut opened.contents);
        let now = Clock::new().now();
        let known = contents.clocks.as_ref();
        let clock = Clock::at(known.map_or(Instant::ZERO, |clocks| {
            clocks.continued(&Clocks::now(now.mono, now.unix_ms))
        }));
        let mut restored = Vec::new();
        restored.resize_with(inner.mailboxes.len(), Vec::new);
        for device in contents.devices {
            // The kernel brings it to the shard where it was, if there are as many as before.
            let shard = usize::from(device.device.shard) % inner.mailboxes.len().max(1);
            if let Some(of_shard) = restored.get_mut(shard) {
                of_shard.push(device);
            }
        }
        let mailboxes = inner.mailboxes.clone();
        let confirm = move |shard: ShardId, endpoint: &Arc<str>, number| {
            if let Some(mailbox) = mailboxes.get(usize::from(shard)) {
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::Stored(endpoint.clone(), number));
            }
        };
        let time = Box::new(move || clock.now());
        let writer = opened.writer(store, inner.memory.clone(), time, Box::new(confirm));
        self.start_thread(STORE_THREAD.to_owned(), move || writer.run())?;
        Ok((clock, restored))
    }

    /// Starts a thread that leaves signals to the host and logs where the caller logs.
    fn start_thread(
        &self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let log = tracing::dispatcher::get_default(Clone::clone);
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || {
                block_signals();
                tracing::dispatcher::with_default(&log, run);
            })
            .map_err(|source| StartError::System {
                what: "thread",
                source,
            })?;
        self.inner.threads.lock().push(thread);
        Ok(())
    }
}

fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::System {
        what: "random numbers",
        source: io::Error::other(error.to_string()),
    })?;
    Ok(seed)
}

/// Reads PSK files again when they change, until the gateway stops.
fn watch_files(gateway: &Weak<Inner>) {
    while let Some(inner) = gateway.upgrade() {
        if inner.stop.wait(FILE_INTERVAL) {
            return;
        }
        let lines = &inner.own_counters.lines;
        if lines
            .admit(monotonic(), LogReason::MemoryExceeded)
            .is_some()
        {
            inner.memory.rearm();
        }
        let changed = inner.listeners.lock().read_files();
        for listener in changed {
            for mailbox in &inner.mailboxes {
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::CheckKeys(listener));
            }
        }
    }
}
