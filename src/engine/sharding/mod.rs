//! Devices and the shards they live in: who is where, what shards say to each other, and what
//! waits for a device that is on its way.

mod arrivals;
mod connections;
mod departed;
mod directory;
mod following;
mod handoff;
mod mounts;

pub(in crate::engine) use arrivals::{Arrivals, Held};
pub(in crate::engine) use departed::{Departed, HANDOFF_TIMEOUT};
pub use directory::Directory;
pub(in crate::engine) use directory::{ClaimError, MountClaim};
pub use handoff::Handoff;
pub(in crate::engine) use handoff::{Wanted, Withheld};
