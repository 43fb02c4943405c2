//! Why a gateway does not start, or does not take a new configuration.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::bridge::topic::TopicError;
use crate::credentials::FileError;
use crate::dtls::DtlsError;

/// Why a gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("{key} {bind}: {source}")]
    Bind {
        /// Key of the address.
        key: String,
        /// The address.
        bind: SocketAddr,
        /// What the system says.
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
        /// Key of what is wrong.
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
        /// What the system says.
        source: io::Error,
    },
    /// Mountpoint and command topic make no filter.
    #[error("mountpoint: {0}")]
    Topic(#[from] TopicError),
    /// The store cannot be opened.
    #[error("store.path: {0}")]
    Store(String),
    /// The HTTP API cannot be served, or this build has none.
    #[error("{0}")]
    Http(String),
    /// The system refuses a descriptor, thread or random numbers.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a new configuration is not taken; the old one stays.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// As at the start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The gateway has been stopped.
    #[error("the gateway is stopped")]
    Stopped,
}
