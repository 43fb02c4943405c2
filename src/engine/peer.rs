//! Who is at the other end, and the numbers by which devices and shards go.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

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

/// In as few pieces as there can be: most of the tables are by peer, and each piece costs. All of a peer is
/// in it, for tables that keep nothing but the hash.
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = u64::from(self.address.port()) << 48;
        state.write_u64(port | u64::from(self.listener) << 32 | u64::from(self.session));
        let local = u64::from(self.local.number());
        match self.address {
            SocketAddr::V4(address) => {
                state.write_u64(local << 32 | u64::from(address.ip().to_bits()));
            }
            SocketAddr::V6(address) => {
                state.write_u128(address.ip().to_bits());
                state
                    .write_u64(u64::from(address.scope_id()) << 32 | u64::from(address.flowinfo()));
                state.write_u64(local);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::DefaultHasher;

    use super::*;

    #[test]
    fn whatever_tells_peers_apart_is_in_the_hash() {
        let peer = |address: &str| Peer {
            listener: 1,
            local: LocalAddress::default(),
            address: address.parse().unwrap(),
            session: 0,
        };
        let addresses = [
            "192.0.2.1:5683",
            "192.0.2.1:5684",
            "192.0.2.2:5683",
            "[::ffff:192.0.2.1]:5683",
            "[fe80::1]:5683",
            "[fe80::1%1]:5683",
            "[fe80::1%2]:5683",
        ];
        let peers = addresses.into_iter().map(peer).flat_map(|peer| {
            let local = LocalAddress::new(1);
            let (listener, session) = (2, 1);
            let others = [
                Peer { local, ..peer },
                Peer { listener, ..peer },
                Peer { session, ..peer },
            ];
            std::iter::once(peer).chain(others)
        });
        let hash = |peer: Peer| {
            let mut hasher = DefaultHasher::new();
            peer.hash(&mut hasher);
            hasher.finish()
        };
        let hashes: HashSet<u64> = peers.map(hash).collect();
        assert_eq!(hashes.len(), 4 * addresses.len());
    }
}
