//! What the gateway logs, as events to the owner.

use std::sync::Arc;

use lwm2m_gateway::telemetry::line_of;
use rustler::Atom;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::atoms;
use crate::event;
use crate::outbox::Outbox;

/// Takes the log lines of one gateway.
pub(crate) struct Log {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) level: LevelFilter,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    // The gateway uses no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        self.outbox.push([event::Event::Log {
            level: level(*metadata.level()),
            target: metadata.target(),
            text: line_of(event),
        }]);
    }
}

fn level(level: Level) -> Atom {
    if level == Level::ERROR {
        atoms::error()
    } else if level == Level::WARN {
        atoms::warning()
    } else if level == Level::INFO {
        atoms::info()
    } else {
        atoms::debug()
    }
}
