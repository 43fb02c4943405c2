//! Who is at the other end, and the numbers by which devices and shards go.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::network::{LocalAddress, NetworkPath};

/// Index of a device in its shard.
pub(in crate::engine) type DeviceKey = u32;

/// Index of a shard.
pub type ShardId = u16;

/// The other end of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Number of the listener, see [`Settings::listener`](super::Settings::listener).
    pub listener: u16,
    /// The address of this machine that it speaks to.
    pub local: LocalAddress,
    /// Address and port of the device.
    pub address: SocketAddr,
    /// Which DTLS session of that address; 0 without DTLS. Messages of one session have nothing
    /// to do with those of another (RFC 7252 §9.1.1).
    pub session: u32,
}

impl Peer {
    /// Both ends of the way to it.
    pub const fn path(&self) -> NetworkPath {
        NetworkPath {
            remote: self.address,
            local: self.local,
        }
    }
}

/// In as few pieces as there can be: most of the tables are by peer, and each piece costs. Flow label
/// and scope of IPv6 and the address of this machine are left out: peers that differ in nothing
/// else are few.
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = u64::from(self.address.port()) << 48;
        state.write_u64(port | u64::from(self.listener) << 32 | u64::from(self.session));
        match self.address.ip() {
            IpAddr::V4(address) => state.write_u32(address.to_bits()),
            IpAddr::V6(address) => state.write_u128(address.to_bits()),
        }
    }
}
