//! The C API: `include/lwm2m_gateway.h` is made from this module and compared with it by
//! `tests/header.rs`.
//!
//! Each function checks its pointers, enters the boundary that no panic leaves, calls safe code
//! and maps the result. Everything else is in the modules behind [`api`].

// A shell: it waits for threads and holds descriptors.
#![allow(clippy::disallowed_methods)]

pub mod api;
mod boundary;
mod callbacks;
mod handle;
mod log;
mod options;
mod pending;
mod queue;
pub mod types;
mod wake;

#[cfg(feature = "internals")]
pub use handle::lwm2m_gateway;
