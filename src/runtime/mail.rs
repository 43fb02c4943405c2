//! What other threads have for a shard.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::credentials::{CredentialStore, Key};
use crate::dtls::{Context, CredentialTicket};
use crate::engine::{
    AuthorizationId, CommandInput, Decision, DeviceInfo, Handoff, Peer, PortableSession, Settings,
};
use crate::lwm2m::model::ObjectModels;
use crate::transport::udp::UdpSocket;

/// One thing for a shard.
#[derive(Debug)]
pub(super) enum Mail {
    /// A command from the host.
    Command(CommandInput),
    /// From another shard.
    Handoff(Handoff),
    /// The host's word on a Register.
    Authorization(AuthorizationId, Decision),
    /// A registration ends by order of the host.
    Kick(Arc<str>),
    /// The store has noted that a command of an endpoint is sent.
    Stored(Arc<str>, u64),
    /// A device goes to another gateway.
    Export(Arc<str>, Sender<PortableSession>),
    /// A device came from another gateway.
    Import(Arc<str>, Box<PortableSession>),
    /// What is known of the devices, or of one.
    Devices(Option<Arc<str>>, Sender<Vec<DeviceInfo>>),
    /// The host's answer to a look-up of a key, for a listener.
    Key(u16, CredentialTicket, Option<Key>),
    /// The host's answer to a look-up for a session that was resumed.
    Confirmation(u16, Peer, bool),
    /// Another shard has too many DTLS sessions of a listener, and this one may have those that
    /// should give way.
    GiveWay(u16),
    /// Keys of a listener may not be valid any more.
    CheckKeys(u16),
    /// A new configuration and what it changes about the listeners.
    Reconfigure(Arc<Settings>, Arc<ObjectModels>, Vec<Change>),
    /// Finish.
    Stop,
}

impl Mail {
    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let inner = match self {
            Self::Command(input) => input.bytes(),
            Self::Handoff(handoff) => handoff.bytes(),
            Self::Import(_, session) => session.bytes(),
            _ => 0,
        };
        size_of::<Self>().saturating_add(inner)
    }
}

/// What a shard does about one listener.
#[derive(Debug)]
pub(super) enum Change {
    /// Opens it, or moves it to another address.
    Open { listener: u16, socket: UdpSocket },
    /// Begins DTLS anew: every session ends.
    Secure {
        listener: u16,
        settings: Arc<SecureSettings>,
    },
    /// Takes other credentials.
    Credentials {
        listener: u16,
        settings: Arc<SecureSettings>,
    },
    /// Closes it; its registrations end.
    Close { listener: u16 },
}

/// What the shards of a DTLS listener share.
#[derive(Debug)]
pub(super) struct SecureSettings {
    /// As in `dtls:default`.
    pub(super) name: Arc<str>,
    pub(super) context: Arc<Context>,
    pub(super) credentials: Arc<CredentialStore>,
}
