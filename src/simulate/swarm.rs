//! All devices of a run on one thread: a socket each, one poll, one heap of deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use super::context::{Clock, Context, Counters, Profile};
use super::device::Device;
use super::download::Downloads;
use super::dtls::{Client, Credentials, Failure, Session};
use super::say::say;
use super::summary::Summary;

/// Devices that may be registering for the first time at once, so that a large run does not lose
/// its own datagrams.
const REGISTERING: usize = 500;
/// Longest wait in one poll: how soon a stop is seen.
const TICK: Duration = Duration::from_millis(50);
/// How long de-registration may take at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Descriptors beside the devices' sockets.
const OTHER_FILES: u64 = 64;

pub(super) struct Swarm {
    profile: Profile,
    poll: Poll,
    server: SocketAddr,
    devices: Vec<Node>,
    client: Option<Client>,
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    counters: Counters,
    out: Vec<Vec<u8>>,
    wire: Vec<Vec<u8>>,
    said: Vec<String>,
    voice: Option<Voice>,
    downloads: Downloads,
    started: usize,
}

/// How devices speak DTLS: what they have in common, and the credentials of each.
pub(super) struct Security {
    pub(super) client: Client,
    pub(super) credentials: Vec<Credentials>,
}

/// A device and its way to the server.
struct Node {
    device: Device,
    socket: UdpSocket,
    session: Option<Session>,
    /// When it takes another port.
    rebind_at: Option<Instant>,
}

impl Node {
    fn deadline(&self) -> Option<Instant> {
        let session = self.session.as_ref().and_then(Session::deadline);
        let others = session.into_iter().chain(self.rebind_at);
        self.device.deadline().into_iter().chain(others).min()
    }
}

fn clock() -> Clock {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Clock {
        mono: Instant::now(),
        unix: unix.as_secs_f64(),
    }
}

impl Swarm {
    pub(super) fn new(
        profile: Profile,
        server: SocketAddr,
        count: usize,
        security: Option<Security>,
    ) -> io::Result<Self> {
        raise_file_limit(count as u64 + OTHER_FILES)?;
        let poll = Poll::new()?;
        let seed = clock().unix.to_bits();
        let (client, credentials) = match security {
            Some(security) => (Some(security.client), security.credentials),
            None => (None, Vec::new()),
        };
        let mut sessions = credentials.into_iter().map(Session::new);
        let mut devices = Vec::with_capacity(count);
        for index in 0..count {
            let mut socket = open(server)?;
            poll.registry()
                .register(&mut socket, Token(index), Interest::READABLE)?;
            devices.push(Node {
                device: Device::new(index, seed, &profile),
                socket,
                session: sessions.next(),
                rebind_at: first_rebind(profile.rebind_every, index, count),
            });
        }
        Ok(Self {
            profile,
            poll,
            server,
            devices,
            client,
            deadlines: BinaryHeap::new(),
            counters: Counters::default(),
            out: Vec::new(),
            wire: Vec::new(),
            said: Vec::new(),
            voice: None,
            downloads: Downloads::new(),
            started: 0,
        })
    }

    /// Runs until `stop` or the end of `duration`, then de-registers.
    pub(super) fn run(
        mut self,
        stop: &AtomicBool,
        send: &AtomicBool,
        duration: Option<Duration>,
        announce: bool,
    ) -> Summary {
        let start = Instant::now();
        let mut registered_in = None;
        self.voice = announce.then(Voice::default);
        let mut events = Events::with_capacity(1024);
        while !stop.load(Ordering::Relaxed)
            && duration.is_none_or(|duration| start.elapsed() < duration)
        {
            self.start_some();
            if send.swap(false, Ordering::Relaxed) {
                for index in 0..self.started {
                    self.with(index, Device::send_soon);
                }
            }
            self.step(&mut events);
            if registered_in.is_none() && self.counters.settled == self.devices.len() {
                let took = start.elapsed();
                registered_in = Some(took);
                if announce {
                    let (registered, all) = (self.counters.registered, self.devices.len());
                    let took = took.as_secs_f64();
                    say(
                        &mut io::stdout(),
                        &format!("registered {registered} of {all} in {took:.2} s"),
                    );
                }
            }
        }
        self.leave(&mut events);
        self.speak();
        let registered_in = registered_in.unwrap_or_else(|| start.elapsed());
        Summary::new(self.devices.len(), registered_in, &self.counters)
    }

    fn start_some(&mut self) {
        while self.started < self.devices.len()
            && self.started - self.counters.settled < REGISTERING
        {
            let index = self.started;
            self.started += 1;
            self.with(index, Device::start);
        }
    }

    fn leave(&mut self, events: &mut Events) {
        let end = Instant::now() + FAREWELL;
        let mut last = 0;
        let mut waiting = Vec::new();
        while Instant::now() < end {
            waiting.retain(|index| {
                self.devices
                    .get(*index)
                    .is_some_and(|node: &Node| !node.device.is_gone())
            });
            while last < self.started && waiting.len() < REGISTERING {
                self.with(last, Device::leave);
                waiting.push(last);
                last += 1;
            }
            if waiting.is_empty() {
                break;
            }
            self.step(events);
        }
        for node in &mut self.devices {
            if let Some(session) = &mut node.session {
                session.close(&mut self.wire);
                transmit(&node.socket, &mut self.wire);
            }
        }
    }

    /// Waits for a datagram or a deadline and handles what there is.
    fn step(&mut self, events: &mut Events) {
        let now = Instant::now();
        let wait = self.deadlines.peek().map_or(TICK, |Reverse((at, _))| {
            at.saturating_duration_since(now).min(TICK)
        });
        if self.poll.poll(events, Some(wait)).is_err() {
            return; // interrupted by a signal
        }
        for event in events.iter() {
            self.receive(event.token().0);
        }
        while let Some((index, result)) = self.downloads.next() {
            self.with(index, |device, ctx| device.on_download(ctx, result));
        }
        self.speak();
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            // A deadline that has moved is in the heap once more.
            let due = self.devices.get(index).and_then(Node::deadline);
            if due.is_some_and(|due| due <= now) {
                self.rebind(index, now);
                self.with_session(index, |session, wire| {
                    session.on_timeout(now, wire).map(|()| Vec::new())
                });
                self.with(index, Device::on_timeout);
            }
        }
    }

    /// Says what people may want to know.
    fn speak(&mut self) {
        match &mut self.voice {
            Some(voice) => voice.say(self.said.drain(..)),
            None => self.said.clear(),
        }
    }

    fn receive(&mut self, index: usize) {
        let mut buffer = [0; 2048];
        loop {
            let Some(node) = self.devices.get(index) else {
                return;
            };
            match node.socket.recv(&mut buffer) {
                Ok(length) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    if node.session.is_some() {
                        self.with_session(index, |session, wire| session.receive(datagram, wire));
                    } else {
                        self.with(index, |device, ctx| device.on_datagram(ctx, datagram));
                    }
                }
                // A refused port shows here; the retransmission deals with it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.with(index, Device::on_refused);
                }
                Err(_) => return,
            }
        }
    }

    /// Calls the device, sends what it wants sent and notes the next deadline.
    fn with(&mut self, index: usize, action: impl FnOnce(&mut Device, &mut Context<'_>)) {
        let Some(node) = self.devices.get_mut(index) else {
            return;
        };
        let before = node.deadline();
        let now = clock();
        let mut wanted = None;
        let mut ctx = Context {
            clock: now,
            profile: &self.profile,
            out: &mut self.out,
            counters: &mut self.counters,
            said: &mut self.said,
            wanted: &mut wanted,
        };
        action(&mut node.device, &mut ctx);
        let unheard = node.device.take_unheard();
        let mut failed = None;
        match (&mut node.session, &self.client) {
            (Some(session), Some(client)) => {
                if unheard {
                    session.close(&mut self.wire);
                }
                for message in self.out.drain(..) {
                    let sent = session.send(client, now.mono, message, &mut self.wire);
                    failed = sent.err().or(failed);
                }
            }
            _ => self.wire.append(&mut self.out),
        }
        transmit(&node.socket, &mut self.wire);
        if let Some(failure) = failed {
            self.lost(index, failure);
        }
        if let Some(uri) = wanted {
            self.downloads.fetch(index, uri);
        }
        self.note_deadline(index, before, now.mono);
    }

    /// Calls the session of a device, and hands the device the messages that come of it.
    fn with_session(
        &mut self,
        index: usize,
        action: impl FnOnce(&mut Session, &mut Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure>,
    ) {
        let Some(node) = self.devices.get_mut(index) else {
            return;
        };
        let before = node.deadline();
        let Some(session) = &mut node.session else {
            return;
        };
        let was_established = session.is_established();
        let result = action(session, &mut self.wire);
        if session.is_established() && !was_established {
            self.counters.handshakes += 1;
        }
        transmit(&node.socket, &mut self.wire);
        match result {
            Ok(messages) => {
                for message in messages {
                    self.with(index, |device, ctx| device.on_datagram(ctx, &message));
                }
            }
            Err(failure) => self.lost(index, failure),
        }
        self.note_deadline(index, before, Instant::now());
    }

    /// Takes another port, if it is time: what was under way to the old one is lost.
    fn rebind(&mut self, index: usize, now: Instant) {
        let every = self.profile.rebind_every;
        let Some(node) = self.devices.get_mut(index) else {
            return;
        };
        if node.rebind_at.is_none_or(|at| at > now) {
            return;
        }
        node.rebind_at = Some(now + every);
        // Before its registration there is nothing that a NAT could forget.
        if node.device.is_registered()
            && let Ok(mut socket) = open(self.server)
            && (self.poll.registry())
                .register(&mut socket, Token(index), Interest::READABLE)
                .is_ok()
        {
            node.socket = socket;
            self.counters.rebinds += 1;
        }
        self.deadlines.push(Reverse((now + every, index)));
    }

    fn lost(&mut self, index: usize, failure: Failure) {
        self.counters.connections_lost += 1;
        let reason = failure.to_string();
        self.counters.last_failure = Some(failure);
        let Some(node) = self.devices.get_mut(index) else {
            return;
        };
        let mut ctx = Context {
            clock: clock(),
            profile: &self.profile,
            out: &mut self.out,
            counters: &mut self.counters,
            said: &mut self.said,
            wanted: &mut None,
        };
        node.device.on_connection_lost(&mut ctx, &reason);
    }

    fn note_deadline(&mut self, index: usize, before: Option<Instant>, now: Instant) {
        match self.devices.get(index).and_then(Node::deadline) {
            Some(at) if before != Some(at) || at <= now => {
                self.deadlines.push(Reverse((at, index)));
            }
            _ => {}
        }
    }
}

/// Says what devices have to say, a few lines a second: ten thousand devices that nobody answers
/// say the same.
#[derive(Debug, Default)]
struct Voice {
    since: Option<Instant>,
    lines: usize,
    left_out: usize,
}

impl Voice {
    const LINES_PER_SECOND: usize = 10;

    fn say(&mut self, lines: impl Iterator<Item = String>) {
        let now = Instant::now();
        if (self.since).is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            if self.left_out > 0 {
                let left_out = self.left_out;
                say(
                    &mut io::stdout(),
                    &format!("and {left_out} more of this kind"),
                );
            }
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        for line in lines {
            if self.lines < Self::LINES_PER_SECOND {
                self.lines += 1;
                say(&mut io::stdout(), &line);
            } else {
                self.left_out += 1;
            }
        }
    }
}

/// A socket on a port of its own.
fn open(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into(),
        SocketAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket)
}

/// When a device takes another port for the first time: all of them one after the other.
fn first_rebind(every: Duration, index: usize, count: usize) -> Option<Instant> {
    let share = index as f64 / count.max(1) as f64;
    (!every.is_zero()).then(|| Instant::now() + every + every.mul_f64(share))
}

/// What cannot be sent is lost, as on a radio; CoAP and DTLS repeat what matters.
fn transmit(socket: &UdpSocket, wire: &mut Vec<Vec<u8>>) {
    for datagram in wire.drain(..) {
        let _ = socket.send(&datagram);
    }
}

/// Raises the limit of open files to `wanted` where the hard limit allows it.
#[allow(unsafe_code)] // the standard library has no call for resource limits
fn raise_file_limit(wanted: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for the call to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur >= wanted {
        return Ok(());
    }
    limit.rlim_cur = wanted.min(limit.rlim_max);
    // SAFETY: `limit` is a valid rlimit, only read by the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
