//! What other threads have for a shard.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::credentials::{CredentialStore, Key};
use crate::dtls::{Context, CredentialTicket};
use crate::engine::{
    AuthorizationId, CommandInput, Decision, DeviceInfo, Handoff, Peer, PortableSession, Settings,
};
use crate::lwm2m::model::ObjectModels;
use crate::network::NetworkPath;
use crate::store::{Receipt, Word};
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
    /// What the store says about an endpoint.
    Stored(Arc<str>, Word),
    /// Somebody wants to know when the commands of an endpoint are safe that came before.
    Receipt(Arc<str>, Receipt),
    /// A device goes to another gateway.
    Export(Arc<str>, Sender<PortableSession>),
    /// A device came from another gateway.
    Import(Arc<str>, Box<PortableSession>),
    /// What is known of the devices, or of one.
    Devices(Option<Arc<str>>, Sender<Vec<DeviceInfo>>),
    /// What the HTTP API wants to know.
    #[cfg(feature = "http")]
    Ask(Question),
    /// The host's answer to a look-up of a key, for a listener.
    Key(u16, CredentialTicket, Option<Key>),
    /// The host's answer to a look-up for a session that was resumed.
    Confirmation(u16, Peer, bool),
    /// Another shard has too many DTLS sessions of a listener, and this one may have those that
    /// should give way.
    GiveWay(u16),
    /// A datagram for a listener that came to another shard than that of its session.
    Datagram(u16, NetworkPath, Vec<u8>),
    /// What was to be kept of a DTLS session is on the disk: listener, number of the session, and from
    /// which number on its records are set aside.
    Kept(u16, u32, u64),
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
            Self::Datagram(_, _, datagram) => datagram.capacity(),
            _ => 0,
        };
        size_of::<Self>().saturating_add(inner)
    }
}

/// A question to a shard, which gives the answer to whoever asked.
#[cfg(feature = "http")]
pub(super) struct Question(pub(super) Ask);

#[cfg(feature = "http")]
type Ask = Box<dyn FnOnce(&crate::engine::Engine, crate::time::Now, &dyn Sessions) + Send>;

/// The DTLS sessions of a shard, for a question.
#[cfg(feature = "http")]
pub(super) trait Sessions {
    /// What protects the session of a device, if it has one.
    fn session_detail(
        &self,
        now: crate::time::Now,
        peer: Peer,
    ) -> Option<crate::http::SessionDetail>;
}

#[cfg(feature = "http")]
impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Question").finish_non_exhaustive()
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
