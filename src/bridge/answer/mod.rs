//! From what devices say to JSON.

pub mod content;
mod legacy;
mod members;
mod remarks;
pub mod report;
pub mod series;
pub mod uplink;
pub mod waiting;
