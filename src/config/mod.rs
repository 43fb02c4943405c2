//! One configuration for every host. Field names and value forms are EMQX's where EMQX has the
//! field (`gateway.lwm2m`); the rest follows the same style.
//!
//! [`Config`] is the schema with its defaults; [`read`] turns TOML, JSON and dotted settings into
//! it, with every mistake named by its key path.

pub mod broker_url;
mod certificates;
mod check;
mod choices;
mod cipher;
#[cfg(feature = "http")]
mod effective;
mod error;
pub mod file;
mod filter;
mod hocon;
mod http;
mod keys;
mod listener;
mod mqtt;
pub(crate) mod places;
mod psk;
mod rates;
pub mod read;
mod reader;
#[cfg(feature = "internals")]
pub mod reference;
mod schema;
mod sections;
mod statistics;
pub(crate) mod value;
mod window;

pub use crate::credentials::EndpointRule;
#[cfg(any(feature = "internals", feature = "standalone"))]
pub use crate::credentials::KeyEncoding;
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
pub use crate::credentials::WorldReadable;
pub use choices::{
    AddressChange, AutoObserve, BooleanSeries, EchoMode, FormatDefault, HostileEndpoint,
    LifetimePolicy, ObservePolicy, OnRestart, OnStoreFailure, StoreSync, UpdateCondition,
};
pub use cipher::{CipherSuite, Group};
#[cfg(feature = "http")]
pub(crate) use effective::effective;
pub use error::{ConfigError, ConfigWarning};
pub(crate) use filter::matches_filter;
#[cfg(any(feature = "http", feature = "internals"))]
pub use http::Http;
pub use listener::{DtlsListener, DtlsOptions, IdleTimeout, PlainRegisters, Takeover, UdpListener};
pub use mqtt::Mqtt;
#[cfg(any(feature = "internals", feature = "standalone"))]
pub use mqtt::{MQTT_CLIENT_ID, MqttSubscribe, MqttVersion};
pub use schema::Config;
#[cfg(feature = "internals")]
pub use sections::Store;
pub use sections::{Blockwise, Coap, Compat, Limits, Log, Queue, Series, Translator};
