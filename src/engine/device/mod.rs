//! One device: its conversation with us, as a state machine. It sees neither another device nor
//! the registry nor a socket; what it may touch beside itself comes with each call, as a
//! [`Context`](super::context::Context), and what it wants done goes into the effects.
//!
//! `state.rs` has what a device is made of; the other files have what it does:
//!
//! * `commands.rs`: a command, through the queue to its first request
//! * `exchanges.rs`: requests under way, their responses and deadlines
//! * `observing.rs`: observations and their notifications
//! * `answers.rs`: what all of that says to the broker
//! * `reaching.rs`: what may be sent to its address
//! * `lifecycle.rs`: registered anew, moved, awake, gone
//! * `ordering.rs`, `moving.rs`: commands keep their order while the device goes from shard to shard
//! * `accounting.rs`: what it takes of memory

mod accounting;
mod answers;
mod auto_observe;
mod commands;
mod effort;
mod exchanges;
pub mod format;
mod info;
mod job;
mod lifecycle;
mod moment;
mod moving;
mod observation;
mod observing;
mod ordering;
mod portable;
mod presence;
mod queue;
mod reaching;
mod refusal;
pub mod request;
#[cfg(any(feature = "http", feature = "internals"))]
mod seeing;
#[cfg(any(feature = "http", feature = "internals"))]
mod seen;
#[cfg(any(feature = "http", feature = "internals"))]
mod shown;
mod silence;
mod state;
mod storing;
mod transfer;
#[cfg(not(any(feature = "http", feature = "internals")))]
mod unseen;
mod waiting;
mod watch;

pub(in crate::engine) use accounting::registration_bytes;
pub use portable::PortableSession;
pub(in crate::engine) use refusal::{
    Refusal, local_error, response_translator, unregistered_answer, unregistered_payload,
};
pub use state::Device;
pub(in crate::engine) use state::{NewDevice, Shown};
