//! The broker of the stand-alone host.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::broker_url::BrokerUrl;

/// `mqtt.client_id` that stands for one made of the name of the machine and the listeners.
pub const MQTT_CLIENT_ID: &str = "auto";

/// See [`Mqtt::version`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// `auto`: MQTT 5, and 3.1.1 when the broker does not take it.
    Auto,
    /// `5`: MQTT 5 only.
    V5,
    /// `3.1.1`: MQTT 3.1.1 only.
    V311,
}

/// See [`Mqtt::subscribe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttSubscribe {
    /// `shared`: one filter for all devices; commands for devices that are not registered are
    /// answered.
    Shared,
    /// `per-device`: a filter for each registered device; nothing is answered for others.
    PerDevice,
}

/// `mqtt.tls.*`: MQTT over TLS at the embedded broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MqttTls {
    /// Where it listens. Default none.
    pub bind: Option<SocketAddr>,
    /// PEM file of its certificate chain.
    pub certfile: Option<PathBuf>,
    /// PEM file of its private key.
    pub keyfile: Option<PathBuf>,
    /// PEM file of the authorities whose certificates clients have to show.
    pub cacertfile: Option<PathBuf>,
    /// The common name of a client's certificate is its user, without a password.
    pub identity_as_username: bool,
}

/// `mqtt.websocket.*`: MQTT over WebSocket at the embedded broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MqttWebSocket {
    /// Where it listens. Default none.
    pub bind: Option<SocketAddr>,
    /// Whether it speaks TLS, with the certificate of `mqtt.tls`.
    pub tls: bool,
    /// Pages of these origins may connect, beside those of the same host and port.
    pub origins: Vec<String>,
}

/// `mqtt.*`, stand-alone host only.
#[derive(Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// `mqtt.bind`: where the embedded broker listens. Default `127.0.0.1:1883`.
    pub bind: SocketAddr,
    /// `mqtt.broker`: `mqtt://host:1883` or `mqtts://host:8883`; connect there instead of
    /// running the embedded broker.
    pub broker: Option<String>,
    /// `mqtt.username`
    pub username: Option<String>,
    /// `mqtt.password`
    pub password: Option<String>,
    /// `mqtt.password_file`: file with the password.
    pub password_file: Option<PathBuf>,
    /// `mqtt.users_file`: users of the embedded broker, as `mosquitto_passwd` writes them.
    pub users_file: Option<PathBuf>,
    /// `mqtt.acl_file`: what they may do, in Mosquitto's form.
    pub acl_file: Option<PathBuf>,
    /// `mqtt.tls`
    pub tls: MqttTls,
    /// `mqtt.websocket`
    pub websocket: MqttWebSocket,
    /// `mqtt.max_retained`: retained messages of the embedded broker. Default 200,000.
    pub max_retained: usize,
    /// `mqtt.max_retained_bytes`: bytes of them. Default 64 MiB.
    pub max_retained_bytes: usize,
    /// `mqtt.version`: which MQTT to speak with that broker.
    pub version: MqttVersion,
    /// `mqtt.subscribe`: how commands are asked for.
    pub subscribe: MqttSubscribe,
    /// `mqtt.ownership_topic`: below it gateways on one broker say which devices are theirs. Default
    /// none.
    pub ownership_topic: Option<String>,
    /// `mqtt.client_id`. Default [`MQTT_CLIENT_ID`].
    pub client_id: String,
    /// `mqtt.keepalive`. Default 30 s.
    pub keepalive: Duration,
    /// `mqtt.session_expiry`: how long the broker keeps commands of QoS 1 and 2 while we are away.
    /// Default 24 h.
    pub session_expiry: Duration,
    /// `mqtt.max_queued`: messages kept while the broker is away. Default 100,000.
    pub max_queued: usize,
    /// `mqtt.max_connections`: clients of the embedded broker. Default 10,000.
    pub max_connections: usize,
    /// `mqtt.max_queued_bytes`: bytes of them. Default 64 MiB.
    pub max_queued_bytes: usize,
    /// `mqtt.cacertfile`: PEM file of the authorities to trust instead of the system's.
    pub cacertfile: Option<PathBuf>,
    /// `mqtt.certfile`: PEM file of the client's certificate chain.
    pub certfile: Option<PathBuf>,
    /// `mqtt.keyfile`: PEM file of the client's private key.
    pub keyfile: Option<PathBuf>,
}

/// Without passwords.
impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = self.broker.as_deref().map(str::parse::<BrokerUrl>);
        f.debug_struct("Mqtt")
            .field("bind", &self.bind)
            .field("broker", &broker.and_then(Result::ok))
            .field("username", &self.username)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            broker: None,
            username: None,
            password: None,
            password_file: None,
            users_file: None,
            acl_file: None,
            tls: MqttTls::default(),
            websocket: MqttWebSocket::default(),
            max_retained: 200_000,
            max_retained_bytes: 64 << 20,
            version: MqttVersion::Auto,
            subscribe: MqttSubscribe::Shared,
            ownership_topic: None,
            client_id: MQTT_CLIENT_ID.to_owned(),
            keepalive: Duration::from_secs(30),
            session_expiry: Duration::from_secs(86_400),
            max_queued: 100_000,
            max_connections: 10_000,
            max_queued_bytes: 64 << 20,
            cacertfile: None,
            certfile: None,
            keyfile: None,
        }
    }
}
