//! What hosts get to know of a device.

use super::state::Device;
use crate::bridge::secret::is_secret;
use crate::engine::context::Environment;
use crate::engine::identity::Identity;
use crate::engine::info::DeviceInfo;
use crate::time::Now;

impl Device {
    /// For lists and dashboards.
    pub(in crate::engine) fn info(&self, now: Now, env: &Environment) -> DeviceInfo {
        let registration = &self.registration;
        let links = registration.links.as_ref();
        DeviceInfo {
            endpoint: self.endpoint.to_string(),
            peer: self.peer.address,
            listener: env.listener_name(self.peer),
            identity: self.identity.as_deref().map(Identity::text),
            mountpoint: self.mount.to_string(),
            lifetime: registration.lifetime().as_secs(),
            version: registration.version.to_string(),
            queue_mode: registration.queue_mode,
            registered_at: self.registered_at,
            idle_ms: u64::try_from((now.mono - self.last_seen).as_millis()).unwrap_or(u64::MAX),
            alternate_path: registration.alternate_path().to_owned(),
            objects: links
                .map(|links| links.objects.iter().map(str::to_owned).collect())
                .unwrap_or_default(),
            query: registration
                .queries()
                .filter(|(name, _)| !is_secret(name))
                .collect(),
            observations: self.observations.len(),
            queued: self.queue.len(),
            restored: false,
            note: None,
        }
    }
}
