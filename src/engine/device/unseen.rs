//! Without an HTTP API nothing is noted for it.

use super::exchanges::Status;
use super::job::Exchange;
use super::state::Device;
use crate::coap::Code;
use crate::engine::context::Context;

impl Device {
    pub(super) const fn saw_request(&self, _: &Context<'_>) {}

    pub(in crate::engine) const fn saw_received(&self, _: usize) {}

    pub(super) const fn saw_sent(&self, _: &Context<'_>, _: usize) {}

    pub(super) const fn saw_notification(&self, _: &Context<'_>) {}

    pub(in crate::engine) const fn saw_send(&self, _: &Context<'_>) {}

    pub(super) const fn saw_answer(&self, _: &Context<'_>, _: &Exchange, _: Code) {}

    pub(super) const fn saw_failure(&self, _: &Context<'_>, _: &Exchange, _: Status) {}
}
