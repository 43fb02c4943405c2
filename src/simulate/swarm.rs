//! All devices of a run on one thread: a socket each, one poll, one heap of deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use super::Summary;
use super::device::{Clock, Context, Counters, Device, Profile};

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
    devices: Vec<(Device, UdpSocket)>,
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    counters: Counters,
    out: Vec<Vec<u8>>,
    started: usize,
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
    pub(super) fn new(profile: Profile, server: SocketAddr, count: usize) -> io::Result<Self> {
        raise_file_limit(count as u64 + OTHER_FILES)?;
        let poll = Poll::new()?;
        let seed = clock().unix.to_bits();
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into(),
            SocketAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0).into(),
        };
        let mut devices = Vec::with_capacity(count);
        for index in 0..count {
            let mut socket = UdpSocket::bind(any)?;
            socket.connect(server)?;
            poll.registry()
                .register(&mut socket, Token(index), Interest::READABLE)?;
            devices.push((Device::new(index, seed, &profile), socket));
        }
        Ok(Self {
            profile,
            poll,
            devices,
            deadlines: BinaryHeap::new(),
            counters: Counters::default(),
            out: Vec::new(),
            started: 0,
        })
    }

    /// Runs until `stop` or the end of `duration`, then de-registers.
    pub(super) fn run(
        mut self,
        stop: &AtomicBool,
        duration: Option<Duration>,
        announce: bool,
    ) -> Summary {
        let start = Instant::now();
        let mut registered_in = None;
        let mut events = Events::with_capacity(1024);
        while !stop.load(Ordering::Relaxed)
            && duration.is_none_or(|duration| start.elapsed() < duration)
        {
            self.start_some();
            self.step(&mut events);
            if registered_in.is_none() && self.counters.settled == self.devices.len() {
                let took = start.elapsed();
                registered_in = Some(took);
                if announce {
                    let (registered, all) = (self.counters.registered, self.devices.len());
                    let took = took.as_secs_f64();
                    super::say(
                        &mut io::stdout(),
                        &format!("registered {registered} of {all} in {took:.2} s"),
                    );
                }
            }
        }
        self.leave(&mut events);
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
                    .is_some_and(|(device, _): &(Device, UdpSocket)| !device.is_gone())
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
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            // A deadline that has moved is in the heap once more.
            let due = self
                .devices
                .get(index)
                .and_then(|(device, _)| device.deadline());
            if due.is_some_and(|due| due <= now) {
                self.with(index, Device::on_timeout);
            }
        }
    }

    fn receive(&mut self, index: usize) {
        let mut buffer = [0; 2048];
        loop {
            let Some((_, socket)) = self.devices.get(index) else {
                return;
            };
            match socket.recv(&mut buffer) {
                Ok(length) => self.with(index, |device, ctx| {
                    device.on_datagram(ctx, buffer.get(..length).unwrap_or_default());
                }),
                // A refused port shows here; the retransmission deals with it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    /// Calls the device, sends what it wants sent and notes its next deadline.
    fn with(&mut self, index: usize, action: impl FnOnce(&mut Device, &mut Context<'_>)) {
        let Some((device, socket)) = self.devices.get_mut(index) else {
            return;
        };
        let before = device.deadline();
        let now = clock();
        let mut ctx = Context {
            clock: now,
            profile: &self.profile,
            out: &mut self.out,
            counters: &mut self.counters,
        };
        action(device, &mut ctx);
        for datagram in self.out.drain(..) {
            // What cannot be sent is lost, as on a radio; CoAP repeats what matters.
            let _ = socket.send(&datagram);
        }
        match device.deadline() {
            Some(at) if before != Some(at) || at <= now.mono => {
                self.deadlines.push(Reverse((at, index)));
            }
            _ => {}
        }
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
