//! Devices as the API shows them.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::backend::{Found, SessionDetail};
use crate::engine::{
    CommandState, DeviceCounters, DeviceInfo, DeviceState, LastAnswer, ObservationState, Outcome,
};

/// A device in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Device {
    endpoint: String,
    state: &'static str,
    listener: String,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    mountpoint: String,
    lifetime: u64,
    version: String,
    queue_mode: bool,
    registered_at: u64,
    last_seen: u64,
    expires_at: u64,
    alternate_path: String,
    objects: Vec<String>,
    queued: usize,
    observations: usize,
}

impl From<DeviceState> for Device {
    fn from(state: DeviceState) -> Self {
        Self::with_query(state).0
    }
}

impl Device {
    /// One that has just said something.
    pub(super) fn awake(now: u64, info: DeviceInfo) -> Self {
        let last_seen = now.saturating_sub(info.idle_ms);
        let lifetime = info.lifetime.saturating_mul(1000);
        Self::from(DeviceState {
            awake: true,
            last_seen,
            expires_at: last_seen.saturating_add(lifetime),
            info,
        })
    }

    pub(super) fn with_query(state: DeviceState) -> (Self, Vec<(String, String)>) {
        let DeviceInfo {
            endpoint,
            peer,
            listener,
            identity,
            mountpoint,
            lifetime,
            version,
            queue_mode,
            registered_at,
            alternate_path,
            objects,
            query,
            observations,
            queued,
            ..
        } = state.info;
        let device = Self {
            endpoint,
            state: if state.awake { "online" } else { "asleep" },
            listener,
            peer: peer.to_string(),
            identity,
            mountpoint,
            lifetime,
            version,
            queue_mode,
            registered_at,
            last_seen: state.last_seen,
            expires_at: state.expires_at,
            alternate_path,
            objects,
            queued,
            observations,
        };
        (device, query)
    }
}

/// The paths of a command or an observation.
#[derive(Debug, Serialize, ToSchema)]
struct Subject {
    #[serde(rename = "reqID", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    request_id: Option<Box<RawValue>>,
    #[serde(rename = "msgType")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<String>>,
}

impl Subject {
    fn new(request_id: Option<String>, kind: &'static str, mut paths: Vec<String>) -> Self {
        let path = (paths.len() == 1).then(|| paths.pop()).flatten();
        Self {
            request_id: request_id.and_then(|id| RawValue::from_string(id).ok()),
            kind,
            paths: path.is_none().then_some(paths),
            path,
        }
    }
}

/// A waiting command.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueueEntry)]
struct Queued {
    #[serde(flatten)]
    subject: Subject,
    /// Whether it has been sent to the device, which has not answered yet.
    sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl From<CommandState> for Queued {
    fn from(state: CommandState) -> Self {
        Self {
            sent: state.waits.is_none(),
            since: state.waits.map(|(since, _)| since),
            until: state.waits.map(|(_, until)| until),
            subject: Subject::new(state.request_id, state.kind, state.paths),
        }
    }
}

/// An observation.
#[derive(Debug, Serialize, ToSchema)]
struct Observation {
    #[serde(flatten)]
    subject: Subject,
    sequence: u32,
    /// When it began, or was restored after a restart.
    since: u64,
    /// When its last notification arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<u64>,
    /// Notifications since it began.
    notifications: u32,
}

impl From<ObservationState> for Observation {
    fn from(state: ObservationState) -> Self {
        Self {
            sequence: state.sequence,
            since: state.since,
            last_at: Some(state.last_at).filter(|at| *at > 0),
            notifications: state.notifications,
            subject: Subject::new(state.request_id, state.kind, state.paths),
        }
    }
}

/// The DTLS session of a device.
#[derive(Debug, Serialize, ToSchema)]
struct Dtls {
    suite: String,
    identity: String,
    /// Whether the device used a certificate instead of a key.
    certificate: bool,
    /// Whether its records carry a connection id (RFC 9146).
    connection_id: bool,
    /// When the handshake was completed; missing for a session restored after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

impl Dtls {
    fn new(now: u64, session: SessionDetail) -> Self {
        let since = |age: Duration| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            now.saturating_sub(age)
        };
        Self {
            suite: session.suite,
            identity: session.identity,
            certificate: session.certificate,
            connection_id: session.connection_id,
            since: session.age.map(since),
        }
    }
}

/// The result of a request.
#[derive(Debug, Serialize, ToSchema)]
struct Answered {
    at: u64,
    #[serde(rename = "msgType")]
    kind: &'static str,
    /// Missing if the request had several paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Code of the answer, such as `2.05`.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// `coap_timeout` or `coap_reset` if the device did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
    took_ms: u32,
}

impl From<LastAnswer> for Answered {
    fn from(answer: LastAnswer) -> Self {
        let (code, failure) = match answer.outcome {
            Outcome::Answered(code) => (Some(format!("{}.{:02}", code >> 5, code & 31)), None),
            Outcome::TimedOut => (None, Some("coap_timeout")),
            Outcome::Reset => (None, Some("coap_reset")),
        };
        Self {
            at: answer.at,
            kind: answer.kind,
            path: answer.path.map(|path| path.to_string()),
            code,
            failure,
            took_ms: answer.took_ms,
        }
    }
}

/// Counters of a device since this shard has known it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CountersOfDevice)]
struct Counted {
    requests: u64,
    responses: u64,
    timeouts: u64,
    resets: u64,
    notifications: u64,
    sends: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl From<DeviceCounters> for Counted {
    fn from(it: DeviceCounters) -> Self {
        Self {
            requests: it.requests,
            responses: it.responses,
            timeouts: it.timeouts,
            resets: it.resets,
            notifications: it.notifications,
            sends: it.sends,
            bytes_in: it.bytes_in,
            bytes_out: it.bytes_out,
        }
    }
}

/// One device in detail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Detail {
    #[serde(flatten)]
    device: Device,
    #[schema(value_type = Vec<Vec<String>>)]
    query: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtls: Option<Dtls>,
    queue: Vec<Queued>,
    observations_list: Vec<Observation>,
    /// Newest first.
    last_answers: Vec<Answered>,
    counters: Counted,
}

impl Detail {
    pub(super) fn new(now: u64, found: Found) -> Self {
        let Found { detail, session } = found;
        let (device, query) = Device::with_query(detail.state);
        Self {
            device,
            query,
            dtls: session.map(|session| Dtls::new(now, session)),
            queue: detail.queue.into_iter().map(Into::into).collect(),
            observations_list: detail.observations.into_iter().map(Into::into).collect(),
            last_answers: detail.last_answers.into_iter().map(Into::into).collect(),
            counters: detail.counters.into(),
        }
    }
}

/// A page of devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Devices<'a> {
    pub(super) devices: Vec<Device>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) next: Option<Cow<'a, str>>,
    /// All registered devices, whatever the filter.
    pub(super) total: usize,
}
