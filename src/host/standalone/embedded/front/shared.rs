//! What the connections that are unwrapped have in common.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use super::guests::Guests;

/// How long a connection may take to its login.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What connections share.
pub(super) struct Shared {
    /// Where the broker takes what is unwrapped.
    pub(super) inside: SocketAddr,
    pub(super) tls: Option<RwLock<Arc<ServerConfig>>>,
    pub(super) origins: Vec<String>,
    pub(super) max_packet: usize,
    pub(super) guests: Guests,
    /// Connections.
    pub(super) places: Semaphore,
    /// Those that have not logged in.
    pub(super) strangers: Semaphore,
    pub(super) max_connections: usize,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("too many connections (mqtt.max_connections)")]
    TooMany,
    #[error("no login within {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("WebSocket: {0}")]
    WebSocket(Box<tokio_tungstenite::tungstenite::Error>),
    #[error("WebSocket: {0}")]
    Unfit(&'static str),
}
