//! The tables of keys: name, form, meaning, how each is read and how its default is shown. The
//! reader, the suggestions for misspelt keys and `docs/configuration.md` all come from them.

mod coap;
mod compat;
mod emqx;
mod gateway;
mod http;
mod key;
mod limits;
mod listener;
mod standalone;
mod statistics;
mod store;
mod topics;

use super::schema::Config;

pub(crate) use emqx::{DTLS_IGNORED, IGNORED, LISTENER_IGNORED, RENAMED, UDP_IGNORED};
pub(crate) use key::Keys;
pub(crate) use listener::{DTLS_KEYS, UDP_KEYS};

/// Every key but those of a listener.
pub(crate) static KEYS: Keys<Config> = Keys(&[
    gateway::KEYS,
    topics::KEYS,
    coap::KEYS,
    limits::KEYS,
    compat::KEYS,
    store::KEYS,
    http::KEYS,
    statistics::KEYS,
    standalone::KEYS,
]);
