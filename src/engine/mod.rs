//! The LwM2M server as a state machine.
//!
//! [`Engine`] holds the registered devices of one shard. Datagrams, commands and time go in,
//! datagrams, messages for the broker and the next deadline come out. It has no socket, clock,
//! thread or randomness of its own.
//!
//! > **The rule of the run loop:** every call that takes `now` is followed by draining
//! > [`Engine::poll_output`] until it returns [`Output::Idle`].
//!
//! Inside: the `registry` owns the devices and every index to them; a [`Device`] is the
//! conversation with one of them; `effects` keep what is wanted in order; the `server` answers
//! what devices ask; `sharding` moves devices between shards. [`Engine`] finds whose business
//! something is and calls that one.

mod account;
mod awaited;
mod claims;
mod context;
mod core;
mod device;
mod effects;
mod front;
mod identified;
mod identity;
mod index;
mod info;
mod input;
mod inspect;
#[cfg(any(feature = "http", feature = "internals"))]
mod listed;
#[cfg(any(feature = "http", feature = "internals"))]
mod listing;
#[cfg(feature = "internals")]
mod load;
mod mountpoint;
mod peer;
mod reach;
mod rebind;
mod rebinding;
mod registration;
mod registry;
mod replies;
mod restoring;
mod routing;
mod server;
mod sessions;
mod settings;
mod sharding;
mod stored;
mod timer;
mod trace;

#[cfg(feature = "internals")]
pub use crate::mqtt::Origin;
pub use device::PortableSession;
#[cfg_attr(not(feature = "internals"), allow(unused_imports))] // for tests and benchmarks
pub use device::{Device, format, request};
pub use effects::Output;
pub use front::{Engine, EngineOptions};
pub use identity::SecureSession;
pub use info::{
    AuthorizationId, Decision, DeviceEvent, DeviceInfo, GoneReason, RegistrationRequest,
};
pub use input::CommandInput;
#[cfg(any(feature = "http", feature = "internals"))]
pub use listed::{
    CommandState, DeviceCounters, DeviceDetail, DeviceFilter, DeviceState, LastAnswer,
    ObservationState, Outcome, Page, PageRequest, matches_glob,
};
#[cfg(feature = "internals")]
pub use load::Load;
pub use peer::{Peer, ShardId};
#[cfg(feature = "internals")]
pub use registration::StoredRegistration;
pub use replies::{
    absent_answer, overflow_answer, stopping_answer, unreachable_answer, unsubscribed_answer,
};
pub use settings::{ListenerIds, Settings};
pub use sharding::{Directory, Handoff};
#[cfg(feature = "internals")]
pub use stored::StoredIdentity;
pub use stored::{
    Change, CommandStage, Keeping, Restored, StoredCommand, StoredDevice, StoredObservation,
    StoredRefusal,
};
