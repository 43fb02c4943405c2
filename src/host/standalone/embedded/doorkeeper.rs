//! Connections that `rmqtt` itself would keep: those that never send a CONNECT, those above a bound,
//! and those that take nothing while everything piles up for them.
//!
//! The broker library owns its sockets and offers no way to them, so they are found among the
//! descriptors of the process by their own address. Each is looked at through a duplicate, which
//! stays the same socket whatever becomes of the original, so that none can be mistaken for another.

#![allow(unsafe_code)] // fcntl(2), ioctl(2)

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a connection may take to its CONNECT.
const PATIENCE: Duration = Duration::from_secs(10);

/// Unsent bytes from which on a connection counts as stuck.
const STUCK: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    address: SocketAddr,
    max_connections: usize,
    /// When a connection without a session was first seen.
    strangers: HashMap<SocketAddr, Instant>,
}

/// A connection of the broker.
struct Connection {
    peer: SocketAddr,
    stream: TcpStream,
}

impl Doorkeeper {
    /// For connections to `address`, where the broker listens.
    pub(super) fn new(address: SocketAddr, max_connections: usize) -> Self {
        Self {
            address,
            max_connections,
            strangers: HashMap::new(),
        }
    }

    /// Closes what has waited for too long, or is too much. `known` are those with a session.
    /// Returns how many.
    pub(super) fn look(&mut self, now: Instant, known: &HashSet<SocketAddr>) -> usize {
        let connections = connections(self.address);
        let peers: Vec<_> = connections.iter().map(|it| it.peer).collect();
        let unwanted = self.unwanted(now, &peers, known);
        connections
            .iter()
            .filter(|it| unwanted.contains(&it.peer))
            .filter(|it| it.stream.shutdown(Shutdown::Both).is_ok())
            .count()
    }

    /// Which of `peers` are to be closed. Strangers only: whoever has a session keeps it.
    fn unwanted(
        &mut self,
        now: Instant,
        peers: &[SocketAddr],
        known: &HashSet<SocketAddr>,
    ) -> HashSet<SocketAddr> {
        let strange: HashSet<_> = peers.iter().filter(|it| !known.contains(it)).collect();
        self.strangers.retain(|peer, _| strange.contains(peer));
        for peer in strange {
            self.strangers.entry(*peer).or_insert(now);
        }
        let mut oldest: Vec<_> = self
            .strangers
            .iter()
            .map(|(peer, at)| (*at, *peer))
            .collect();
        oldest.sort_unstable_by_key(|(at, _)| *at);
        let excess = peers.len().saturating_sub(self.max_connections);
        let mut unwanted = HashSet::new();
        for (at, peer) in oldest {
            if unwanted.len() < excess || now.saturating_duration_since(at) >= PATIENCE {
                unwanted.insert(peer);
            }
        }
        unwanted
    }
}

/// Closes the connection to `address` with the most unsent bytes, if it is stuck; who it was.
pub(super) fn close_stuck(address: SocketAddr) -> Option<SocketAddr> {
    let connections = connections(address);
    let unsent = connections.iter().map(|it| (unsent(&it.stream), it));
    let (bytes, worst) = unsent.max_by_key(|(bytes, _)| *bytes)?;
    (bytes >= STUCK && worst.stream.shutdown(Shutdown::Both).is_ok()).then_some(worst.peer)
}

/// The connections of this process that came in at `address`.
fn connections(address: SocketAddr) -> Vec<Connection> {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    descriptors
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(duplicate)
        .filter_map(|stream| {
            let local = stream.local_addr().ok()?;
            let here = local.port() == address.port()
                && (address.ip().is_unspecified() || local.ip() == address.ip());
            let peer = stream.peer_addr().ok()?;
            here.then_some(Connection { peer, stream })
        })
        .collect()
}

/// Another descriptor for whatever `descriptor` is; not necessarily a socket.
fn duplicate(descriptor: RawFd) -> Option<TcpStream> {
    // SAFETY: plain call; a number that is no descriptor any more is an error.
    let raw = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: `raw` is a fresh descriptor that nobody else owns.
    (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) }.into())
}

/// Bytes that were written and that the peer has not acknowledged.
fn unsent(stream: &TcpStream) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: writes an int into a live local.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 {
        usize::try_from(bytes).unwrap_or(0)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn peer(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number))
    }

    #[test]
    fn c12_who_says_nothing_goes() {
        let mut door = Doorkeeper::new(peer(1883), 100);
        let begin = Instant::now();
        let (silent, known) = (peer(1), peer(2));
        let sessions = HashSet::from([known]);
        let peers = [silent, known];
        assert!(door.unwanted(begin, &peers, &sessions).is_empty());
        let later = begin + PATIENCE / 2;
        assert!(
            door.unwanted(later, &[silent, known, peer(3)], &sessions)
                .is_empty()
        );
        let end = begin + PATIENCE;
        let unwanted = door.unwanted(end, &[silent, known, peer(3)], &sessions);
        assert_eq!(unwanted, HashSet::from([silent]));
        // Who has gone is forgotten.
        door.unwanted(end, &[], &sessions);
        assert!(door.strangers.is_empty());
    }

    #[test]
    fn c12_of_too_many_those_without_session_go() {
        let mut door = Doorkeeper::new(peer(1883), 10);
        let known: HashSet<_> = (0..8).map(peer).collect();
        let peers: Vec<_> = (0..20).map(peer).collect();
        let unwanted = door.unwanted(Instant::now(), &peers, &known);
        assert_eq!(unwanted.len(), 10);
        assert!(unwanted.is_disjoint(&known));
    }

    #[test]
    fn c12_sockets_are_found_and_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let accepted: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
        let known = HashSet::from([clients[0].local_addr().unwrap()]);
        let mut door = Doorkeeper::new(address, 100);
        let begin = Instant::now();
        assert_eq!(door.look(begin, &known), 0);
        assert_eq!(door.look(begin + PATIENCE, &known), 2);
        for client in &mut clients[1..] {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        (&accepted[0]).write_all(b"x").unwrap();
        assert_eq!(clients[0].read(&mut [0]).unwrap(), 1);
    }

    #[test]
    fn c9_the_connection_that_takes_nothing_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let quick = TcpStream::connect(address).unwrap();
        let (_to_quick, _) = listener.accept().unwrap();
        let stuck = TcpStream::connect(address).unwrap();
        let (mut to_stuck, _) = listener.accept().unwrap();
        assert_eq!(close_stuck(address), None);
        to_stuck.set_nonblocking(true).unwrap();
        while to_stuck.write(&[0; 4096]).is_ok() {}
        assert_eq!(close_stuck(address), Some(stuck.local_addr().unwrap()));
        assert!(quick.peer_addr().is_ok());
    }
}
