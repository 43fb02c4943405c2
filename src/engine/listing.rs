//! What an engine tells of its devices when somebody asks: pages in the order of endpoint names,
//! and one device in detail. A question costs a bounded number of steps, however many devices
//! there are.

use std::sync::Arc;
use std::time::Duration;

use super::front::Engine;
use super::listed::{DeviceDetail, Page, PageRequest};
use super::peer::Peer;
use crate::time::{Instant, Now};

/// Devices that one call of [`Engine::page`] looks at.
const LOOKS: usize = 256;

/// Devices that it describes.
const DESCRIBED: usize = 128;

impl Engine {
    /// The next devices of this shard in the order of their names. Looks at [`LOOKS`] at most, so
    /// that it may be shorter than wanted although there is more.
    pub fn page(&self, now: Now, request: &PageRequest) -> Page {
        let filter = &*request.filter;
        let prefix = filter.prefix();
        let limit = request.limit.min(DESCRIBED);
        let mut page = Page::default();
        let after = request.after.as_deref();
        for (looked, (endpoint, key)) in (1..).zip(self.core.registry.behind(after, prefix)) {
            if !endpoint.starts_with(prefix) {
                page.reached = None;
                return page;
            }
            if filter.takes_name(endpoint)
                && let Some(device) = self.core.device(key)
                && device.is_wanted(now, filter, &self.core.env)
            {
                page.devices
                    .push(device.state(now, self.core.info(now, device)));
            }
            page.reached = Some(endpoint.clone());
            if looked >= LOOKS || page.devices.len() >= limit {
                return page;
            }
        }
        page.reached = None;
        page
    }

    /// One device in detail.
    pub fn detail(&self, now: Now, endpoint: &str) -> Option<DeviceDetail> {
        let key = self.core.registry.by_endpoint(endpoint)?;
        let device = self.core.device(key)?;
        Some(device.detail(now, self.core.info(now, device)))
    }

    /// Until when a device in queue mode is awake, from `now` on; `None` for others.
    pub fn awake_for(&self, now: Instant, endpoint: &str) -> Option<Duration> {
        let key = self.core.registry.by_endpoint(endpoint)?;
        self.core.device(key)?.awake_for(now)
    }

    /// Whose address that is.
    pub fn endpoint_at(&self, peer: Peer) -> Option<&Arc<str>> {
        let key = self.core.registry.at(peer)?;
        Some(&self.core.device(key)?.endpoint)
    }

    /// Whether to emit [`Output::DeviceEvent`](super::Output::DeviceEvent) from now on.
    pub fn set_device_events(&mut self, wanted: bool) {
        self.core.env.device_events = wanted;
    }

    /// Whether a device is here and sleeps, so that commands wait for it.
    pub fn sleeps(&self, now: Instant, endpoint: &str) -> bool {
        let key = self.core.registry.by_endpoint(endpoint);
        let device = key.and_then(|key| self.core.device(key));
        device.is_some_and(|device| !device.is_awake(now))
    }
}
