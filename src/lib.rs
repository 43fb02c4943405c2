//! An LwM2M gateway that lives inside an MQTT broker.
//!
//! Devices speak LwM2M (CoAP over UDP) to it, applications speak MQTT JSON. The protocol core
//! does no I/O: it has no sockets, clocks, threads or randomness of its own. The shells around it
//! (`transport`, `runtime`, `host`) own those.

#![deny(unsafe_code)]

pub mod admission;
pub mod bridge;
pub mod coap;
pub mod config;
pub mod credentials;
pub mod dtls;
pub mod engine;
pub mod ffi;
pub mod host;
pub mod lwm2m;
mod mac;
pub mod memory;
mod mqtt;
pub mod printable;
pub mod runtime;
#[cfg(feature = "standalone")]
pub mod simulate;
pub mod system;
pub mod telemetry;
pub mod time;
pub mod transport;

pub use config::Config;
