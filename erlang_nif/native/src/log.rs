//! What the gateway logs, as events to the owner.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use rustler::Atom;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::atoms;
use crate::event;
use crate::outbox::Outbox;

/// Bytes of a line; the rest is cut.
const MAX_LINE: usize = 4096;

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
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = line.message + &line.fields;
        if text.len() > MAX_LINE {
            text.truncate(text.floor_char_boundary(MAX_LINE));
        }
        let metadata = event.metadata();
        self.outbox.push([event::Event::Log {
            level: level(*metadata.level()),
            target: metadata.target(),
            text,
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

/// The message, then the fields as `name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
