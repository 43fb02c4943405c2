//! One thread: wait, receive, let the engine work, send, publish.

#![allow(unsafe_code)] // poll(2)

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tracing::warn;

use super::Clock;
use super::mailbox::{Mail, Mailbox};
use crate::engine::{
    AuthorizationId, Decision, DeviceEvent, DeviceInfo, Engine, Output, Peer, RegistrationRequest,
};
use crate::host::{AuthorizationRequest, Host, Publish};
use crate::telemetry::Counters;
use crate::time::{Instant, Now};
use crate::transport::udp::{BATCH, ReceiveBuffers, UdpSocket};

/// Batches received from one socket before the others get their turn.
const BATCHES_PER_TURN: usize = 4;

/// How long requests under way may still be answered after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_millis(500);

pub(super) struct Shard {
    pub(super) engine: Engine,
    /// By listener index.
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) mailbox: Arc<Mailbox>,
    /// Of all shards, by shard index.
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) host: Arc<dyn Host>,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
}

/// Effects collected during one turn.
#[derive(Default)]
struct Effects {
    /// By listener index.
    transmits: Vec<Vec<(SocketAddr, Vec<u8>)>>,
    publishes: Vec<Publish>,
    device_events: Vec<DeviceEvent>,
}

impl Shard {
    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let mut buffers = ReceiveBuffers::default();
        let mut mail = Vec::new();
        let mut effects = Effects::default();
        effects.transmits.resize_with(self.sockets.len(), Vec::new);
        let mut deadline = None;
        let mut busy = false;
        let mut stop_at = None;
        loop {
            let wait_until = [deadline, stop_at].into_iter().flatten().min();
            self.wait(wait_until, busy);
            busy = false;
            let now = self.clock.now();

            self.mailbox.take(&mut mail);
            for item in mail.drain(..) {
                match item {
                    Mail::Command(input) => self.engine.handle_command(now, input),
                    Mail::Handoff(handoff) => self.engine.handle_handoff(now, handoff),
                    Mail::Authorization(id, decision) => {
                        self.engine.handle_authorization(now, id, decision);
                    }
                    Mail::Kick(endpoint) => self.engine.kick(&endpoint),
                    Mail::Devices(which, to) => self.list(now, which.as_deref(), &to),
                    Mail::Reconfigure(settings, models) => {
                        self.engine.reconfigure(settings, models)
                    }
                    Mail::Stop => stop_at = Some(now.mono + STOP_GRACE),
                }
                deadline = self.drain(&mut effects);
            }
            for listener in 0..self.sockets.len() {
                for _ in 0..BATCHES_PER_TURN {
                    let received =
                        self.receive(now, listener, &mut buffers, &mut deadline, &mut effects);
                    busy |= received == BATCH;
                    if received < BATCH {
                        break;
                    }
                }
            }
            if deadline.is_some_and(|at| at <= now.mono) {
                self.engine.handle_timeout(now);
                deadline = self.drain(&mut effects);
            }
            if stop_at.is_some_and(|at| at <= now.mono || self.engine.is_quiet()) {
                self.engine.shut_down();
                self.drain(&mut effects);
                self.flush(&mut effects);
                return;
            }
            self.flush(&mut effects);
        }
    }

    fn receive(
        &mut self,
        now: Now,
        listener: usize,
        buffers: &mut ReceiveBuffers,
        deadline: &mut Option<Instant>,
        effects: &mut Effects,
    ) -> usize {
        let Some(socket) = self.sockets.get(listener) else {
            return 0;
        };
        let received = match socket.receive(buffers) {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "receive");
                return 0;
            }
        };
        let listener = u16::try_from(listener).unwrap_or(u16::MAX);
        for (address, datagram) in buffers.datagrams() {
            let peer = Peer {
                listener,
                address,
                session: 0,
            };
            self.engine.handle_datagram(now, peer, datagram);
            *deadline = self.drain(effects);
        }
        received
    }

    /// Collects the engine's effects; returns its next deadline.
    fn drain(&mut self, effects: &mut Effects) -> Option<Instant> {
        loop {
            match self.engine.poll_output() {
                Output::Transmit { to, datagram } => {
                    if let Some(batch) = effects.transmits.get_mut(usize::from(to.listener)) {
                        batch.push((to.address, datagram));
                    }
                }
                Output::Publish(publish) => effects.publishes.push(publish),
                Output::Subscribe {
                    endpoint,
                    mountpoint,
                    filter,
                    qos,
                } => (self.host).subscribe_device(&endpoint, &mountpoint, &filter, qos),
                Output::Unsubscribe { endpoint, filter } => {
                    self.host.unsubscribe_device(&endpoint, &filter);
                }
                Output::Authorize { id, request } => self.authorize(id, request),
                Output::DeviceEvent(event) => effects.device_events.push(event),
                Output::Disconnect(_) => {}
                Output::Handoff { shard, handoff } => {
                    if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
                        // Only commands are ever refused, and this is none.
                        let _ = mailbox.push(Mail::Handoff(handoff));
                    }
                }
                Output::Idle(next) => return next.map(|(at, _)| at),
            }
        }
    }

    /// Asks the host, whose answer comes back by mail.
    fn authorize(&self, id: AuthorizationId, registration: RegistrationRequest) {
        let mailbox = self.mailbox.clone();
        let answer = move |decision: Option<Decision>| {
            let decision = decision.unwrap_or(Decision::Unavailable);
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Authorization(id, decision));
        };
        self.host.authorize(AuthorizationRequest {
            registration,
            answer: Some(Box::new(answer)),
        });
    }

    fn list(&self, now: Now, which: Option<&str>, to: &Sender<Vec<DeviceInfo>>) {
        let devices = match which {
            Some(endpoint) => self.engine.device_info(now, endpoint).into_iter().collect(),
            None => self.engine.device_infos(now),
        };
        // Whoever asked may have given up.
        let _ = to.send(devices);
    }

    fn flush(&mut self, effects: &mut Effects) {
        for (socket, batch) in self.sockets.iter().zip(&mut effects.transmits) {
            if !batch.is_empty() {
                let failed = socket.send(batch);
                self.counters.datagrams_send_failed.add(failed as u64);
                batch.clear();
            }
        }
        if !effects.device_events.is_empty() {
            self.host.device_events(&mut effects.device_events);
            effects.device_events.clear();
        }
        if !effects.publishes.is_empty() {
            self.host.publish(&mut effects.publishes);
            effects.publishes.clear();
        }
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
            .sockets
            .iter()
            .map(|socket| poll_fd(socket.as_fd().as_raw_fd()))
            .collect();
        fds.push(poll_fd(self.mailbox.as_fd().as_raw_fd()));
        let count = libc::nfds_t::try_from(fds.len()).unwrap_or(0);
        // SAFETY: `fds` holds `count` live entries. An error (a signal) is a wake-up like any.
        unsafe { libc::poll(fds.as_mut_ptr(), count, timeout) };
    }
}
