//! What the API asks of the gateway that carries it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::answers::Taken;
use crate::credentials::KeyEncoding;
use crate::engine::{DeviceDetail, Page, PageRequest};
use crate::lwm2m::model::ObjectModels;
use crate::telemetry::ListenerTimes;

/// Takes an answer, on whatever thread gives it. Dropped without one, there is none.
pub(crate) type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Where keys are kept.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile {
    /// Its listener, as in `dtls:default`.
    pub(crate) listener: String,
    /// The file, where there is one.
    pub(crate) path: Option<PathBuf>,
    /// How keys are written there.
    pub(crate) encoding: KeyEncoding,
    /// Identities of the configuration, with their endpoints.
    pub(crate) configured: Vec<(Box<[u8]>, Vec<String>)>,
}

/// What protects what a device sends.
#[derive(Debug, Clone)]
pub(crate) struct SessionDetail {
    /// As in `TLS_PSK_WITH_AES_128_CCM_8`.
    pub(crate) suite: String,
    /// Of the key, or of the certificate.
    pub(crate) identity: String,
    /// The device has shown a certificate.
    pub(crate) certificate: bool,
    /// Its records bear a connection id.
    pub(crate) connection_id: bool,
    /// Since the handshake; `None` for a session that the store brought back.
    pub(crate) age: Option<Duration>,
}

/// One device.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What the engine knows.
    pub(crate) detail: DeviceDetail,
    /// Its DTLS session.
    pub(crate) session: Option<SessionDetail>,
}

/// What the API asks of the gateway. No method waits for a shard.
pub(crate) trait Backend: Send + Sync + 'static {
    /// How many shards there are.
    fn shards(&self) -> usize;

    /// The next devices of a shard.
    fn page(&self, shard: usize, request: PageRequest, to: Reply<Page>);

    /// One device; `None` when it is not registered.
    fn detail(&self, endpoint: &str, to: Reply<Option<Found>>);

    /// Gives a command to the shard of its endpoint. Its answers come by
    /// [`Hub::answer`](super::Hub::answer) with `number`.
    fn command(&self, endpoint: &str, payload: Vec<u8>, number: u64) -> Taken;

    /// Ends a registration; false when there is none.
    fn kick(&self, endpoint: &str) -> bool;

    /// Registered devices.
    fn registrations(&self) -> usize;

    /// Counters and gauges by name.
    fn statistics(&self) -> BTreeMap<&'static str, u64>;

    /// Registrations now, by listener.
    fn registrations_by_listener(&self) -> Vec<(String, usize)>;

    /// How long things took, by listener.
    fn times(&self) -> Vec<ListenerTimes>;

    /// Every key of the configuration in force, with stars for secrets.
    fn config(&self) -> Option<Map<String, Value>>;

    /// The DTLS listeners and where their keys are.
    fn key_files(&self) -> Vec<KeyFile>;

    /// Has the files read again, which were replaced as a whole; they are in force afterwards.
    fn read_key_files(&self);

    /// The object definitions that are known.
    fn models(&self) -> Option<Arc<ObjectModels>>;

    /// Name, as in `udp:default`, and address of each listener.
    fn listeners(&self) -> Vec<(String, SocketAddr)>;

    /// Who loaded the gateway: `standalone`, `mosquitto`, `c`, `nif`, `library`.
    fn host(&self) -> &'static str;
}
