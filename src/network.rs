//! Both ends of the way that datagrams take between a device and this machine. A machine may have
//! many addresses, and a device takes an answer only from the one it spoke to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;

/// Which of this machine's addresses: its number in the list of the sockets that use it. The default
/// leaves the choice to the route, and is what a socket has that is bound to a single address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalAddress(u16);

impl LocalAddress {
    /// The address with this number; 0 is the default.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// See the module. QUIC calls it so (RFC 9000 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkPath {
    /// Address and port of the device.
    pub remote: SocketAddr,
    /// Where it sends to.
    pub local: LocalAddress,
}

impl NetworkPath {
    /// IP address of the device.
    pub const fn ip(&self) -> IpAddr {
        self.remote.ip()
    }
}

impl From<SocketAddr> for NetworkPath {
    fn from(remote: SocketAddr) -> Self {
        Self {
            remote,
            local: LocalAddress::default(),
        }
    }
}

impl PartialEq<SocketAddr> for NetworkPath {
    fn eq(&self, remote: &SocketAddr) -> bool {
        self.remote == *remote
    }
}

/// As logs show it: the device's end.
impl fmt::Display for NetworkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remote.fmt(f)
    }
}

/// Addresses that are told apart. A machine has few, but a whole network may be routed to it, and
/// senders choose among its addresses. What is beyond is answered from the address that the route
/// gives.
const MAX_ADDRESSES: usize = 1024;

/// The addresses of this machine that devices have spoken to, by number.
#[derive(Debug, Default)]
pub struct LocalAddresses(Mutex<Vec<IpAddr>>);

impl LocalAddresses {
    /// The number of an address; the default if there are too many.
    pub fn number(&self, address: IpAddr) -> LocalAddress {
        let mut known = self.0.lock();
        let at = known.iter().position(|it| *it == address);
        let at = match at {
            Some(at) => at,
            None if known.len() < MAX_ADDRESSES => {
                known.push(address);
                known.len() - 1
            }
            None => return LocalAddress::default(),
        };
        LocalAddress::new(u16::try_from(at + 1).unwrap_or_default())
    }

    /// The address with a number; `None` for the default.
    pub fn address(&self, local: LocalAddress) -> Option<IpAddr> {
        let at = usize::from(local.number()).checked_sub(1)?;
        self.0.lock().get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_are_numbered_up_to_a_bound() {
        let locals = LocalAddresses::default();
        let address = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
        for n in 0..2 * MAX_ADDRESSES as u32 {
            let local = locals.number(address(n));
            assert_eq!(locals.number(address(n)), local);
            let expected = ((n as usize) < MAX_ADDRESSES).then_some(address(n));
            assert_eq!(locals.address(local), expected);
        }
        assert_eq!(locals.address(LocalAddress::default()), None);
    }
}
