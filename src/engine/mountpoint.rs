//! The mountpoint of a device: how it is rendered, and what the directory has to know of it.

use super::identity::Identity;
use super::peer::Peer;
use super::registration::Query;
use super::settings::{ListenerSettings, Settings};
use super::sharding::MountClaim;
use crate::bridge::topic::{TopicError, Vars};
use crate::config::Config;

/// What the directory has to know of a mountpoint. `named`: it is that of the listener, which names
/// the endpoint.
pub(super) fn mount_claim<'a>(
    settings: &'a Settings,
    listener: &ListenerSettings,
    mount: &'a str,
    named: bool,
) -> MountClaim<'a> {
    let others = if named {
        &listener.others
    } else {
        &settings.named
    };
    let policy = settings.config.hostile_endpoint;
    MountClaim {
        mount,
        named,
        shared: listener.shared_mountpoint,
        rivals: others
            .iter()
            .filter_map(|other| other.endpoint_at(mount, policy))
            .collect(),
    }
}

/// The rendered mountpoint of a device. With DTLS the names that stand in it beside the endpoint
/// name are its identity's, as it is configured: a device can choose its suffix and its queries.
pub(super) fn mountpoint(
    listener: &ListenerSettings,
    config: &Config,
    peer: Peer,
    endpoint: &str,
    query: &Query,
    identity: Option<&Identity>,
) -> Result<String, TopicError> {
    let peerhost = peer.address.ip().to_string();
    let (clientid, username) = match identity {
        Some(_) if !listener.mountpoint.has_other_name() => (endpoint, endpoint),
        Some(identity) => {
            let name = str::from_utf8(identity.public()).map_err(|_| TopicError::NotText)?;
            (name, name)
        }
        None => (
            query.get("device_id").unwrap_or(endpoint),
            query.get("imei").unwrap_or(endpoint),
        ),
    };
    let vars = Vars {
        endpoint_name: endpoint,
        clientid,
        username,
        peerhost: &peerhost,
        zone: "default",
    };
    listener.mountpoint.render(&vars, config.hostile_endpoint)
}
