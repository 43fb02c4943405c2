//! The threads of a gateway: its shards, and one that watches the PSK files.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::clock::{Clock, monotonic};
use super::error::StartError;
use super::gateway::{Gateway, Inner, STORE_THREAD};
use super::mail::{Change, Mail};
use super::secure::Keeping;
use super::shard::{self, Shard};
use super::signals::block_signals;
use super::trimming::Trimming;
use crate::config::StoreSync;
use crate::engine::{Restored, Settings, ShardId};
use crate::lwm2m::model::ObjectModels;
use crate::store::{Clocks, KeptSession, Opened, OpenedSessions};
use crate::system;
use crate::telemetry::{Counters, LogReason};
use crate::time::Instant;

/// DTLS sessions that a shard has to take in, by listener.
type KeptSessions = HashMap<Box<str>, Vec<(u64, KeptSession)>>;

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
        sessions: Option<OpenedSessions>,
    ) -> Result<(), StartError> {
        let inner = &self.inner;
        let mut kept = self.start_session_store(settings, sessions)?;
        let (clock, mut restored) = self.start_store(opened)?;
        let count = u16::try_from(inner.mailboxes.len()).unwrap_or(u16::MAX);
        let session_numbers = Arc::new(AtomicU32::new(1));
        let stopped = Arc::new(AtomicUsize::new(0));
        let shards = inner.mailboxes.iter().zip(&inner.counters).zip(changes);
        let mut ready = Vec::new();
        for (index, ((mailbox, counters), changes)) in (0..).zip(shards) {
            let (engine_seed, shard_seed) = (seed()?, seed()?);
            let plan = (settings.clone(), models.clone());
            let mut shard = Shard {
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
                sessions: inner.sessions.clone().map(|store| Keeping {
                    store,
                    locals: inner.directory.locals().clone(),
                }),
                kept: kept
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
                turn: Instant::ZERO,
                clock,
                session_numbers: session_numbers.clone(),
                rng: ChaCha8Rng::from_seed(shard_seed),
                gate: shard::gate(settings, inner.mailboxes.len()),
                refusals: 0,
                #[cfg(feature = "http")]
                hub: inner.hub.clone(),
                #[cfg(feature = "http")]
                tapped: false,
            };
            let restored = restored.get_mut(usize::from(index)).map(mem::take);
            let restored = restored.unwrap_or_default();
            shard.engine.expect(clock.now(), restored);
            // Only commands are ever refused.
            let mail = Mail::Reconfigure(settings.clone(), models.clone(), changes);
            let _ = mailbox.push(mail);
            ready.push(shard);
        }
        // Whoever is asked for a device of another shard must know where it is: all have their places.
        for shard in ready {
            self.start_thread(format!("lwm2m-{}", shard.index), move || shard.run())?;
        }
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
        let tell = move |shard: ShardId, endpoint: &Arc<str>, word| {
            if let Some(mailbox) = mailboxes.get(usize::from(shard)) {
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::Stored(endpoint.clone(), word));
            }
        };
        let time = Box::new(move || clock.now());
        let writer = opened.writer(store, inner.memory.clone(), time, Box::new(tell));
        self.start_thread(STORE_THREAD.to_owned(), move || writer.run())?;
        Ok((clock, restored))
    }

    /// Starts the thread that keeps DTLS sessions, if there is one. Returns what each shard has to take
    /// in, by listener.
    fn start_session_store(
        &self,
        settings: &Settings,
        opened: Option<OpenedSessions>,
    ) -> Result<Vec<KeptSessions>, StartError> {
        let inner = &self.inner;
        let mut kept = Vec::new();
        kept.resize_with(inner.mailboxes.len(), KeptSessions::default);
        let Some(mut opened) = opened else {
            return Ok(kept);
        };
        let listeners = inner.listeners.lock();
        for (name, session) in mem::take(&mut opened.sessions) {
            // Its records name their shard, if there are as many as before. Else the kernel brings it
            // to where it was.
            let Some(context) = listeners.context(&session.listener) else {
                opened.store.forget(name);
                continue;
            };
            let shard = context.shard_of(&session.session).unwrap_or(session.shard);
            match kept.get_mut(usize::from(shard)) {
                Some(of_shard) => {
                    let of_listener = of_shard.entry(session.listener.clone()).or_default();
                    of_listener.push((name, session));
                }
                None => opened.store.forget(name),
            }
        }
        drop(listeners);
        let mailboxes = inner.mailboxes.clone();
        let confirm = move |(shard, listener, number): (u16, u16, u32), reserved| {
            if let Some(mailbox) = mailboxes.get(usize::from(shard)) {
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::Kept(listener, number, reserved));
            }
        };
        let together = match settings.config.store.sync {
            StoreSync::Always => Duration::ZERO,
            StoreSync::Every(together) => together,
            StoreSync::Off => Duration::from_millis(50),
        };
        let writer = opened.writer(together, Box::new(confirm));
        self.start_thread(STORE_THREAD.to_owned(), move || writer.run())?;
        Ok(kept)
    }

    /// Starts a thread that leaves signals to the host and logs where the caller logs.
    pub(super) fn start_thread(
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

/// Reads PSK files again when they change, and gives free memory back after many handshakes, until the
/// gateway stops.
fn watch_files(gateway: &Weak<Inner>) {
    let mut trimming = Trimming::default();
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
        inner.read_files();
        if trimming.is_due(inner.passed()) {
            system::trim_heap();
        }
    }
}

impl Inner {
    /// Completed handshakes, and devices and sessions that the store brought back. What strangers can
    /// cause does not count: giving memory back takes a moment for all threads.
    fn passed(&self) -> u64 {
        let of_shard = |it: &Arc<Counters>| {
            let numbers = [
                &it.dtls_handshakes_completed,
                &it.dtls_sessions_restored,
                &it.store_restored,
            ];
            numbers.iter().map(|number| number.get()).sum::<u64>()
        };
        self.counters.iter().map(of_shard).sum()
    }

    /// Reads the files that have changed.
    pub(super) fn read_files(&self) {
        let changed = self.listeners.lock().read_files();
        for listener in changed {
            for mailbox in &self.mailboxes {
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::CheckKeys(listener));
            }
        }
    }
}
