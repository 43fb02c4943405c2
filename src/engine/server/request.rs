//! A request of a device, and what all who answer such requests have in common.

use super::authorization::Authorizations;
use super::blocks::Assemblies;
use super::pending::Pending;
use crate::coap::Message;
use crate::engine::core::Core;

/// A request and how it got here.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Request<'a> {
    pub(in crate::engine) message: &'a Message,
    pub(in crate::engine) datagram: &'a [u8],
    pub(in crate::engine) stage: Stage,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Stage {
    /// It just arrived.
    New,
    /// The host allowed the registration.
    Authorized,
    /// It waited for a device from another shard.
    Returned,
}

/// Requests of which not everything is here.
#[derive(Debug)]
pub(in crate::engine) struct Requests {
    /// Not all blocks.
    pub(in crate::engine) assemblies: Assemblies,
    /// Not the device, which is in another shard, or not the host's word.
    pub(in crate::engine) pending: Pending,
    pub(in crate::engine) authorizations: Authorizations,
}

impl Requests {
    pub(in crate::engine) fn new(assemblies: Assemblies) -> Self {
        Self {
            assemblies,
            pending: Pending::default(),
            authorizations: Authorizations::default(),
        }
    }
}

/// What answers the requests of devices.
pub(in crate::engine) struct Server<'a> {
    pub(in crate::engine) core: &'a mut Core,
    pub(in crate::engine) requests: &'a mut Requests,
}
