//! What the owner is told, as Erlang terms.

use std::net::{IpAddr, SocketAddr};
use std::panic::RefUnwindSafe;

use lwm2m_gateway::{
    AuthorizationRequest, DeviceEvent, DeviceInfo, Key, MAX_KEY, PskRequest, Publish, PublishKind,
    RegistrationRequest,
};
use parking_lot::Mutex;
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Encoder, Env, NewBinary, Resource, ResourceArc, Term};

use crate::atoms;

/// One event of a batch.
pub(crate) enum Event {
    Publish(Publish),
    Subscribe {
        filter: String,
        qos: u8,
    },
    Unsubscribe {
        filter: String,
    },
    SubscribeDevice {
        endpoint: String,
        mountpoint: String,
        filter: String,
        qos: u8,
    },
    UnsubscribeDevice {
        endpoint: String,
        filter: String,
    },
    Authorize(Box<AuthorizationRequest>),
    Psk(Box<PskRequest>),
    Device(Box<DeviceEvent>),
    Log {
        level: Atom,
        target: &'static str,
        text: String,
    },
    /// So many events that must not be lost were lost.
    Lost(u64),
    Stopped,
}

impl Event {
    /// Bytes of its parts without bound, for the size of a batch.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Publish(publish) => {
                let correlation = publish.correlation.as_deref().map_or(0, <[u8]>::len);
                let content = publish.topic.len().saturating_add(publish.payload.len());
                content.saturating_add(correlation)
            }
            Self::Log { text, .. } => text.len(),
            _ => 0,
        }
    }

    /// Bytes that it takes of the account of memory.
    pub(crate) fn cost(&self) -> usize {
        let inner = match self {
            Self::Publish(publish) => publish.bytes(),
            Self::Subscribe { filter, .. } | Self::Unsubscribe { filter } => filter.len(),
            Self::SubscribeDevice {
                endpoint,
                mountpoint,
                filter,
                ..
            } => endpoint.len() + mountpoint.len() + filter.len(),
            Self::UnsubscribeDevice { endpoint, filter } => endpoint.len() + filter.len(),
            Self::Authorize(request) => request.registration.bytes(),
            Self::Psk(request) => request.identity.len(),
            Self::Device(event) => event.bytes(),
            Self::Log { text, .. } => text.len(),
            Self::Lost(_) | Self::Stopped => 0,
        };
        inner.saturating_add(size_of::<Self>())
    }

    /// The event as a term. Questions become resources that answer themselves when they are
    /// collected.
    pub(crate) fn into_term(self, env: Env<'_>) -> Term<'_> {
        match self {
            Self::Publish(publish) => {
                let mut parts = vec![
                    atoms::publish().encode(env),
                    kind(publish.kind).encode(env),
                    text(env, &publish.endpoint),
                    text(env, &publish.topic),
                    binary(env, &publish.payload),
                    publish.qos.encode(env),
                ];
                if let Some(data) = &publish.correlation {
                    let pair = (atoms::correlation_data(), binary(env, data));
                    parts.push(map(env, &[pair]));
                }
                make_tuple(env, &parts)
            }
            Self::Subscribe { filter, qos } => {
                (atoms::subscribe(), text(env, &filter), qos).encode(env)
            }
            Self::Unsubscribe { filter } => (atoms::unsubscribe(), text(env, &filter)).encode(env),
            Self::SubscribeDevice {
                endpoint,
                mountpoint,
                filter,
                qos,
            } => (
                atoms::subscribe(),
                text(env, &endpoint),
                text(env, &mountpoint),
                text(env, &filter),
                qos,
            )
                .encode(env),
            Self::UnsubscribeDevice { endpoint, filter } => (
                atoms::unsubscribe(),
                text(env, &endpoint),
                text(env, &filter),
            )
                .encode(env),
            Self::Authorize(request) => {
                let map = registration_request(env, &request.registration);
                (atoms::authorize(), Question::ask(*request), map).encode(env)
            }
            Self::Psk(request) => {
                let map = map(
                    env,
                    &[
                        (atoms::listener(), text(env, &request.listener)),
                        (atoms::identity(), binary(env, &request.identity)),
                        (atoms::peer(), address(env, request.peer)),
                    ],
                );
                (atoms::psk(), Question::ask(*request), map).encode(env)
            }
            Self::Device(event) => device_event(env, &event),
            Self::Log {
                level,
                target,
                text: message,
            } => (atoms::log(), level, text(env, target), text(env, &message)).encode(env),
            Self::Lost(count) => (atoms::lost(), count).encode(env),
            Self::Stopped => (atoms::stopped(), atoms::normal()).encode(env),
        }
    }
}

/// A request of the gateway that waits for its answer. Dropped without one, it answers itself.
pub(crate) struct Question<T>(Mutex<Option<T>>);

impl<T> Question<T> {
    /// One that asks nothing, see [`crate::pin`].
    pub(crate) fn keeper() -> Self {
        Self(Mutex::new(None))
    }

    /// The request, for the first who asks.
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().take()
    }
}

impl<T> Question<T>
where
    Self: Resource,
{
    fn ask(request: T) -> ResourceArc<Self> {
        ResourceArc::new(Self(Mutex::new(Some(request))))
    }
}

/// A panic never leaves the lock held with half a change: it guards one `take`.
impl<T> RefUnwindSafe for Question<T> {}

#[rustler::resource_impl]
impl Resource for Question<AuthorizationRequest> {}

#[rustler::resource_impl]
impl Resource for Question<PskRequest> {}

/// A key of a length that DTLS takes.
pub(crate) fn key(bytes: &[u8]) -> Option<Key> {
    (1..=MAX_KEY)
        .contains(&bytes.len())
        .then(|| Key::new(bytes.to_vec()))
}

fn kind(kind: PublishKind) -> Atom {
    match kind {
        PublishKind::Register => atoms::register(),
        PublishKind::Update => atoms::update(),
        PublishKind::Response => atoms::response(),
        PublishKind::Notify => atoms::notify(),
        PublishKind::Send => atoms::send(),
        PublishKind::Series => atoms::series(),
        // Not asked for, see `Host::takes_states`.
        PublishKind::State => atoms::register(),
    }
}

fn device_event<'a>(env: Env<'a>, event: &DeviceEvent) -> Term<'a> {
    let (what, info) = match event {
        DeviceEvent::Registered(info) => (atoms::registered(), device_info(env, info)),
        DeviceEvent::Updated(info) => (atoms::updated(), device_info(env, info)),
        DeviceEvent::Gone { endpoint, reason } => {
            // Every reason there is has a name in the API of JSON.
            let name = serde_json::to_value(reason).unwrap_or_default();
            let reason = Atom::from_str(env, name.as_str().unwrap_or_default());
            let info = map(
                env,
                &[
                    (atoms::endpoint(), text(env, endpoint)),
                    (atoms::reason(), reason.ok().encode(env)),
                ],
            );
            (atoms::gone(), info)
        }
    };
    (atoms::device(), what, info).encode(env)
}

/// `device_info()` of the Erlang API.
pub(crate) fn device_info<'a>(env: Env<'a>, info: &DeviceInfo) -> Term<'a> {
    let objects: Vec<_> = info.objects.iter().map(|it| text(env, it)).collect();
    let mut pairs = vec![
        (atoms::endpoint(), text(env, &info.endpoint)),
        (atoms::peer(), address(env, info.peer)),
        (atoms::listener(), text(env, &info.listener)),
        (atoms::mountpoint(), text(env, &info.mountpoint)),
        (atoms::lifetime(), info.lifetime.encode(env)),
        (atoms::version(), text(env, &info.version)),
        (atoms::queue_mode(), info.queue_mode.encode(env)),
        (atoms::registered_at(), info.registered_at.encode(env)),
        (atoms::idle_ms(), info.idle_ms.encode(env)),
        (atoms::alternate_path(), text(env, &info.alternate_path)),
        (atoms::objects(), objects.encode(env)),
        (atoms::query(), query(env, &info.query)),
        (atoms::observations(), info.observations.encode(env)),
        (atoms::queued(), info.queued.encode(env)),
    ];
    if let Some(identity) = &info.identity {
        pairs.push((atoms::identity(), text(env, identity)));
    }
    if info.restored {
        pairs.push((atoms::restored(), true.encode(env)));
    }
    if let Some(note) = &info.note {
        pairs.push((atoms::note(), binary(env, note)));
    }
    map(env, &pairs)
}

fn registration_request<'a>(env: Env<'a>, request: &RegistrationRequest) -> Term<'a> {
    let mut pairs = vec![
        (atoms::endpoint(), text(env, &request.endpoint)),
        (atoms::peer(), address(env, request.peer)),
        (atoms::listener(), text(env, &request.listener)),
        (atoms::mountpoint(), text(env, &request.mountpoint)),
        (atoms::lifetime(), request.lifetime.encode(env)),
        (atoms::version(), text(env, &request.version)),
        (atoms::query(), query(env, &request.query)),
    ];
    if let Some(identity) = &request.identity {
        pairs.push((atoms::identity(), text(env, identity)));
    }
    map(env, &pairs)
}

fn query<'a>(env: Env<'a>, query: &[(String, String)]) -> Term<'a> {
    let pair = |(key, value): &(String, String)| (text(env, key), text(env, value)).encode(env);
    query.iter().map(pair).collect::<Vec<_>>().encode(env)
}

/// As `inet` has it.
pub(crate) fn address(env: Env<'_>, address: SocketAddr) -> Term<'_> {
    let parts: Vec<Term<'_>> = match address.ip() {
        IpAddr::V4(ip) => ip.octets().iter().map(|it| it.encode(env)).collect(),
        IpAddr::V6(ip) => ip.segments().iter().map(|it| it.encode(env)).collect(),
    };
    (make_tuple(env, &parts), address.port()).encode(env)
}

pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

pub(crate) fn text<'a>(env: Env<'a>, text: &str) -> Term<'a> {
    binary(env, text.as_bytes())
}

/// A map with different keys.
fn map<'a>(env: Env<'a>, pairs: &[(Atom, Term<'a>)]) -> Term<'a> {
    // Refused only when a key stands twice.
    Term::map_from_pairs(env, pairs).unwrap_or_else(|_| Term::map_new(env))
}
