//! A DTLS 1.2 server with pre-shared keys or certificates (RFC 6347, RFC 4279, RFC 7251), on OpenSSL.
//!
//! It does no I/O and keeps no time: datagrams, time and keys go in, datagrams, payloads and events
//! come out ([`Server`]). OpenSSL does the handshakes and protects the records; everything before
//! and around that is here: the stateless cookie exchange (`hello`, `cookie`), which session a
//! datagram belongs to (`server`), keys that come later (`handshake`), bounds on everything.
//!
//! * One [`Context`] for each listener, one [`Server`] for each of its shards.
//! * Each call that takes `now` is followed by [`Server::poll_output`] until it returns
//!   [`Output::Idle`].
//! * The retransmission timers of handshakes are OpenSSL's and run on the clock of the system,
//!   whatever `now` is; all other times are measured by `now`.

mod beside;
mod certificate;
mod certified;
mod connection_id;
mod context;
mod cookie;
mod extension;
mod failures;
mod handshake;
mod hello;
mod identity;
mod openssl;
mod path;
mod psk;
mod record;
mod resumption;
mod saved;
mod server;
mod session;
mod shares;
mod shim;
mod sources;
mod table;
mod verifier;
mod wire;

use std::sync::Arc;

use crate::network::NetworkPath;

pub use beside::BySession;
pub use certificate::{CertificateError, Certificates};
pub use certified::Certified;
pub use context::{Context, DtlsError, Options};
pub use identity::Identity;
pub use saved::SavedSession;
pub use server::Server;

use crate::config::CipherSuite;
use crate::credentials;
use crate::time::Instant;

/// What a [`Server`] has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A datagram to send.
    Transmit {
        /// To whom.
        to: NetworkPath,
        /// All of it.
        datagram: Vec<u8>,
    },
    /// The payload of an authentic record.
    Received {
        /// Where the device is.
        from: NetworkPath,
        /// By which session.
        session: SessionId,
        /// Never empty.
        payload: Vec<u8>,
    },
    /// A key is needed; the answer goes to [`Server::handle_credential`].
    CredentialWanted {
        /// Names the question.
        ticket: CredentialTicket,
        /// Who presents it.
        peer: NetworkPath,
        /// What it presents; nothing is proved yet.
        identity: Identity,
    },
    /// A handshake is complete: the peer has the key of this identity, or a certificate for it.
    Established {
        /// Who.
        peer: NetworkPath,
        /// Names the session from now on.
        session: SessionId,
        /// The identity presented.
        identity: Identity,
        /// Whether an earlier session was resumed, without looking at the key again.
        resumed: bool,
        /// What was agreed on.
        suite: CipherSuite,
        /// The key that it has shown to have; none when a session was resumed.
        key: Option<credentials::Key>,
        /// The certificate that it has shown, and has the key of.
        certified: Option<Arc<Certified>>,
    },
    /// A session is over, the one that [`Output::Established`] announced.
    Closed {
        /// Where the device was last.
        peer: NetworkPath,
        /// Which one.
        session: SessionId,
        /// The identity presented.
        identity: Identity,
        /// Why.
        reason: CloseReason,
    },
    /// A device has another address, as its newest record shows (RFC 9146 §6).
    Moved {
        /// By which session.
        session: SessionId,
        /// Where it was until now.
        from: NetworkPath,
        /// Where it is from now on.
        to: NetworkPath,
    },
    /// A session shall be kept as [`Server::save`] has it, from now on or anew. What comes of the close of
    /// one that was kept is [`Output::Closed`].
    Keep {
        /// Which one.
        session: SessionId,
        /// [`Server::note_kept`] is waited for.
        is_awaited: bool,
    },
    /// A datagram for a session of another shard, whose server takes it as its own.
    Elsewhere {
        /// Which one.
        shard: u16,
        /// Where it came from.
        from: NetworkPath,
        /// All of it.
        datagram: Vec<u8>,
    },
    /// A session was not used for [`Options::idle_timeout`], with [`Options::ask_idle`].
    Unused(SessionId),
    /// There are too many sessions, and those that should give way are other servers': whoever has
    /// these calls [`Server::give_way`].
    Crowded,
    /// Nothing more until the next call, or until it is time for [`Server::handle_timeout`].
    Idle(Option<Instant>),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it.
    Peer,
    /// It failed: a fatal alert, an authentic record that breaks the protocol, or no memory.
    Failed,
    /// A newer handshake from the same address is complete.
    Replaced,
    /// It made room for a new one ([`Options::max_sessions`] and the limits beside it).
    Evicted,
    /// It was not used ([`Options::idle_timeout`], [`Server::close_unused`]).
    Idle,
    /// [`Server::close`] or [`Server::close_all`].
    Local,
}

/// Names a session of a [`Server`], also after it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(table::Key);

/// Names a question for a key. Answers to questions that do not stand any more are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialTicket(table::Key);

/// Why a payload was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer has no session.
    #[error("no session")]
    NoSession,
    /// The payload is empty, or longer than a record can be (16,384 bytes).
    #[error("payload empty or too long")]
    Length,
    /// OpenSSL cannot go on with the session, or has no memory; the session is over.
    #[error("session broken")]
    Failed,
}
