//! What a gateway asks of the host that carries it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::credentials::Key;
use crate::engine::{Decision, DeviceEvent, RegistrationRequest};
use crate::memory::Memory;
use crate::mqtt::Publish;
use crate::store::Receipt;

/// What a host provides: the connection between the gateway and a broker. Methods are called from
/// the shards' threads and must not block. A host that cannot accept a message at once must queue
/// it, within limits, or count it as dropped.
pub trait Host: Send + Sync + 'static {
    /// Publishes all messages of `batch` and leaves it empty. Keep the order within a batch, and
    /// between batches of one thread.
    fn publish(&self, batch: &mut Vec<Publish>);

    /// Like [`Host::publish`]. Settle `receipt` once the broker has the answers of `batch`
    /// ([`PublishKind::Response`](crate::PublishKind::Response)); the store keeps a command until
    /// then. A host whose broker is in the same process does not need to implement this.
    fn publish_answers(&self, batch: &mut Vec<Publish>, receipt: Receipt) {
        self.publish(batch);
        receipt.settle(Ok(()));
    }

    /// Subscribes to a topic filter. Pass matching messages to `Gateway::deliver`.
    fn subscribe(&self, filter: &str, qos: u8);

    /// Removes a subscription.
    fn unsubscribe(&self, filter: &str);

    /// With [`Subscriptions::PerDevice`]: subscribes to the commands of one device. Pass them to
    /// `Gateway::deliver_to` or `Gateway::deliver`. The placeholders of `mountpoint` are filled in.
    fn subscribe_device(&self, endpoint: &str, mountpoint: &str, filter: &str, qos: u8) {
        let _ = (endpoint, mountpoint);
        self.subscribe(filter, qos);
    }

    /// Removes such a subscription.
    fn unsubscribe_device(&self, endpoint: &str, filter: &str) {
        let _ = endpoint;
        self.unsubscribe(filter);
    }

    /// Name of the kind of host, for display. The hosts of this crate are `standalone`,
    /// `mosquitto`, `c` and `nif`.
    fn name(&self) -> &'static str {
        "library"
    }

    /// How this host subscribes to commands.
    fn subscriptions(&self) -> Subscriptions {
        Subscriptions::Shared
    }

    /// Whether a command passed to `Gateway::deliver` for an endpoint that is not registered is
    /// answered 4.04. If not, it is only counted, because another gateway may have the device.
    fn answers_for_absent(&self) -> bool {
        true
    }

    /// The memory account. Charge it for messages that wait in this host
    /// ([`Kind::Outboxes`](crate::memory::Kind)). Called once, before anything else.
    fn attach(&self, memory: &Arc<Memory>) {
        let _ = memory;
    }

    /// Whether [`Host::authorize`] is called for each Register.
    fn authorizes(&self) -> bool {
        false
    }

    /// Asks whether a device may register. Answer within the call or later, from any thread. Until
    /// then only this device waits.
    fn authorize(&self, request: AuthorizationRequest) {
        request.answer(Decision::Allow { mountpoint: None });
    }

    /// Whether [`Host::psk_lookup`] is called.
    fn provides_psk(&self) -> bool {
        false
    }

    /// Asks for the key of an identity that is not in the configuration. You may answer later, as
    /// in [`Host::authorize`].
    fn psk_lookup(&self, request: PskRequest) {
        request.answer(None);
    }

    /// Whether the host wants messages of [`PublishKind::State`](crate::mqtt::PublishKind), which
    /// must be retained.
    fn takes_states(&self) -> bool {
        false
    }

    /// Whether [`Host::device_events`] is called.
    fn watches_devices(&self) -> bool {
        false
    }

    /// Reports that devices have registered, changed or gone. Take all of `batch` and leave it
    /// empty.
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
    /// A filter for each device, from its Register until the registration ends.
    PerDevice,
}

/// A way back to the shard that asked.
pub(crate) type Answer<T> = Box<dyn FnOnce(Option<T>) + Send>;

/// A Register that waits for the host's decision. If it is dropped without an answer, the device is
/// answered 5.03.
pub struct AuthorizationRequest {
    /// The device that wants to register.
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

/// A handshake that waits for a key. If it is dropped without an answer, the identity is treated as
/// unknown.
pub struct PskRequest {
    /// Listener, such as `dtls:default`.
    pub listener: Arc<str>,
    /// Address of the device.
    pub peer: SocketAddr,
    /// The identity as sent by the device. RFC 4279 §5.1 requires UTF-8, but nothing checks that.
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
