//! A running gateway as a resource of the VM.

use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lwm2m_gateway::Config;
use lwm2m_gateway::host::Host;
use lwm2m_gateway::runtime::{Gateway, ReloadError, StartError};
use parking_lot::{Mutex, RwLock};
use rustler::{Atom, Encoder, Env, LocalPid, Monitor, NifResult, Resource, ResourceArc, Term};
use tracing::Dispatch;

use crate::atoms;
use crate::event::{self, Event};
use crate::host::Owner;
use crate::log::Log;
use crate::options::Options;
use crate::outbox::Outbox;

/// Every gateway whose threads may still run, so that they can be waited for before the library
/// goes.
static RUNNING: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
