//! The gateway's log lines as the broker's. They are written on the broker's main thread only;
//! lines of other threads wait in the outbox for its next turn.

use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata};

use super::abi::{Broker, Level, OnThread};
use super::shared::Shared;
use crate::telemetry::{TakesEvents, line_of};

/// Starts every line.
const PREFIX: &str = "lwm2m: ";

/// Logs lines up to a level.
pub(super) struct BrokerLog {
    pub(super) broker: Arc<OnThread<Broker>>,
    pub(super) shared: Arc<Shared>,
    pub(super) level: LevelFilter,
}

impl TakesEvents for BrokerLog {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn most(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let line = format!("{PREFIX}{}", line_of(event));
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        match self.broker.get() {
            Some(broker) => broker.log(level, &line),
            None => self.shared.log(level, line),
        }
    }
}
