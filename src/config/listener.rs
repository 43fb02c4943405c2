//! The sockets for devices, and how devices are let in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::choices::FormatDefault;
use super::cipher::{CipherSuite, Group};
use crate::admission::{AccessRules, Rate};
use crate::credentials::{
    CertificateOptions, Credential, EndpointRule, KeyEncoding, Sources, WorldReadable,
};

/// `listeners.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listeners {
    /// `listeners.udp.NAME`. One named `default` on port 5683 when none is configured, unless a
    /// DTLS listener is: who asks for DTLS only does not get an open port beside it.
    pub udp: BTreeMap<String, UdpListener>,
    /// `listeners.dtls.NAME`. Default none.
    pub dtls: BTreeMap<String, DtlsListener>,
}

/// `listeners.udp.NAME`, and what a DTLS listener has in common with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpListener {
    /// Default true.
    pub enable: bool,
    /// `"ip:port"`, `":port"`, `"port"` or a number. Default `0.0.0.0:5683`, with DTLS
    /// `0.0.0.0:5684`.
    pub bind: SocketAddr,
    /// Most registrations by this listener, with DTLS also most sessions; `"infinity"` = none.
    /// Default 1,000,000.
    pub max_connections: usize,
    /// Devices that are let in a second: with UDP Registers from addresses where none is
    /// registered, with DTLS handshakes. Default no limit.
    pub max_conn_rate: Rate,
    /// Which addresses may send at all. Default all.
    pub access_rules: AccessRules,
    /// Instead of the gateway's mountpoint.
    pub mountpoint: Option<String>,
    /// Instead of the gateway's `shared_mountpoint`.
    pub shared_mountpoint: Option<bool>,
    /// Instead of the gateway's `plain_registers`; without DTLS only.
    pub plain_registers: Option<PlainRegisters>,
    /// Instead of the gateway's content format.
    pub format: Option<FormatDefault>,
    /// Kernel receive buffer in bytes. Default 4 MiB.
    pub recbuf: usize,
    /// Kernel send buffer in bytes. Default 1 MiB.
    pub sndbuf: usize,
}

/// `listeners.dtls.NAME`: DTLS 1.2 with pre-shared keys, certificates or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsListener {
    /// What a UDP listener has too, under the same names.
    pub common: UdpListener,
    /// `psk_file`: file of `identity:key` lines.
    pub psk_file: Option<PathBuf>,
    /// `psk_file_keys`: how keys are written in that file. Default `hex`.
    pub psk_file_keys: KeyEncoding,
    /// Whether everybody may read that file, as [`Config::world_readable_keys`] says.
    ///
    /// [`Config::world_readable_keys`]: super::Config::world_readable_keys
    pub world_readable: WorldReadable,
    /// `psk`: credentials in the configuration itself; they win over those of the file.
    pub psk: Vec<Credential>,
    /// `identity_separator`: characters that may stand between a configured identity and a suffix
    /// of the device's choice. Empty, the default: no suffixes.
    pub identity_separator: String,
    /// `endpoint_rule`. Default `owned`.
    pub endpoint_rule: EndpointRule,
    /// `takeover`. Default `move`.
    pub takeover: Takeover,
    /// `max_sessions_per_credential`: sessions by one key at a time. Default any number: when there
    /// are too many for the listener, the credential with most gives way.
    pub max_sessions_per_credential: usize,
    /// `connection_id.length`: bytes of the connection ids (RFC 9146) that devices get, 8, or 0 for
    /// none. Default 8.
    pub connection_id_length: u8,
    /// `connection_id.padding`: what is encrypted in a record with a device's id is filled up to a
    /// multiple of so many bytes. Default 0: not at all.
    pub connection_id_padding: usize,
    /// `max_sessions_per_source`: sessions from one address (IPv6: a /64) at a time. Default any
    /// number.
    pub max_sessions_per_source: usize,
    /// `dtls_options`
    pub options: DtlsOptions,
    /// What of it is about certificates, and the keys about them beside it.
    pub certificates: CertificateOptions,
}

/// Which endpoints a device without DTLS may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainRegisters {
    /// `uncovered`: those that no credential of any DTLS listener covers.
    Uncovered,
    /// `any`: every endpoint.
    Any,
}

/// What becomes of the registration of a connection that is displaced by a newer one of the same
/// identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// `move`: it goes on over the new connection, with its observations and its queue.
    Move,
    /// `end`: it ends, the device has to register again.
    End,
}

/// When a session without records is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleTimeout {
    /// `registration`: not as long as its device is registered; else after `session_timeout`.
    Registration,
    /// After so long, whoever has it.
    After(Duration),
    /// `infinity`: not at all.
    Never,
}

/// `listeners.dtls.NAME.dtls_options.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsOptions {
    /// `ciphers`: cipher suites, the preferred one first. Never empty. Default
    /// [`CipherSuite::DEFAULT`].
    pub ciphers: Vec<CipherSuite>,
    /// `groups`: groups for the key exchange of suites with ECDHE, the preferred one first. Never
    /// empty. Default [`Group::DEFAULT`].
    pub groups: Vec<Group>,
    /// `handshake_timeout`: a handshake that takes longer is given up. Default 15 s.
    pub handshake_timeout: Duration,
    /// `retransmit_timeout`: wait before the first retransmission of a flight of the handshake,
    /// doubled each time (RFC 6347 section 4.2.4.1). Default 1 s.
    pub retransmit_timeout: Duration,
    /// `max_handshakes`: handshakes in progress at a time. Default 10,000.
    pub max_handshakes: usize,
    /// `max_failures`: handshakes of one address (IPv6: a /64) in a minute that may fail for want
    /// of a key before it is slowed; 0: any number. Default 10.
    pub max_failures: u32,
    /// `reuse_sessions`: whether sessions can be resumed by their id. Default true.
    pub reuse_sessions: bool,
    /// `session_cache`: sessions that are remembered for that. Default 20,000.
    pub session_cache: usize,
    /// `session_timeout`: how long they are remembered. Default 24 h.
    pub session_timeout: Duration,
    /// `idle_timeout`: when a session without records is closed. Default
    /// [`IdleTimeout::Registration`].
    pub idle_timeout: IdleTimeout,
    /// `mtu`: largest UDP payload that is sent. Default 1,232 bytes, which is 1,280, the least
    /// that IPv6 carries unfragmented, without its headers; a CoAP message of 1,152 bytes (RFC
    /// 7252 section 4.6) fits in a record of any of the suites.
    pub mtu: usize,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            udp: BTreeMap::from([("default".to_owned(), UdpListener::default())]),
            dtls: BTreeMap::new(),
        }
    }
}

impl Default for UdpListener {
    fn default() -> Self {
        Self {
            enable: true,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5683)),
            max_connections: 1_000_000,
            max_conn_rate: Rate::OFF,
            access_rules: AccessRules::default(),
            mountpoint: None,
            shared_mountpoint: None,
            plain_registers: None,
            format: None,
            recbuf: 4 << 20,
            sndbuf: 1 << 20,
        }
    }
}

impl Default for DtlsListener {
    fn default() -> Self {
        Self {
            common: UdpListener {
                bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5684)),
                // An idle session takes some 1 kB, one with a CBC suite some 35 kB.
                max_connections: 1_000_000,
                ..UdpListener::default()
            },
            psk_file: None,
            psk_file_keys: KeyEncoding::Hex,
            world_readable: WorldReadable::Refuse,
            psk: Vec::new(),
            identity_separator: String::new(),
            endpoint_rule: EndpointRule::Owned,
            takeover: Takeover::Move,
            max_sessions_per_credential: usize::MAX,
            connection_id_length: 8,
            connection_id_padding: 0,
            max_sessions_per_source: usize::MAX,
            options: DtlsOptions::default(),
            certificates: CertificateOptions::default(),
        }
    }
}

impl Default for DtlsOptions {
    fn default() -> Self {
        Self {
            ciphers: CipherSuite::DEFAULT.to_vec(),
            groups: Group::DEFAULT.to_vec(),
            handshake_timeout: Duration::from_secs(15),
            retransmit_timeout: Duration::from_secs(1),
            max_handshakes: 10_000,
            max_failures: 10,
            reuse_sessions: true,
            session_cache: 20_000,
            session_timeout: Duration::from_secs(86_400),
            idle_timeout: IdleTimeout::Registration,
            mtu: 1232,
        }
    }
}

impl<'a> From<&'a DtlsListener> for Sources<'a> {
    fn from(listener: &'a DtlsListener) -> Self {
        Self {
            configured: &listener.psk,
            file: listener.psk_file.as_deref(),
            file_keys: listener.psk_file_keys,
            world_readable: listener.world_readable,
            separators: &listener.identity_separator,
            rule: listener.endpoint_rule,
            certified: &listener.certificates.endpoints,
        }
    }
}
