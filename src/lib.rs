//! An LwM2M gateway that runs inside an MQTT broker, or inside any program that carries messages.
//!
//! Devices connect with LwM2M (CoAP over UDP, with or without DTLS), applications use JSON over MQTT.
//!
//! - A [`Host`] carries the messages: it publishes those of the gateway and subscribes to the topics
//!   of commands. You must implement only three of its methods.
//! - [`Gateway::start`] binds the listeners of a [`Config`] and starts the threads. Pass commands to
//!   [`Gateway::deliver`]; [`Gateway::devices`] returns the registered devices; [`Gateway::stop`]
//!   answers waiting commands.
//! - A [`ConfigSource`] reads TOML, JSON or HOCON, or sets keys one by one. `docs/configuration.md`
//!   lists all keys, `docs/mqtt.md` describes topics, commands and answers.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use lwm2m_gateway::{ConfigSource, Gateway, Host, Message, Publish};
//!
//! /// Prints what the gateway publishes.
//! struct Printer;
//!
//! impl Host for Printer {
//!     fn publish(&self, batch: &mut Vec<Publish>) {
//!         for message in batch.drain(..) {
//!             println!("{}: {} bytes", message.topic, message.payload.len());
//!         }
//!     }
//!
//!     fn subscribe(&self, filter: &str, _qos: u8) {
//!         println!("commands arrive on {filter}");
//!     }
//!
//!     fn unsubscribe(&self, _filter: &str) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut source = ConfigSource::from_toml("lifetime_max = '1h'");
//! source.set("listeners.udp.default.bind", "127.0.0.1:0");
//! let (config, warnings) = source.read().map_err(|mut mistakes| mistakes.remove(0))?;
//! assert!(warnings.is_empty());
//!
//! let gateway = Gateway::start(config, Arc::new(Printer))?;
//! let (name, address) = gateway.listeners().remove(0);
//! println!("devices register at {address} ({name})");
//! gateway.deliver(Message {
//!     topic: "lwm2m/sn-1/dn".to_owned(),
//!     payload: br#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#.to_vec(),
//!     expiry: None,
//!     reply: None,
//! });
//! assert!(gateway.stop(Duration::from_secs(5)));
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` is a complete host in fifty lines.
//!
//! # Stability
//!
//! The items on this page are the public API; `tests/public_api.txt` lists them. They follow Semantic
//! Versioning: before 1.0, a breaking change needs a new minor version, and a new variant of an enum
//! is a breaking change. The gateway logs with [`tracing`]. To get the lines, install a subscriber
//! before you start a gateway; [`line_of`] turns an event into one line.
//!
//! # Features
//!
//! - `http` (default): the HTTP API with its console, used if `http.bind` is set.
//! - `standalone` (default): the program `lwm2m-gateway` with its embedded MQTT broker, as [`cli`].
//!   Your own host does not need it: `default-features = false`.
//! - `vendored-openssl`: OpenSSL built from source and linked statically.
//! - `internals`: makes the internal modules public, for the tests, benchmarks and fuzz targets of
//!   this repository. **Not stable**: they may change in any version.

#![deny(unsafe_code)]
// Without `internals` the rooms are private, and what is `pub` in them is for each other. With it,
// as tests and lints are built, this lint holds.
#![cfg_attr(not(feature = "internals"), allow(unreachable_pub))]
// What can be reached can be named.
#![cfg_attr(not(feature = "internals"), warn(unnameable_types))]

#[cfg(feature = "internals")]
pub mod admission;
#[cfg(not(feature = "internals"))]
mod admission;
#[cfg(feature = "internals")]
pub mod bridge;
#[cfg(not(feature = "internals"))]
mod bridge;
#[cfg(feature = "standalone")]
pub mod cli;
#[cfg(feature = "internals")]
pub mod coap;
#[cfg(not(feature = "internals"))]
mod coap;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(feature = "internals")]
pub mod credentials;
#[cfg(not(feature = "internals"))]
mod credentials;
#[cfg(feature = "internals")]
pub mod dtls;
#[cfg(not(feature = "internals"))]
mod dtls;
#[cfg(feature = "internals")]
pub mod engine;
#[cfg(not(feature = "internals"))]
mod engine;
#[cfg(feature = "internals")]
pub mod ffi;
#[cfg(not(feature = "internals"))]
mod ffi;
#[cfg(feature = "internals")]
pub mod host;
#[cfg(not(feature = "internals"))]
mod host;
#[cfg(all(feature = "http", feature = "internals"))]
pub mod http;
#[cfg(all(feature = "http", not(feature = "internals")))]
mod http;
#[cfg(feature = "internals")]
pub mod lwm2m;
#[cfg(not(feature = "internals"))]
mod lwm2m;
mod mac;
pub mod memory;
mod mqtt;
#[cfg(feature = "internals")]
pub mod network;
#[cfg(not(feature = "internals"))]
mod network;
#[cfg(feature = "internals")]
pub mod printable;
#[cfg(not(feature = "internals"))]
mod printable;
#[cfg(feature = "internals")]
pub mod runtime;
#[cfg(not(feature = "internals"))]
mod runtime;
#[cfg(all(feature = "internals", feature = "standalone"))]
pub mod simulate;
#[cfg(all(not(feature = "internals"), feature = "standalone"))]
mod simulate;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(feature = "internals")]
pub mod system;
#[cfg(not(feature = "internals"))]
mod system;
mod tables;
#[cfg(feature = "internals")]
pub mod telemetry;
#[cfg(not(feature = "internals"))]
mod telemetry;
#[cfg(feature = "internals")]
pub mod time;
#[cfg(not(feature = "internals"))]
mod time;
#[cfg(feature = "internals")]
pub mod transport;
#[cfg(not(feature = "internals"))]
mod transport;

pub use bridge::topic::{LiteralError, TopicError};
pub use config::read::Source as ConfigSource;
pub use config::{Config, ConfigError, ConfigWarning};
pub use credentials::{FileError, Key, KeyError, MAX_KEY};
pub use dtls::DtlsError;
pub use engine::{
    Decision, DeviceEvent, DeviceInfo, GoneReason, PortableSession, RegistrationRequest,
};
pub use mqtt::{Message, Publish, PublishKind, ReplyTo};
pub use runtime::{
    AuthorizationRequest, Gateway, Host, MAX_NOTE, PskRequest, ReloadError, StartError, Statistics,
    Subscriptions,
};
pub use store::{NotDurable, Receipt};
pub use telemetry::{EventLog, TakesEvents, line_of};
