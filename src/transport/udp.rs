//! UDP sockets with batched system calls: `recvmmsg` and `sendmmsg` move up to [`BATCH`]
//! datagrams at a time, `SO_REUSEPORT` gives each shard a socket of its own. What comes to a
//! secondary address of the machine is answered from there (`IP_PKTINFO`, RFC 3542 §6).

#![allow(unsafe_code)] // the socket calls

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use super::local::Control;
use super::sockaddr::{from_sockaddr, size_of_u32, to_sockaddr};
use crate::network::{LocalAddress, LocalAddresses, NetworkPath};

/// Datagrams per system call.
pub const BATCH: usize = 64;

/// Room for one datagram of any size: some devices send large registrations and values without
/// block-wise transfer. Only the pages that were ever written to take memory. The odd multiple of
/// a cache line keeps the starts of the buffers from falling into the same cache set.
pub const DATAGRAM_SIZE: usize = 65_600;

/// How a socket is bound.
#[derive(Debug, Clone, Default)]
pub struct BindOptions {
    /// Several sockets may bind the address and the kernel spreads peers over them
    /// (`SO_REUSEPORT`).
    pub share: bool,
    /// Receive buffer in bytes. A wish: the kernel's limits win.
    pub recbuf: usize,
    /// Send buffer in bytes. A wish as well.
    pub sndbuf: usize,
    /// The addresses of this machine that devices speak to, for all sockets whose paths meet.
    pub locals: Arc<LocalAddresses>,
}

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    locals: Arc<LocalAddresses>,
}

impl UdpSocket {
    /// Binds `address`.
    ///
    /// # Errors
    /// Whatever `socket(2)` or `bind(2)` say, as in "address in use".
    pub fn bind(address: SocketAddr, options: &BindOptions) -> io::Result<Self> {
        let family = if address.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: plain call without pointers.
        let raw = check(unsafe { libc::socket(family, kind, 0) })?;
        // SAFETY: `raw` is a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        if options.share {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        // FORCE needs privileges and lifts the limit; the plain option is the fallback.
        for (force, plain, size) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.recbuf),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.sndbuf),
        ] {
            let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
            if set_option(&fd, libc::SOL_SOCKET, force, size).is_err() {
                set_option(&fd, libc::SOL_SOCKET, plain, size)?;
            }
        }
        // A socket that is bound to one address needs not be told which.
        if address.ip().is_unspecified() {
            let (level, name) = match address {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            set_option(&fd, level, name, 1)?;
        }
        let (storage, length) = to_sockaddr(address);
        // SAFETY: `storage` is a valid address of `length` bytes for the time of the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&storage).cast(), length) })?;
        let locals = options.locals.clone();
        Ok(Self { fd, locals })
    }

    /// The bound address, with the port the kernel chose for port 0.
    ///
    /// # Errors
    /// Only if the descriptor is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        // SAFETY: all-zero is a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let mut length = size_of_u32::<libc::sockaddr_storage>();
        // SAFETY: both pointers are to live locals, `length` says how much room there is.
        check(unsafe {
            libc::getsockname(
                self.fd.as_raw_fd(),
                ptr::from_mut(&mut storage).cast(),
                &raw mut length,
            )
        })?;
        from_sockaddr(&storage).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Receives up to [`BATCH`] datagrams into `buffers` without blocking; zero when there is
    /// none.
    ///
    /// # Errors
    /// Errors of `recvmmsg(2)` other than "would block". ICMP errors of earlier sends surface
    /// here; they say nothing about the socket.
    pub fn receive(&self, buffers: &mut ReceiveBuffers) -> io::Result<usize> {
        buffers.received = 0;
        let mut iovecs: [libc::iovec; BATCH] = std::array::from_fn(|_| libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        });
        // SAFETY: all-zero is a valid mmsghdr.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let slots = iovecs.iter_mut().zip(&mut headers);
        let rooms = buffers
            .data
            .chunks_exact_mut(DATAGRAM_SIZE)
            .zip(&mut buffers.addresses)
            .zip(&mut buffers.controls);
        for ((iovec, header), ((room, address), control)) in slots.zip(rooms) {
            iovec.iov_base = room.as_mut_ptr().cast();
            iovec.iov_len = room.len();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = ptr::from_mut(address).cast();
            header.msg_hdr.msg_namelen = size_of_u32::<libc::sockaddr_storage>();
            control.attach(&mut header.msg_hdr);
        }
        // SAFETY: the headers point to `iovecs`, `data`, `addresses` and `controls`, all alive and
        // large enough for what their lengths say; there are BATCH of each.
        let count = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = match check(count) {
            Ok(count) => usize::try_from(count).unwrap_or(0).min(BATCH),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        for (length, header) in buffers.lengths.iter_mut().zip(headers.iter().take(count)) {
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            *length = if truncated {
                0
            } else {
                header.msg_len as usize
            };
        }
        let controls = buffers.controls.iter().zip(&mut buffers.locals);
        for ((control, local), header) in controls.zip(headers.iter().take(count)) {
            *local = match control.address(&header.msg_hdr) {
                None => LocalAddress::default(),
                Some(address) if address == buffers.last.0 => buffers.last.1,
                Some(address) => {
                    buffers.last = (address, self.locals.number(address));
                    buffers.last.1
                }
            };
        }
        buffers.received = count;
        Ok(count)
    }

    /// Bytes of the receive buffer, as they are counted in [`BindOptions::recbuf`]; `None` where the
    /// system does not tell.
    pub fn receive_buffer(&self) -> Option<usize> {
        let mut doubled: libc::c_int = 0;
        let mut length = size_of_u32::<libc::c_int>();
        // SAFETY: both pointers are to live locals, `length` says how much room there is.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                (&raw mut doubled).cast(),
                &raw mut length,
            )
        })
        .ok()?;
        // The kernel counts its own overhead as well (socket(7)).
        usize::try_from(doubled / 2).ok()
    }

    /// How full the receive buffer is; `None` where the system does not tell.
    pub fn backlog(&self) -> Option<Backlog> {
        /// Indexes of `SO_MEMINFO` (`include/uapi/linux/sock_diag.h`).
        const RMEM_ALLOC: usize = 0;
        const RCVBUF: usize = 1;
        const DROPS: usize = 8;
        let mut values = [0u32; 9];
        let mut length = size_of_u32::<[u32; 9]>();
        // SAFETY: both pointers are to live locals, `length` says how much room there is.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut length,
            )
        })
        .ok()?;
        let fill = u64::from(values[RMEM_ALLOC]) * 1000 / u64::from(values[RCVBUF]).max(1);
        Some(Backlog {
            fill: u32::try_from(fill).unwrap_or(u32::MAX),
            drops: values[DROPS],
        })
    }

    /// Sends all of `batch` in order. Returns how many the kernel did not take.
    pub fn send(&self, batch: &[(NetworkPath, Vec<u8>)]) -> usize {
        batch
            .chunks(BATCH)
            .map(|chunk| self.send_chunk(chunk))
            .sum()
    }

    fn send_chunk(&self, chunk: &[(NetworkPath, Vec<u8>)]) -> usize {
        // SAFETY: all-zero is a valid sockaddr_storage and a valid mmsghdr.
        let (mut addresses, mut headers): (
            [libc::sockaddr_storage; BATCH],
            [libc::mmsghdr; BATCH],
        ) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut iovecs: [libc::iovec; BATCH] = std::array::from_fn(|_| libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        });
        let mut controls = [Control::default(); BATCH];
        let mut last = (LocalAddress::default(), Control::default());
        let slots = addresses.iter_mut().zip(&mut iovecs).zip(&mut headers);
        let slots = slots.zip(&mut controls);
        for ((((address, iovec), header), control), (to, datagram)) in slots.zip(chunk) {
            let (storage, length) = to_sockaddr(to.remote);
            *address = storage;
            iovec.iov_base = datagram.as_ptr().cast_mut().cast();
            iovec.iov_len = datagram.len();
            header.msg_hdr.msg_name = ptr::from_mut(address).cast();
            header.msg_hdr.msg_namelen = length;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            if to.local != LocalAddress::default() {
                if to.local != last.0 {
                    last = (to.local, Control::new(self.locals.address(to.local)));
                }
                *control = last.1;
                control.attach_to_send(&mut header.msg_hdr);
            }
        }
        let mut failed = 0;
        let mut sent = 0;
        while sent < chunk.len() {
            let rest = headers.get_mut(sent..chunk.len()).unwrap_or_default();
            let length = libc::c_uint::try_from(rest.len()).unwrap_or(0);
            // SAFETY: `rest` are headers filled in above, pointing to live addresses, iovecs,
            // controls and datagrams; the kernel only reads the datagrams.
            let result = unsafe {
                libc::sendmmsg(
                    self.fd.as_raw_fd(),
                    rest.as_mut_ptr(),
                    length,
                    libc::MSG_NOSIGNAL,
                )
            };
            match check(result) {
                Ok(count) => sent += usize::try_from(count).unwrap_or(0).max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The address may have left this machine: another is better than none.
                Err(_) if Control::detach(rest) => {}
                // An unreachable peer, an old ICMP error or a full buffer: this datagram is lost
                // like any other that the network loses, the next one may go.
                Err(_) => {
                    failed += 1;
                    sent += 1;
                }
            }
        }
        failed
    }
}

/// See [`UdpSocket::backlog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// In thousandths.
    pub fill: u32,
    /// Datagrams dropped since the socket was made; wraps around.
    pub drops: u32,
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for one batch.
#[derive(Debug)]
pub struct ReceiveBuffers {
    data: Vec<u8>,
    addresses: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    locals: [LocalAddress; BATCH],
    /// The address that was seen last and its number: most machines have one.
    last: (IpAddr, LocalAddress),
    lengths: [usize; BATCH],
    received: usize,
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self {
            data: vec![0; BATCH * DATAGRAM_SIZE],
            // SAFETY: all-zero is a valid sockaddr_storage.
            addresses: vec![unsafe { mem::zeroed() }; BATCH],
            controls: vec![Control::default(); BATCH],
            locals: [LocalAddress::default(); BATCH],
            last: (Ipv4Addr::UNSPECIFIED.into(), LocalAddress::default()),
            lengths: [0; BATCH],
            received: 0,
        }
    }
}

impl ReceiveBuffers {
    /// What the last [`UdpSocket::receive`] brought; a truncated datagram is empty.
    pub fn datagrams(&self) -> impl Iterator<Item = (NetworkPath, &[u8])> {
        let rooms = self.data.chunks_exact(DATAGRAM_SIZE).zip(&self.lengths);
        let ends = self.addresses.iter().zip(&self.locals);
        rooms
            .zip(ends)
            .take(self.received)
            .filter_map(|((room, length), (address, local))| {
                let path = NetworkPath {
                    remote: from_sockaddr(address)?,
                    local: *local,
                };
                Some((path, room.get(..*length)?))
            })
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn set_option(
    fd: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: `value` lives for the call and its size is given.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of_u32::<libc::c_int>(),
        )
    })
    .map(drop)
}

#[cfg(test)]
#[allow(clippy::disallowed_types)] // devices with sockets of the standard library
mod tests {
    use super::*;

    #[test]
    fn batches_there_and_back() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let options = BindOptions {
                recbuf: 1 << 20,
                sndbuf: 1 << 20,
                ..BindOptions::default()
            };
            let bind = || UdpSocket::bind(local.parse().unwrap(), &options);
            let (Ok(a), Ok(b)) = (bind(), bind()) else {
                eprintln!("skipped: this machine has no address {local}");
                continue;
            };
            let to = NetworkPath::from(b.local_addr().unwrap());
            let batch: Vec<_> = (0..100u8)
                .map(|n| (to, vec![n; usize::from(n) + 1]))
                .collect();
            assert_eq!(a.send(&batch), 0);
            let mut buffers = ReceiveBuffers::default();
            let mut got = Vec::new();
            while b.receive(&mut buffers).unwrap() > 0 {
                for (from, datagram) in buffers.datagrams() {
                    assert_eq!(from, a.local_addr().unwrap());
                    got.push(datagram.to_vec());
                }
            }
            assert_eq!(
                got,
                batch
                    .into_iter()
                    .map(|(_, datagram)| datagram)
                    .collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_full_buffer_is_noticed() {
        let options = BindOptions {
            recbuf: 4096,
            sndbuf: 1 << 20,
            ..BindOptions::default()
        };
        let bind = || UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options);
        let (a, b) = (bind().unwrap(), bind().unwrap());
        let empty = b.backlog().unwrap();
        assert_eq!((empty.fill, empty.drops), (0, 0));
        let batch = vec![(NetworkPath::from(b.local_addr().unwrap()), vec![7; 1000]); 100];
        a.send(&batch);
        let full = b.backlog().unwrap();
        assert!(full.fill > 500, "{full:?}");
        assert!(full.drops > 0, "{full:?}");
    }

    #[test]
    fn an_address_is_shared_only_on_request() {
        let alone = BindOptions::default();
        let share = BindOptions {
            share: true,
            ..BindOptions::default()
        };
        let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &share).unwrap();
        let address = first.local_addr().unwrap();
        assert!(UdpSocket::bind(address, &share).is_ok());
        let error = UdpSocket::bind(address, &alone).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    /// All of 127.0.0.0/8 is this machine's.
    #[test]
    fn an_answer_leaves_from_the_address_that_was_spoken_to() {
        for (local, spoken_to) in [
            ("0.0.0.0:0", ["127.0.0.2", "127.0.0.3"]),
            ("[::]:0", ["127.0.0.4", "127.0.0.5"]),
        ] {
            let options = BindOptions::default();
            let Ok(server) = UdpSocket::bind(local.parse().unwrap(), &options) else {
                eprintln!("skipped: this machine has no address {local}");
                continue;
            };
            let port = server.local_addr().unwrap().port();
            let devices = spoken_to.map(|address| {
                let device = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                device.connect((address, port)).unwrap();
                device.send(address.as_bytes()).unwrap();
                device
            });
            let mut buffers = ReceiveBuffers::default();
            let mut answers = Vec::new();
            while server.receive(&mut buffers).unwrap() > 0 {
                let came = buffers.datagrams();
                answers.extend(came.map(|(from, datagram)| (from, datagram.to_vec())));
            }
            assert_eq!(answers.len(), 2, "{local}");
            assert_eq!(server.send(&answers), 0);
            for (device, address) in devices.iter().zip(spoken_to) {
                let mut answer = [0; 64];
                device
                    .set_read_timeout(Some(std::time::Duration::from_secs(5)))
                    .unwrap();
                let length = device.recv(&mut answer).unwrap();
                assert_eq!(answer[..length], *address.as_bytes(), "{local}");
            }
        }
    }

    #[test]
    fn an_address_that_is_gone_is_replaced() {
        let options = BindOptions::default();
        let server = UdpSocket::bind("0.0.0.0:0".parse().unwrap(), &options).unwrap();
        let device = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // Of TEST-NET-1 (RFC 5737): nobody's.
        let gone = options.locals.number("192.0.2.1".parse().unwrap());
        let to = NetworkPath {
            remote: device.local_addr().unwrap(),
            local: gone,
        };
        let batch = [(to, b"a".to_vec()), (to, b"b".to_vec())];
        assert_eq!(server.send(&batch), 0);
        for expected in [b"a", b"b"] {
            let mut answer = [0; 8];
            device
                .set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            let length = device.recv(&mut answer).unwrap();
            assert_eq!(answer[..length], *expected);
        }
    }
}
