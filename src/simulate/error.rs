//! Why a simulation does not start.

use std::io;
use std::path::PathBuf;

use crate::credentials::IdentityError;

/// Why the simulation did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is not `coap://host:port`, or the host has no address.
    #[error(
        "--server {0:?}: expected coap://host:port or coaps://host:port with a host that can be resolved"
    )]
    Server(String),
    /// Credentials for a server without DTLS.
    #[error(
        "--psk-identity, --psk-key, --psk-file, --cert, --key and --ca need --server coaps://host:port"
    )]
    NotSecure,
    /// Send for devices that do not know it.
    #[error("--send-every needs --version-lwm2m 1.1 or 1.2")]
    NoSend,
    /// DTLS without a key.
    #[error("--server coaps://... needs --psk-key, --psk-file or --cert")]
    NoKey,
    /// A certificate or its key cannot be used.
    #[error("{}: {reason}", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file of keys cannot be read.
    #[error("--psk-file: {0}")]
    Keys(String),
    /// A device has no key in the file.
    #[error("--psk-file: no key for the identity {0:?}")]
    UnknownIdentity(String),
    /// An identity that is none.
    #[error("PSK identity {identity:?}: {reason}")]
    Identity {
        /// What the device would say.
        identity: String,
        /// What is wrong with it.
        reason: IdentityError,
    },
    /// OpenSSL does not take the options.
    #[error("DTLS with --ciphers {ciphers}: {reason}")]
    Dtls {
        /// The cipher suites asked for.
        ciphers: String,
        /// What OpenSSL said.
        reason: String,
    },
    /// No socket, or too few of them.
    #[error("cannot open {wanted} sockets: {source}")]
    Sockets {
        /// How many were needed.
        wanted: u32,
        /// What the operating system said.
        source: io::Error,
    },
}
