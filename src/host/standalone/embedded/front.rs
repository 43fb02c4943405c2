//! TLS and WebSocket before the embedded broker.
//!
//! `rmqtt` has both, but its TLS brings a second cryptographic library along, tells nobody how long a
//! client may take, and its WebSocket takes the payload of a ping for MQTT. So connections are
//! unwrapped here and handed to a listener of the broker on the loopback interface. Who it is travels
//! along as a ticket: an address of random bits in the header of the PROXY protocol, which nobody else
//! on the machine can know.

mod guests;
mod relay;
mod shared;
mod tls;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

pub(super) use self::guests::{Guest, Guests};
use self::shared::{Ended, PATIENCE, Shared};
use super::super::common::BrokerError;
use crate::config::{Config, Mqtt};

/// After an error of the system, such as no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener of this kind.
struct Door {
    name: &'static str,
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: bool,
    websocket: bool,
}

/// See the module.
pub(super) struct Front {
    doors: Vec<Door>,
    shared: Arc<Shared>,
}

impl Front {
    /// Binds the listeners that the configuration has; `inside` is where the broker takes what they
    /// let in. `None`: it has none.
    pub(super) fn new(
        config: &Config,
        inside: SocketAddr,
        max_packet: u32,
    ) -> Result<Option<Self>, BrokerError> {
        let mqtt = &config.mqtt;
        let wanted = [
            ("mqtts", "mqtt.tls.bind", mqtt.tls.bind, true, false),
            (
                "ws",
                "mqtt.websocket.bind",
                mqtt.websocket.bind,
                mqtt.websocket.tls,
                true,
            ),
        ];
        let mut doors = Vec::new();
        for (name, key, address, tls, websocket) in wanted {
            let Some(address) = address else { continue };
            let listener = bind(address).map_err(|source| BrokerError::Setting {
                key,
                reason: format!("cannot listen on {address}: {source}"),
            })?;
            let address = listener.local_addr()?;
            let name = if tls && websocket { "wss" } else { name };
            doors.push(Door {
                name,
                listener,
                address,
                tls,
                websocket,
            });
        }
        if doors.is_empty() {
            return Ok(None);
        }
        let tls = match doors.iter().any(|door| door.tls) {
            true => Some(RwLock::new(tls::server_config(mqtt)?)),
            false => None,
        };
        let max = mqtt.max_connections;
        Ok(Some(Self {
            doors,
            shared: Arc::new(Shared {
                inside,
                tls,
                origins: mqtt.websocket.origins.clone(),
                max_packet: usize::try_from(max_packet).unwrap_or(usize::MAX),
                guests: Guests::new(mqtt.tls.identity_as_username),
                places: Semaphore::new(max),
                strangers: Semaphore::new((max / 4).clamp(1, 1000)),
                max_connections: max,
            }),
        }))
    }

    /// Who has come in here.
    pub(super) fn guests(&self) -> Guests {
        self.shared.guests.clone()
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.doors.iter().map(|door| door.address)
    }

    /// Connections now.
    pub(super) fn connections(&self) -> usize {
        let free = self.shared.places.available_permits();
        self.shared.max_connections.saturating_sub(free)
    }

    /// Reads certificates and keys again.
    pub(super) fn reload(&self, mqtt: &Mqtt) -> Result<(), BrokerError> {
        if let Some(tls) = &self.shared.tls {
            let config = tls::server_config(mqtt)?;
            *tls.write() = config;
        }
        Ok(())
    }

    /// Begins to let connections in.
    pub(super) fn open(&self, runtime: &Runtime) -> io::Result<()> {
        let _inside = runtime.enter();
        for door in &self.doors {
            let listener = TcpListener::from_std(door.listener.try_clone()?)?;
            let shared = Arc::clone(&self.shared);
            let (tls, websocket) = (door.tls, door.websocket);
            tracing::info!(address = %door.address, kind = door.name, "listening for MQTT");
            runtime.spawn(accept(listener, shared, tls, websocket));
        }
        Ok(())
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: bool, websocket: bool) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let served = serve(stream, peer, &shared, tls, websocket).await;
                    if let Err(error) = served {
                        tracing::debug!(%peer, %error, "MQTT connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Shared,
    tls: bool,
    websocket: bool,
) -> Result<(), Ended> {
    let _place = shared.places.try_acquire().map_err(|_| Ended::TooMany)?;
    let stranger = shared.strangers.try_acquire();
    let stranger = stranger.map_err(|_| Ended::TooMany)?;
    let until = tokio::time::Instant::now() + PATIENCE;
    stream.set_nodelay(true)?;
    if !tls {
        let entrance = relay::Entrance::new(shared, peer, None, until);
        return match websocket {
            true => websocket::serve(stream, entrance, stranger).await,
            false => relay::serve(stream, entrance, stranger).await,
        };
    }
    let Some(config) = shared.tls.as_ref().map(|tls| Arc::clone(&tls.read())) else {
        return Ok(());
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = tokio::time::timeout_at(until, handshake).await;
    let stream = stream.map_err(|_| Ended::TooSlow)??;
    let identity = tls::identity(stream.get_ref().1);
    let entrance = relay::Entrance::new(shared, peer, identity, until);
    match websocket {
        true => websocket::serve(stream, entrance, stranger).await,
        false => relay::serve(stream, entrance, stranger).await,
    }
}
