//! Where a device is, in 24 bytes: a [`NetworkPath`] has 36, and there may be a million.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::network::{LocalAddress, NetworkPath};

/// A [`NetworkPath`] that is kept.
pub(super) struct StoredPath(Form);

enum Form {
    V4(Ipv4Addr, u16, LocalAddress),
    V6(Ipv6Addr, u16, LocalAddress),
    /// With a flow or a scope: few devices are on the same link.
    Other(Box<NetworkPath>),
}

impl StoredPath {
    pub(super) fn new(path: NetworkPath) -> Self {
        Self(match path.remote {
            SocketAddr::V4(remote) => Form::V4(*remote.ip(), remote.port(), path.local),
            SocketAddr::V6(remote) if remote.flowinfo() == 0 && remote.scope_id() == 0 => {
                Form::V6(*remote.ip(), remote.port(), path.local)
            }
            SocketAddr::V6(_) => Form::Other(Box::new(path)),
        })
    }

    pub(super) fn get(&self) -> NetworkPath {
        let (remote, local) = match &self.0 {
            Form::V4(ip, port, local) => (SocketAddrV4::new(*ip, *port).into(), *local),
            Form::V6(ip, port, local) => (SocketAddrV6::new(*ip, *port, 0, 0).into(), *local),
            Form::Other(path) => return **path,
        };
        NetworkPath { remote, local }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_back() {
        assert_eq!(size_of::<StoredPath>(), 24);
        let flow = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 7, 0).into();
        let remotes = [
            "192.0.2.1:40000".parse().unwrap(),
            "[2001:db8::1]:5684".parse().unwrap(),
            "[fe80::1%3]:5684".parse().unwrap(),
            "[::ffff:192.0.2.1]:1".parse().unwrap(),
            flow,
        ];
        for remote in remotes {
            for local in [0, 1, u16::MAX].map(LocalAddress::new) {
                let path = NetworkPath { remote, local };
                assert_eq!(StoredPath::new(path).get(), path);
            }
        }
    }
}
