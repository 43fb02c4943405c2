//! The HTTP API and its console: a server on a thread of its own. It asks the gateway through
//! [`Backend`], and never makes a shard wait: a shard answers questions of bounded size, and what
//! it says by itself is dropped, and counted, where nobody takes it in time.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: sockets, clocks, files
#![allow(unused_qualifications)] // what utoipa's macros make of parameters

mod about;
mod access;
mod answers;
mod authorize;
mod backend;
mod body;
mod caller;
mod commands;
mod console;
mod devices;
mod error;
mod events;
mod files;
mod guard;
mod hub;
mod keys;
mod leshan;
mod log;
mod login;
mod merge;
mod numbers;
mod objects;
mod openapi;
mod passwords;
mod places;
mod roles;
mod routes;
mod server;
mod sessions;
mod shown;
mod sse;
mod state;
mod tls;
mod trace;
mod users;
mod views;

pub(crate) use answers::Taken;
pub(crate) use backend::{Backend, Found, KeyFile, Reply, SessionDetail};
pub(crate) use hub::Hub;
pub(crate) use server::{Change, Running, Server};
pub(crate) use trace::Trace;
#[cfg(feature = "standalone")]
pub(crate) use users::user_line;

/// Reads a file of users, for the fuzz targets.
///
/// # Errors
/// The line, from 1, and what is wrong with it.
#[cfg(feature = "internals")]
pub fn read_users(text: &str) -> Result<(), String> {
    users::Users::read(text).map(|_| ())
}
