//! The gateway's log lines as the broker's. They are written on the broker's main thread only;
//! lines of other threads wait in the outbox for its next turn.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::Shared;
use super::abi::{Broker, Level, OnThread};

/// Starts every line.
const PREFIX: &str = "lwm2m: ";

/// Logs lines up to a level. Spans are not used in this library.
pub(super) struct BrokerLog {
    pub(super) broker: Arc<OnThread<Broker>>,
    pub(super) shared: Arc<Shared>,
    pub(super) level: LevelFilter,
}

impl Subscriber for BrokerLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line {
            text: PREFIX.to_owned(),
            fields: String::new(),
        };
        event.record(&mut line);
        line.text.push_str(&line.fields);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        match self.broker.get() {
            Some(broker) => broker.log(level, &line.text),
            None => self.shared.log(level, line.text),
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message, and ` key=value` for each field.
struct Line {
    text: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.text.push_str(value);
        } else if value.is_empty() || value.contains([' ', '"', '=']) {
            self.record_debug(field, &value);
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.text, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

/// The level of `log.level`. A filter by parts of the program is for the stand-alone program.
pub(super) fn level(text: &str) -> Option<LevelFilter> {
    text.parse().ok()
}
