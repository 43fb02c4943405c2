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
mod claims;
mod context;
mod core;
mod device;
mod effects;
mod front;
mod identity;
mod index;
mod info;
mod input;
mod inspect;
mod load;
mod mountpoint;
mod peer;
mod reach;
mod rebind;
mod rebinding;
mod registration;
mod registry;
mod replies;
mod routing;
mod server;
mod settings;
mod sharding;
mod timer;

pub use device::{Device, PortableSession, format, request};
pub use effects::Output;
pub use front::{Engine, EngineOptions};
pub use identity::{Identity, SecureSession};
pub use info::{
    AuthorizationId, Decision, DeviceEvent, DeviceInfo, GoneReason, RegistrationRequest,
};
pub use input::CommandInput;
pub use load::Load;
pub use peer::{Peer, ShardId};
pub use registration::Location;
pub use replies::{overflow_answer, stopping_answer};
pub use settings::{ListenerIds, ListenerSettings, Settings};
pub use sharding::{Directory, Handoff, Wanted, Withheld};
pub use timer::Reason;
