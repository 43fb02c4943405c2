//! One thread: wait, receive, let the engine work, send, publish.

#![allow(unsafe_code)] // poll(2)

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use tracing::error;

use super::clock::Clock;
use super::host::{Host, Subscriptions};
use super::mail::{Change, Mail, SecureSettings};
use super::mailbox::Mailbox;
use super::secure::{Keeping, Secure};
use crate::admission::{AccessRules, Gate};
use crate::config::StoreSync;
use crate::engine::{
    DeviceEvent, DeviceInfo, Directory, Engine, EngineOptions, GoneReason, Peer, Settings, ShardId,
};
use crate::lwm2m::model::ObjectModels;
use crate::memory::{Kind, Memory};
use crate::mqtt::Publish;
#[cfg(feature = "http")]
use crate::mqtt::ReplyTo;
use crate::network::NetworkPath;
use crate::store::{KeptSession, Log, NotDurable, Receipt, Store, Word};
use crate::telemetry::{Counters, limited};
use crate::time::{Instant, Now};
use crate::transport::udp::{BATCH, ReceiveBuffers, UdpSocket};

/// Devices of the store, and DTLS sessions of each listener, that are taken in before it is looked
/// whether something has come.
const RESTORED_PER_TURN: usize = 64;

/// Datagrams taken from one socket before the others get their turn.
const DATAGRAMS_PER_TURN: usize = 4 * BATCH;

/// Batches received from one socket for that: more than enough when most datagrams are refused,
/// which costs little. A flood has to be read faster than it comes, or the kernel drops datagrams
/// of everybody.
const BATCHES_PER_TURN: usize = 64;

/// How long requests under way may still be answered after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// How long a shard that begins anew waits for the store to say what it has.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// How long after a panic another one costs the shard everything.
const STORE_PAUSE: Duration = Duration::from_secs(60);

/// Between two looks at whether the other shards have come to their end.
const STOP_STEP: Duration = Duration::from_millis(2);

pub(super) struct Shard {
    pub(super) engine: Engine,
    /// What the engine was made of.
    pub(super) plan: (Arc<Settings>, Arc<ObjectModels>),
    pub(super) index: ShardId,
    pub(super) directory: Arc<Directory>,
    pub(super) memory: Arc<Memory>,
    /// Where changes are kept, if they are.
    pub(super) store: Option<Arc<Store>>,
    /// When a panic was last the reason to ask the store.
    pub(super) restored_at: Option<Instant>,
    /// Where DTLS sessions are kept, if they are.
    pub(super) sessions: Option<Keeping>,
    /// What is there for this shard, by listener, until the listener opens.
    pub(super) kept: HashMap<Box<str>, Vec<(u64, KeptSession)>>,
    pub(super) listeners: Vec<Listener>,
    pub(super) mailbox: Arc<Mailbox>,
    /// Taken from the mailbox, the oldest last. Outlives a panic, as does the order to stop.
    pub(super) mail: Vec<Mail>,
    /// Charged for it.
    pub(super) mail_bytes: usize,
    pub(super) stop_at: Option<Instant>,
    /// Shards that only refuse commands by now.
    pub(super) stopped: Arc<AtomicUsize>,
    /// Of all shards, by shard index.
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) host: Arc<dyn Host>,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
    /// When this turn began.
    pub(super) turn: Instant,
    /// Numbers DTLS sessions across the shards.
    pub(super) session_numbers: Arc<AtomicU32>,
    /// For the secrets of DTLS listeners.
    pub(super) rng: ChaCha8Rng,
    pub(super) gate: Gate,
    /// Datagrams that were refused and not reported yet.
    pub(super) refusals: u64,
    /// Where what the HTTP API waits for is left.
    #[cfg(feature = "http")]
    pub(super) hub: Arc<crate::http::Hub>,
    /// Somebody listens to what happens, as of this turn.
    #[cfg(feature = "http")]
    pub(super) tapped: bool,
}

/// What came of one batch.
#[derive(Clone, Copy, Default)]
struct Batch {
    received: usize,
    /// Of these, how many were looked at.
    taken: usize,
}

/// A listener in this shard.
pub(super) struct Listener {
    pub(super) number: u16,
    pub(super) socket: UdpSocket,
    /// What the engine wants to send, or its DTLS session.
    pub(super) transmits: Vec<(NetworkPath, Vec<u8>)>,
    pub(super) secure: Option<Secure>,
    pub(super) access: Arc<AccessRules>,
    /// Datagrams the kernel has dropped at this socket; wraps around.
    pub(super) overrun: u32,
}

/// Effects collected during one turn.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) publishes: Vec<Publish>,
    pub(super) device_events: Vec<DeviceEvent>,
    /// For the store.
    pub(super) changes: Log,
    /// For the store, once the broker has the answers among `publishes`.
    pub(super) answered: Log,
    /// To be told when everything before is safe.
    pub(super) receipts: Vec<Receipt>,
}

/// An engine of this gateway.
pub(super) fn engine(
    (settings, models): (Arc<Settings>, Arc<ObjectModels>),
    counters: Arc<Counters>,
    (directory, memory): (Arc<Directory>, Arc<Memory>),
    (shard, shards): (ShardId, u16),
    seed: [u8; 32],
    host: &dyn Host,
    keeps: bool,
) -> Engine {
    let config = settings.config.store.clone();
    let mut engine = Engine::new(EngineOptions {
        settings,
        models,
        counters,
        directory,
        memory,
        shards,
        shard,
        seed,
        per_device_subscriptions: host.subscriptions() == Subscriptions::PerDevice,
        authorize: host.authorizes(),
        device_events: host.watches_devices(),
        states: host.takes_states(),
    });
    if keeps {
        engine.keep(crate::engine::Keeping {
            deadline_interval: config.deadline_interval,
            confirms: config.sync != StoreSync::Off,
        });
    }
    engine
}

/// The gate of one shard.
pub(super) fn gate(settings: &Settings, shards: usize) -> Gate {
    let rates = &settings.config.rates;
    let of_datagrams = [
        rates.datagrams_per_source,
        rates.datagrams,
        rates.datagrams_per_device,
    ];
    Gate::new(of_datagrams, shards)
}

impl Shard {
    /// Runs until told to stop. A panic, which would be a defect of the gateway or of its host,
    /// costs the shard its registrations, but nobody else anything: its devices are told 4.04 and
    /// register again.
    pub(super) fn run(mut self) {
        loop {
            // After a panic nothing of the engine and the sessions is used again.
            match panic::catch_unwind(AssertUnwindSafe(|| self.serve())) {
                Ok(()) => return,
                Err(_) => {
                    error!(
                        shard = self.index,
                        "panic: the shard has lost all registrations except those in the store"
                    );
                    // What comes back must not cause the same again and again.
                    let now = self.clock.now().mono;
                    let before = self.restored_at.replace(now);
                    let from_store = before.is_none_or(|at| now - at > STORE_PAUSE);
                    let mut anew = |from_store| {
                        let anew = || self.begin_anew(from_store);
                        panic::catch_unwind(AssertUnwindSafe(anew)).is_ok()
                    };
                    let begun = from_store && anew(true) || anew(false);
                    if !begun {
                        error!(shard = self.index, "the shard cannot continue");
                        return;
                    }
                }
            }
        }
    }

    /// With what the store has of it, if that is wanted.
    fn begin_anew(&mut self, from_store: bool) {
        self.counters.shard_panics.inc();
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let engine = engine(
            self.plan.clone(),
            self.counters.clone(),
            (self.directory.clone(), self.memory.clone()),
            (
                self.index,
                u16::try_from(self.mailboxes.len()).unwrap_or(u16::MAX),
            ),
            seed,
            &*self.host,
            self.store.is_some(),
        );
        #[cfg(feature = "http")]
        {
            self.tapped = false;
        }
        let mut old = std::mem::replace(&mut self.engine, engine);
        self.engine.inherit(&mut old);
        let lost = old.abandon();
        let reason = GoneReason::Lost;
        let known: HashSet<String> = lost.iter().cloned().collect();
        let gone = |endpoint| DeviceEvent::Gone { endpoint, reason };
        self.host
            .device_events(&mut lost.into_iter().map(gone).collect());
        if let Some(store) = self.store.clone().filter(|_| from_store) {
            let mut devices = store.devices(STORE_PATIENCE);
            devices.retain(|it| known.contains(&*it.device.endpoint));
            self.engine.restore(self.clock.now(), devices);
        }
        for index in 0..self.listeners.len() {
            let Some(listener) = self.listeners.get_mut(index) else {
                continue;
            };
            listener.transmits.clear();
            let number = listener.number;
            if let Some(mut secure) = listener.secure.take() {
                let settings = secure.settings();
                let awaited = secure.take_awaited();
                self.kept.insert((*settings.name).into(), awaited);
                self.set_secure(number, settings);
            }
        }
    }

    fn serve(&mut self) {
        let mut buffers = ReceiveBuffers::default();
        let mut effects = Effects::default();
        let mut deadline = None;
        // After a panic mail may be left, and what devices of the store want.
        let mut busy = !self.mail.is_empty() || self.is_restoring();
        if !self.listeners.is_empty() {
            deadline = self.drain(self.clock.now(), &mut effects);
            self.flush(&mut effects);
        }
        loop {
            let wait_until = [deadline, self.stop_at].into_iter().flatten().min();
            self.wait(wait_until, busy);
            busy = false;
            let now = self.clock.now();
            self.turn = now.mono;
            #[cfg(feature = "http")]
            self.look_for_listeners();

            if self.mail.is_empty() {
                self.mail_bytes += self.mailbox.take(&mut self.mail);
                self.mail.reverse();
            }
            while let Some(item) = self.mail.pop() {
                self.open(now, item, &mut effects);
                deadline = self.drain(now, &mut effects);
            }
            let done = std::mem::take(&mut self.mail_bytes);
            if done > 0 {
                self.memory.release(Kind::Mailboxes, done);
            }
            let mut fill = 0;
            for index in 0..self.listeners.len() {
                let (mut taken, mut more) = (0, true);
                for _ in 0..BATCHES_PER_TURN {
                    let batch = self.receive(now, index, &mut buffers, &mut deadline, &mut effects);
                    taken += batch.taken;
                    more = batch.received == BATCH;
                    if !more || taken >= DATAGRAMS_PER_TURN {
                        break;
                    }
                }
                if more {
                    busy = true;
                    fill = fill.max(self.backlog(index));
                }
            }
            self.gate.begin_turn(fill);
            self.report_refusals(now.mono);
            if deadline.is_some_and(|at| at <= now.mono) {
                self.engine.handle_timeout(now);
                for secure in self.secure_listeners() {
                    secure.handle_timeout(now.mono);
                }
                deadline = self.drain(now, &mut effects);
            }
            // Listeners are open by now, and whatever has come was first.
            if self.is_restoring() {
                busy |= self.restore_some(now);
                deadline = self.drain(now, &mut effects);
            }
            if self
                .stop_at
                .is_some_and(|at| at <= now.mono || self.engine.is_quiet())
            {
                return self.finish(now, &mut effects);
            }
            self.flush(&mut effects);
        }
    }

    fn is_restoring(&mut self) -> bool {
        self.engine.is_restoring() || self.secure_listeners().any(|it| it.is_restoring())
    }

    /// Takes in some of the devices and of the sessions that the store has; whether there are more.
    fn restore_some(&mut self, now: Now) -> bool {
        let mut more = self.engine.restore_some(now, RESTORED_PER_TURN);
        for secure in self.secure_listeners() {
            more |= secure.restore_some(now.mono, RESTORED_PER_TURN);
        }
        more
    }

    /// Answers what is left, and what other shards still send until all are at this point.
    fn finish(&mut self, now: Now, effects: &mut Effects) {
        self.engine.shut_down();
        self.drain(now, effects);
        for secure in self.secure_listeners() {
            secure.suspend(now.mono);
        }
        self.drain(now, effects);
        self.flush(effects);
        self.listeners.clear();
        self.stopped.fetch_add(1, Ordering::AcqRel);
        let until = now.mono + STOP_GRACE;
        let shards = self.mailboxes.len();
        while self.stopped.load(Ordering::Acquire) < shards && self.clock.now().mono < until {
            self.open_all(effects);
            self.wait(Some(self.clock.now().mono + STOP_STEP), false);
        }
        // From here on commands come back to whoever brings them.
        self.mailbox.close();
        self.open_all(effects);
    }

    fn open_all(&mut self, effects: &mut Effects) {
        let now = self.clock.now();
        loop {
            if self.mail.is_empty() {
                self.mail_bytes += self.mailbox.take(&mut self.mail);
                self.mail.reverse();
            }
            let Some(item) = self.mail.pop() else {
                let done = std::mem::take(&mut self.mail_bytes);
                self.memory.release(Kind::Mailboxes, done);
                return self.flush(effects);
            };
            // A new configuration would open sockets again.
            if !matches!(item, Mail::Reconfigure(..)) {
                self.open(now, item, effects);
                self.drain(now, effects);
            }
        }
    }

    fn secure_listeners(&mut self) -> impl Iterator<Item = &mut Secure> {
        self.listeners
            .iter_mut()
            .filter_map(|listener| listener.secure.as_mut())
    }

    pub(super) fn listener(&mut self, number: u16) -> Option<&mut Listener> {
        self.listeners
            .iter_mut()
            .find(|listener| listener.number == number)
    }

    pub(super) fn secure(&mut self, number: u16) -> Option<&mut Secure> {
        self.listener(number)?.secure.as_mut()
    }

    /// The commands that came before are with the store by now, or answered; unless their device has
    /// moved to another shard, and they with it.
    fn certify(&self, endpoint: Arc<str>, mut receipt: Receipt, effects: &mut Effects) {
        if self.store.is_none() {
            return receipt.settle(Err(NotDurable::NoStore));
        }
        // As the command before it: also to where the device is only on its way.
        let elsewhere = self.engine.shard_of_absent(&endpoint);
        let mailbox = elsewhere.and_then(|holder| self.mailboxes.get(usize::from(holder)));
        match mailbox {
            Some(mailbox) if receipt.hop() => {
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::Receipt(endpoint, receipt));
            }
            // Nobody knows where the command is by now.
            Some(_) => receipt.settle(Err(NotDurable::Failed)),
            None => effects.receipts.push(receipt),
        }
    }

    fn open(&mut self, now: Now, mail: Mail, effects: &mut Effects) {
        match mail {
            Mail::Command(input) => {
                if let Some(store) = &self.store {
                    self.engine.set_durable(store.is_durable());
                }
                #[cfg(feature = "http")]
                let caught = input.reply.as_deref().and_then(ReplyTo::catcher);
                #[cfg(feature = "http")]
                let caught = caught.map(|number| (input.endpoint.clone(), number));
                self.engine.handle_command(now, input);
                #[cfg(feature = "http")]
                if let Some((endpoint, number)) = caught {
                    self.drain(now, effects);
                    self.tell_queued(now, &endpoint, number);
                }
            }
            #[cfg(feature = "http")]
            Mail::Ask(question) => {
                // It may be about any of them.
                while self.engine.restore_some(now, RESTORED_PER_TURN) {}
                (question.0)(&self.engine, now, &*self);
            }
            Mail::Handoff(handoff) => self.engine.handle_handoff(now, handoff),
            Mail::Authorization(id, decision) => {
                self.engine.handle_authorization(now, id, decision);
            }
            Mail::Kick(endpoint) => self.engine.kick(&endpoint),
            Mail::Stored(endpoint, Word::Noted(number)) => {
                self.engine.handle_stored(now, &endpoint, number);
            }
            Mail::Stored(endpoint, Word::Lost) => self.engine.store_again(&endpoint),
            Mail::Receipt(endpoint, receipt) => self.certify(endpoint, receipt, effects),
            Mail::Export(endpoint, to) => {
                if let Some(session) = self.engine.export(now, &endpoint) {
                    // Whoever asked may have given up.
                    let _ = to.send(session);
                }
            }
            Mail::Import(endpoint, session) => {
                self.engine.import(now, &endpoint, *session);
            }
            Mail::Devices(which, to) => self.list(now, which.as_deref(), &to),
            Mail::Key(listener, ticket, key) => {
                if let Some(secure) = self.secure(listener) {
                    secure.handle_key(now.mono, ticket, key);
                }
            }
            Mail::Confirmation(listener, peer, known) => {
                if let Some(secure) = self.secure(listener) {
                    secure.handle_confirmation(now.mono, peer, known);
                }
            }
            Mail::GiveWay(listener) => {
                if let Some(secure) = self.secure(listener) {
                    secure.give_way();
                }
            }
            Mail::Datagram(listener, from, datagram) => {
                if let Some(secure) = self.secure(listener) {
                    secure.handle_datagram(now.mono, from, &datagram);
                }
            }
            Mail::Kept(listener, number, reserved) => {
                if let Some(secure) = self.secure(listener) {
                    secure.note_kept(number, reserved);
                }
            }
            Mail::CheckKeys(listener) => {
                if let Some(secure) = self.secure(listener) {
                    secure.check_credentials(now.mono);
                }
            }
            Mail::Reconfigure(settings, models, changes) => {
                if settings.config.rates != self.plan.0.config.rates {
                    self.gate = gate(&settings, self.mailboxes.len());
                }
                self.plan = (settings.clone(), models.clone());
                self.engine.reconfigure(settings, models);
                for change in changes {
                    self.change(now, change, effects);
                }
                self.set_admission();
            }
            Mail::Stop => self.stop_at = Some(now.mono + STOP_GRACE),
        }
    }

    fn change(&mut self, now: Now, change: Change, effects: &mut Effects) {
        match change {
            Change::Open {
                listener: number,
                socket,
            } => match self.listener(number) {
                Some(listener) => listener.socket = socket,
                None => self.listeners.push(Listener {
                    number,
                    socket,
                    transmits: Vec::new(),
                    secure: None,
                    access: Arc::default(),
                    overrun: 0,
                }),
            },
            Change::Secure { listener, settings } => {
                self.begin_secure(now, listener, settings, effects)
            }
            Change::Credentials { listener, settings } => {
                if let Some(secure) = self.secure(listener) {
                    secure.set_credentials(now.mono, settings);
                }
            }
            Change::Close { listener: number } => {
                if let Some(secure) = self.secure(number) {
                    secure.close_all(now.mono);
                }
                self.engine.close_listener(number);
                self.drain(now, effects);
                self.send();
                self.listeners.retain(|listener| listener.number != number);
            }
        }
    }

    /// Sessions of before end, and are told so.
    fn begin_secure(
        &mut self,
        now: Now,
        number: u16,
        settings: Arc<SecureSettings>,
        effects: &mut Effects,
    ) {
        if let Some(secure) = self.secure(number) {
            secure.close_all(now.mono);
        }
        self.drain(now, effects);
        self.send();
        self.set_secure(number, settings);
    }

    fn set_secure(&mut self, number: u16, settings: Arc<SecureSettings>) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let around = (
            self.host.clone(),
            self.mailbox.clone(),
            self.counters.clone(),
        );
        let shards = ShardId::try_from(self.mailboxes.len()).unwrap_or(ShardId::MAX);
        let place = (self.index, shards);
        let numbers = self.session_numbers.clone();
        let keeping = self.sessions.clone();
        let kept = self.kept.remove(&*settings.name).unwrap_or_default();
        let mut secure = Secure::new(number, settings, place, seed, numbers, around, keeping);
        secure.expect(kept);
        if let Some(listener) = self.listener(number) {
            listener.secure = Some(secure);
        }
        self.set_admission();
    }

    fn receive(
        &mut self,
        now: Now,
        index: usize,
        buffers: &mut ReceiveBuffers,
        deadline: &mut Option<Instant>,
        effects: &mut Effects,
    ) -> Batch {
        let Some(listener) = self.listeners.get(index) else {
            return Batch::default();
        };
        let number = listener.number;
        let received = match listener.socket.receive(buffers) {
            Ok(received) => received,
            Err(error) => {
                limited!(WARN, self.counters, now.mono, Socket, %error, "receive");
                return Batch::default();
            }
        };
        let strict = received > 0 && self.gate.received(now.mono, received);
        let mut taken = 0;
        for (path, datagram) in buffers.datagrams() {
            if !self.admit(now.mono, index, (path, datagram), strict) {
                continue;
            }
            taken += 1;
            let secure = self.listeners.get_mut(index);
            match secure.and_then(|listener| listener.secure.as_mut()) {
                Some(secure) => secure.handle_datagram(now.mono, path, datagram),
                None => {
                    let peer = Peer {
                        listener: number,
                        local: path.local,
                        address: path.remote,
                        session: 0,
                    };
                    self.take_datagram(now, peer, datagram);
                }
            }
            *deadline = self.collect(now, effects);
        }
        self.keep(effects);
        Batch { received, taken }
    }

    /// Gives a datagram to the engine.
    pub(super) fn take_datagram(&mut self, now: Now, peer: Peer, datagram: &[u8]) {
        #[cfg(feature = "http")]
        if self.tapped && self.hub.traces() {
            return self.trace_datagram(now, peer, datagram);
        }
        self.engine.handle_datagram(now, peer, datagram);
    }

    fn list(&mut self, now: Now, which: Option<&str>, to: &Sender<Vec<DeviceInfo>>) {
        let devices = match which {
            Some(endpoint) => {
                self.engine.recall(now, endpoint);
                self.engine.device_info(now, endpoint).into_iter().collect()
            }
            None => {
                while self.engine.restore_some(now, RESTORED_PER_TURN) {}
                self.engine.device_infos(now)
            }
        };
        // Whoever asked may have given up.
        let _ = to.send(devices);
    }

    /// Waits for datagrams, mail or the deadline. A busy shard does not wait.
    fn wait(&self, deadline: Option<Instant>, busy: bool) {
        let timeout = match deadline {
            _ if busy => 0,
            None => -1,
            Some(at) => {
                // Rounded up: waking early would only mean waiting once more.
                let micros = (at - self.clock.now().mono).as_micros();
                libc::c_int::try_from(micros.div_ceil(1000)).unwrap_or(libc::c_int::MAX)
            }
        };
        let poll_fd = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut fds: Vec<libc::pollfd> = self
            .listeners
            .iter()
            .map(|listener| poll_fd(listener.socket.as_fd().as_raw_fd()))
            .collect();
        fds.push(poll_fd(self.mailbox.as_fd().as_raw_fd()));
        let count = libc::nfds_t::try_from(fds.len()).unwrap_or(0);
        // SAFETY: `fds` holds `count` live entries. An error (a signal) is a wake-up like any.
        unsafe { libc::poll(fds.as_mut_ptr(), count, timeout) };
    }
}
