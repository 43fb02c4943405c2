//! The broker's `epoll` sets, as `/proc` shows them.
//!
//! Mosquitto's loop takes what `epoll_wait` returns for a pointer to one of its own structures,
//! whose first member tells the kind and whose second is the descriptor (`src/mux_epoll.c`); kind
//! 0 is nothing to it. So a descriptor that is registered with a pointer to zeros makes the wait
//! return, and no more. Whether a set really is of that shape is checked by its other members.

#![allow(unsafe_code)] // epoll, process_vm_readv

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

/// What the broker finds behind our descriptor: a structure of kind 0. It looks at the first
/// number only; the rest is there in case.
static NOTHING: [u64; 512] = [0; 512];

/// One `epoll` descriptor of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventSet(RawFd);

impl EventSet {
    /// Registers `event`, so that writing to it ends a wait. Edge-triggered: nobody reads it.
    pub(super) fn add(self, event: &OwnedFd) -> io::Result<()> {
        #[allow(clippy::cast_sign_loss)] // flags of the kernel's header
        let mut entry = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: NOTHING.as_ptr() as u64,
        };
        // SAFETY: `entry` lives through the call. A number that is no epoll descriptor any more is
        // refused by the system.
        let result =
            unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, event.as_raw_fd(), &mut entry) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Takes `event` out; what is not in is refused by the system.
    pub(super) fn remove(self, event: &OwnedFd) {
        // SAFETY: no pointer is needed to remove.
        unsafe {
            libc::epoll_ctl(
                self.0,
                libc::EPOLL_CTL_DEL,
                event.as_raw_fd(),
                ptr::null_mut(),
            )
        };
    }
}

/// The sets of this process that hold a listening socket in the shape we know.
pub(super) fn sets_with_listeners() -> Vec<EventSet> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]")
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
            members(&info).any(|(member, data)| is_listening(member) && is_about(data, member))
        })
        .map(EventSet)
        .collect()
}

/// Descriptor and data of each member: `tfd: 5 events: 19 data: 55d0c0a8e2a0 …`.
fn members(info: &str) -> impl Iterator<Item = (RawFd, u64)> {
    info.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next()? != "tfd:" {
            return None;
        }
        let member = words.next()?.parse().ok()?;
        words.find(|word| *word == "data:")?;
        let data = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((member, data))
    })
}

fn is_listening(socket: RawFd) -> bool {
    let mut listening: libc::c_int = 0;
    let mut size = libc::socklen_t::try_from(size_of_val(&listening)).unwrap_or_default();
    // SAFETY: both are live locals, and `size` is that of `listening`.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            ptr::from_mut(&mut listening).cast(),
            &mut size,
        )
    };
    result == 0 && listening != 0
}

/// Whether `data` points to a structure that begins with a kind and this descriptor.
fn is_about(data: u64, descriptor: RawFd) -> bool {
    let mut head = [0; 8];
    if !peek(data, &mut head) {
        return false;
    }
    let [kind, socket] = [[0, 1, 2, 3], [4, 5, 6, 7]]
        .map(|at| i32::from_ne_bytes(at.map(|index: usize| head.get(index).copied().unwrap_or(0))));
    (1..16).contains(&kind) && socket == descriptor
}

/// Fills `into` from memory of this process; false, and no harm, where there is none.
pub(super) fn peek(address: u64, into: &mut [u8]) -> bool {
    let Ok(start) = usize::try_from(address) else {
        return false;
    };
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: ptr::without_provenance_mut(start),
        iov_len: into.len(),
    };
    // SAFETY: the kernel copies, and refuses addresses that are not mapped; `into` takes all of
    // what it may write.
    let copied = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    usize::try_from(copied).is_ok_and(|copied| copied == into.len())
}

#[cfg(test)]
#[allow(clippy::disallowed_types)] // a listening socket to find
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::FromRawFd;

    #[repr(C)]
    struct Listener {
        kind: i32,
        socket: i32,
    }

    fn set() -> OwnedFd {
        // SAFETY: a fresh descriptor that nobody else owns.
        unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(0)) }
    }

    fn register(set: &OwnedFd, socket: RawFd, data: u64) {
        let mut entry = libc::epoll_event {
            events: 1,
            u64: data,
        };
        // SAFETY: `entry` lives through the call.
        let result =
            unsafe { libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, socket, &mut entry) };
        assert_eq!(result, 0);
    }

    #[test]
    fn finds_the_set_of_the_listeners() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = socket.as_raw_fd();
        let known = Listener {
            kind: 1,
            socket: fd,
        };
        let strange = Listener {
            kind: 1,
            socket: fd + 1,
        };
        let (ours, other, number) = (set(), set(), set());
        register(&ours, fd, ptr::from_ref(&known) as u64);
        register(&other, fd, ptr::from_ref(&strange) as u64);
        register(&number, fd, u64::try_from(fd).unwrap());
        let found = sets_with_listeners();
        assert!(found.contains(&EventSet(ours.as_raw_fd())));
        assert!(!found.contains(&EventSet(other.as_raw_fd())));
        assert!(!found.contains(&EventSet(number.as_raw_fd())));
        assert_eq!((known.kind, known.socket + 1), (1, strange.socket));
        assert_eq!(strange.kind, 1);
    }

    #[test]
    fn lines_of_fdinfo() {
        let info = "pos:\t0\nflags:\t02\ntfd:        5 events:       19 data:     55d0c0a8e2a0  \
                    pos:0 ino:7 sdev:9\ntfd: x\n";
        assert_eq!(members(info).collect::<Vec<_>>(), [(5, 0x55d0_c0a8_e2a0)]);
    }

    #[test]
    fn peeking_does_no_harm() {
        let mut into = [0; 4];
        assert!(peek([1u8, 2, 3, 4].as_ptr() as u64, &mut into));
        assert_eq!(into, [1, 2, 3, 4]);
        assert!(!peek(8, &mut into));
        assert!(!peek(u64::MAX, &mut into));
    }
}
