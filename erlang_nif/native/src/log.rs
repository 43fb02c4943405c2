//! What the gateway logs, as events to the owner.

use std::sync::Arc;

use lwm2m_gateway::{TakesEvents, line_of};
use rustler::Atom;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata};

use crate::atoms;
use crate::event;
use crate::outbox::Outbox;

/// Takes the log lines of one gateway.
pub(crate) struct Log {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) level: LevelFilter,
}

impl TakesEvents for Log {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn most(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

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
