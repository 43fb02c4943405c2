//! UDP sockets with batched system calls: `recvmmsg` and `sendmmsg` move up to [`BATCH`]
//! datagrams at a time, `SO_REUSEPORT` gives each shard a socket of its own.

#![allow(unsafe_code)] // the socket calls

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Datagrams per system call.
pub const BATCH: usize = 64;

/// Room for one datagram of any size: some devices send large registrations and values without
/// block-wise transfer. Only the pages that were ever written to take memory. The odd multiple of
/// a cache line keeps the starts of the buffers from falling into the same cache set.
pub const DATAGRAM_SIZE: usize = 65_600;

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
}

impl UdpSocket {
    /// Binds `address`. With `share`, several sockets may bind it and the kernel spreads peers
    /// over them (`SO_REUSEPORT`). `recbuf` and `sndbuf` are wishes: the kernel's limits win.
    ///
    /// # Errors
    /// Whatever `socket(2)` or `bind(2)` say, as in "address in use".
    pub fn bind(
        address: SocketAddr,
        share: bool,
        recbuf: usize,
        sndbuf: usize,
    ) -> io::Result<Self> {
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
        if share {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        // FORCE needs privileges and lifts the limit; the plain option is the fallback.
        for (force, plain, size) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, recbuf),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, sndbuf),
        ] {
            let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
            if set_option(&fd, libc::SOL_SOCKET, force, size).is_err() {
                set_option(&fd, libc::SOL_SOCKET, plain, size)?;
            }
        }
        let (storage, length) = to_sockaddr(address);
        // SAFETY: `storage` is a valid address of `length` bytes for the time of the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&storage).cast(), length) })?;
        Ok(Self { fd })
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
            .zip(&mut buffers.addresses);
        for ((iovec, header), (room, address)) in slots.zip(rooms) {
            iovec.iov_base = room.as_mut_ptr().cast();
            iovec.iov_len = room.len();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = ptr::from_mut(address).cast();
            header.msg_hdr.msg_namelen = size_of_u32::<libc::sockaddr_storage>();
        }
        // SAFETY: the headers point to `iovecs`, `data` and `addresses`, all alive and large
        // enough for what their lengths say; there are BATCH of each.
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
        buffers.received = count;
        Ok(count)
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
    pub fn send(&self, batch: &[(SocketAddr, Vec<u8>)]) -> usize {
        batch
            .chunks(BATCH)
            .map(|chunk| self.send_chunk(chunk))
            .sum()
    }

    fn send_chunk(&self, chunk: &[(SocketAddr, Vec<u8>)]) -> usize {
        // SAFETY: all-zero is a valid sockaddr_storage and a valid mmsghdr.
        let (mut addresses, mut headers): (
            [libc::sockaddr_storage; BATCH],
            [libc::mmsghdr; BATCH],
        ) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut iovecs: [libc::iovec; BATCH] = std::array::from_fn(|_| libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        });
        let slots = addresses.iter_mut().zip(&mut iovecs).zip(&mut headers);
        for (((address, iovec), header), (to, datagram)) in slots.zip(chunk) {
            let (storage, length) = to_sockaddr(*to);
            *address = storage;
            iovec.iov_base = datagram.as_ptr().cast_mut().cast();
            iovec.iov_len = datagram.len();
            header.msg_hdr.msg_name = ptr::from_mut(address).cast();
            header.msg_hdr.msg_namelen = length;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
        }
        let mut failed = 0;
        let mut sent = 0;
        while sent < chunk.len() {
            let rest = headers.get_mut(sent..chunk.len()).unwrap_or_default();
            let length = libc::c_uint::try_from(rest.len()).unwrap_or(0);
            // SAFETY: `rest` are headers filled in above, pointing to live addresses, iovecs and
            // datagrams; the kernel only reads the datagrams.
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
    lengths: [usize; BATCH],
    received: usize,
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self {
            data: vec![0; BATCH * DATAGRAM_SIZE],
            // SAFETY: all-zero is a valid sockaddr_storage.
            addresses: vec![unsafe { mem::zeroed() }; BATCH],
            lengths: [0; BATCH],
            received: 0,
        }
    }
}

impl ReceiveBuffers {
    /// What the last [`UdpSocket::receive`] brought; a truncated datagram is empty.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let rooms = self.data.chunks_exact(DATAGRAM_SIZE).zip(&self.lengths);
        rooms
            .zip(&self.addresses)
            .take(self.received)
            .filter_map(|((room, length), address)| {
                Some((from_sockaddr(address)?, room.get(..*length)?))
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

/// Sizes of address structures fit a socklen_t.
fn size_of_u32<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn to_sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than and aligned for every address type.
            unsafe {
                ptr::from_mut(&mut storage)
                    .cast::<libc::sockaddr_in>()
                    .write(raw)
            };
            size_of_u32::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe {
                ptr::from_mut(&mut storage)
                    .cast::<libc::sockaddr_in6>()
                    .write(raw)
            };
            size_of_u32::<libc::sockaddr_in6>()
        }
    };
    (storage, length)
}

fn from_sockaddr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says it is a sockaddr_in, which is smaller than the storage.
            let raw = unsafe { ptr::from_ref(storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says it is a sockaddr_in6, which is smaller than the storage.
            let raw = unsafe { ptr::from_ref(storage).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_there_and_back() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let bind = || UdpSocket::bind(local.parse().unwrap(), false, 1 << 20, 1 << 20);
            let (Ok(a), Ok(b)) = (bind(), bind()) else {
                eprintln!("skipped: no {local} on this machine");
                continue;
            };
            let to = b.local_addr().unwrap();
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
        let bind = || UdpSocket::bind("127.0.0.1:0".parse().unwrap(), false, 4096, 1 << 20);
        let (a, b) = (bind().unwrap(), bind().unwrap());
        let empty = b.backlog().unwrap();
        assert_eq!((empty.fill, empty.drops), (0, 0));
        let batch = vec![(b.local_addr().unwrap(), vec![7; 1000]); 100];
        a.send(&batch);
        let full = b.backlog().unwrap();
        assert!(full.fill > 500, "{full:?}");
        assert!(full.drops > 0, "{full:?}");
    }

    #[test]
    fn an_address_is_shared_only_on_request() {
        let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), true, 0, 0).unwrap();
        let address = first.local_addr().unwrap();
        assert!(UdpSocket::bind(address, true, 0, 0).is_ok());
        let error = UdpSocket::bind(address, false, 0, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
