//! Who loads the gateway: each host adapts [`Host`], nothing more.

pub mod mosquitto;
#[cfg(feature = "standalone")]
mod ownership;
#[cfg(feature = "standalone")]
pub mod standalone;

pub use crate::engine::{Decision, DeviceEvent};
pub use crate::mqtt::{Message, Publish, PublishKind, ReplyTo};
pub use crate::runtime::{AuthorizationRequest, Host, PskRequest, Subscriptions};
