//! MQTT on one side, operations and events on the other.

pub mod downlink;
pub mod topic;
pub mod uplink;
