//! The threads of a gateway: its shards, and one that watches the PSK files.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::clock::{Clock, monotonic};
use super::error::StartError;
use super::gateway::{Gateway, Inner};
use super::mail::{Change, Mail};
use super::shard::{self, Shard};
use super::signals::block_signals;
use crate::engine::Settings;
use crate::lwm2m::model::ObjectModels;
use crate::telemetry::LogReason;

/// How often PSK files are looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(2);

impl Gateway {
    /// Starts all of them.
    pub(super) fn start_threads(
        &self,
        settings: &Arc<Settings>,
        models: &Arc<ObjectModels>,
        changes: Vec<Vec<Change>>,
    ) -> Result<(), StartError> {
        let inner = &self.inner;
        let clock = Clock::new();
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
                ),
                plan,
                index,
                directory: inner.directory.clone(),
                memory: inner.memory.clone(),
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
            self.start_thread(format!("lwm2m-{index}"), move || shard.run())?;
        }
        let watched = Arc::downgrade(inner);
        self.start_thread("lwm2m-files".to_owned(), move || watch_files(&watched))
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
