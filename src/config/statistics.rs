//! Statistics over MQTT.

use std::time::Duration;

/// `statistics.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// `statistics.interval`: how often they are published; zero, the default: not at all.
    pub interval: Duration,
    /// `statistics.topic`: what their topics begin with. Default `lwm2m/$stats`.
    pub topic: String,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            interval: Duration::ZERO,
            topic: "lwm2m/$stats".to_owned(),
        }
    }
}
