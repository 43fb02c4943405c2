//! Both ends of the way that datagrams take between a device and this machine. A machine may have
//! many addresses, and a device takes an answer only from the one it spoke to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

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
