//! Who loads the gateway: each host adapts [`Host`], nothing more.

pub mod mosquitto;
#[cfg(feature = "standalone")]
pub mod standalone;

use std::sync::Arc;

/// A message for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Endpoint name of the device the message is about.
    pub endpoint: Arc<str>,
    /// Full topic.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
}

/// A message from the broker that may be a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Full topic.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// Message-Expiry-Interval of MQTT 5 in seconds, what was left of it on arrival here.
    pub expiry: Option<u32>,
}

/// What the gateway asks of the broker that carries it. Methods are called from the shards'
/// threads and must not block: a host that cannot take a message at once queues it, within
/// bounds, or counts it as dropped.
pub trait Host: Send + Sync + 'static {
    /// Publishes all of `batch` and leaves it empty. Order within a batch, and between batches of
    /// one thread, is kept.
    fn publish(&self, batch: &mut Vec<Publish>);

    /// Asks for the messages of a topic filter; they come back through
    /// `Gateway::deliver`.
    fn subscribe(&self, filter: &str, qos: u8);

    /// Takes a subscription back.
    fn unsubscribe(&self, filter: &str);

    /// How this host wants to get the commands.
    fn subscriptions(&self) -> Subscriptions {
        Subscriptions::Shared
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
