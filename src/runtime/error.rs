//! Why a gateway does not start, or does not take a new configuration.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::bridge::topic::TopicError;
use crate::credentials::FileError;
use crate::dtls::DtlsError;

/// Why a gateway cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("{key} {bind}: {source}")]
    Bind {
        /// Key of the address.
        key: String,
        /// The address.
        bind: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A listener's keys cannot be read.
    #[error("{key}: {source}")]
    Credentials {
        /// Key of the file.
        key: String,
        /// Why.
        source: FileError,
    },
    /// A listener's certificates cannot be used.
    #[error("{key}: {reason}")]
    Certificates {
        /// Key of the wrong setting.
        key: String,
        /// Why.
        reason: String,
    },
    /// DTLS cannot be set up.
    #[error("{key}: {source}")]
    Dtls {
        /// Key of the options.
        key: String,
        /// Why.
        source: DtlsError,
    },
    /// `xml_dir` cannot be read.
    #[error("xml_dir {}: {source}", dir.display())]
    Models {
        /// The directory.
        dir: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Mountpoint and command topic do not form a valid filter.
    #[error("mountpoint: {0}")]
    Topic(#[from] TopicError),
    /// The store cannot be opened.
    #[error("store.path: {0}")]
    Store(String),
    /// The HTTP API cannot be served, or this build has none.
    #[error("{0}")]
    Http(String),
    /// The operating system provides no descriptor, thread or random numbers.
    #[error("{what}: {source}")]
    System {
        /// What was requested.
        what: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Why a new configuration is refused; the old one stays in effect.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The same error as at a start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The gateway has been stopped.
    #[error("the gateway is stopped")]
    Stopped,
}
