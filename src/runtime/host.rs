//! What a gateway asks of the host that carries it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::credentials::Key;
use crate::engine::{Decision, DeviceEvent, RegistrationRequest};
use crate::memory::Memory;
use crate::mqtt::Publish;
use crate::store::Receipt;

/// What the gateway asks of the broker that carries it. Methods are called from the shards'
/// threads and must not block: a host that cannot take a message at once queues it, within
/// bounds, or counts it as dropped.
pub trait Host: Send + Sync + 'static {
    /// Publishes all of `batch` and leaves it empty. Order within a batch, and between batches of
    /// one thread, is kept.
    fn publish(&self, batch: &mut Vec<Publish>);

    /// As [`Host::publish`]; `receipt` is settled once the broker has the answers of `batch`
    /// ([`PublishKind::Response`](crate::PublishKind::Response)). The store keeps a command until
    /// then. A host whose broker is in the same process need not do anything about it.
    fn publish_answers(&self, batch: &mut Vec<Publish>, receipt: Receipt) {
        self.publish(batch);
        receipt.settle(Ok(()));
    }

    /// Asks for the messages of a topic filter; they come back through
    /// `Gateway::deliver`.
    fn subscribe(&self, filter: &str, qos: u8);

    /// Takes a subscription back.
    fn unsubscribe(&self, filter: &str);

    /// With [`Subscriptions::PerDevice`]: asks for the commands of one device, which come back
    /// through `Gateway::deliver_to` or `Gateway::deliver`. `mountpoint` is rendered.
    fn subscribe_device(&self, endpoint: &str, mountpoint: &str, filter: &str, qos: u8) {
        let _ = (endpoint, mountpoint);
        self.subscribe(filter, qos);
    }

    /// Takes such a subscription back.
    fn unsubscribe_device(&self, endpoint: &str, filter: &str) {
        let _ = endpoint;
        self.unsubscribe(filter);
    }

    /// What kind of host it is, for people: `standalone`, `mosquitto`, `c`, `nif` are ours.
    fn name(&self) -> &'static str {
        "library"
    }

    /// How this host wants to get the commands.
    fn subscriptions(&self) -> Subscriptions {
        Subscriptions::Shared
    }

    /// Whether a command through `Gateway::deliver` for an endpoint that is not registered is answered
    /// 4.04. Otherwise it is left to whoever has the device, and counted.
    fn answers_for_absent(&self) -> bool {
        true
    }

    /// The account of memory, to be charged for messages that wait in this host
    /// ([`Kind::Outboxes`](crate::memory::Kind)). Called once, before anything else.
    fn attach(&self, memory: &Arc<Memory>) {
        let _ = memory;
    }

    /// Whether [`Host::authorize`] is to be asked at each Register.
    fn authorizes(&self) -> bool {
        false
    }

    /// Whether a device may register. The answer may be given within the call or at any time
    /// after it, from any thread; the device waits meanwhile, others do not.
    fn authorize(&self, request: AuthorizationRequest) {
        request.answer(Decision::Allow { mountpoint: None });
    }

    /// Whether [`Host::psk_lookup`] knows keys.
    fn provides_psk(&self) -> bool {
        false
    }

    /// The key of an identity that the configured sources do not know. May be answered later, as
    /// [`Host::authorize`].
    fn psk_lookup(&self, request: PskRequest) {
        request.answer(None);
    }

    /// Whether messages of [`PublishKind::State`](crate::mqtt::PublishKind) are wanted, which are to
    /// be retained.
    fn takes_states(&self) -> bool {
        false
    }

    /// Whether [`Host::device_events`] is to be called.
    fn watches_devices(&self) -> bool {
        false
    }

    /// Devices came, changed or went. Takes all of `batch` and leaves it empty.
    fn device_events(&self, batch: &mut Vec<DeviceEvent>) {
        batch.clear();
    }
}

/// See [`Host::subscriptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscriptions {
    /// One filter with wildcards for all devices, from start to stop. Commands for devices that
    /// are not registered are answered 4.04.
    Shared,
    /// A filter for each device, from Register to the end of the registration.
    PerDevice,
}

/// A way back to the shard that asked.
pub(crate) type Answer<T> = Box<dyn FnOnce(Option<T>) + Send>;

/// A Register that waits for the host's word. Dropped without an answer, the device is told that
/// the service is unavailable.
pub struct AuthorizationRequest {
    /// Who wants to register.
    pub registration: RegistrationRequest,
    pub(crate) answer: Option<Answer<Decision>>,
}

impl AuthorizationRequest {
    /// Gives the answer.
    pub fn answer(mut self, decision: Decision) {
        if let Some(answer) = self.answer.take() {
            answer(Some(decision));
        }
    }
}

impl Drop for AuthorizationRequest {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(None);
        }
    }
}

impl std::fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AuthorizationRequest")
            .field(&self.registration)
            .finish()
    }
}

/// A handshake that waits for a key. Dropped without an answer, the identity is unknown.
pub struct PskRequest {
    /// Listener, as in `dtls:default`.
    pub listener: Arc<str>,
    /// Where the handshake comes from.
    pub peer: SocketAddr,
    /// The identity as presented (RFC 4279 §5.1 wants UTF-8, which nobody checks).
    pub identity: Arc<[u8]>,
    pub(crate) answer: Option<Answer<Key>>,
}

impl PskRequest {
    /// Gives the key, or `None` for an unknown identity.
    pub fn answer(mut self, key: Option<Key>) {
        if let Some(answer) = self.answer.take() {
            answer(key);
        }
    }
}

impl Drop for PskRequest {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(None);
        }
    }
}

impl std::fmt::Debug for PskRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PskRequest")
            .field("listener", &self.listener)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
