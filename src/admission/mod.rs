//! Who may take the gateway's time: rates by source address, by device and in total, access rules,
//! and what happens when more arrives than can be read.
//!
//! No I/O and no clocks: the time comes in as an argument. Everything here has a fixed size and
//! costs a fixed number of steps for a datagram, whatever comes in.

mod access;
mod bucket;
mod door;
mod gate;
mod pressure;
mod rate;
mod sources;

pub use access::{AccessRuleError, AccessRules, MAX_RULES};
pub use bucket::{Bucket, Limit};
pub use door::{Door, Newcomers};
pub use gate::{Gate, Refused};
pub use rate::Rate;
