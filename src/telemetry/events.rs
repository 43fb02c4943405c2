//! Events of the log for hosts that do something of their own with them.

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Takes what a gateway logs.
pub trait TakesEvents: Send + Sync + 'static {
    /// Whether such events are wanted.
    fn wants(&self, metadata: &Metadata<'_>) -> bool;

    /// The most detailed level that may be wanted.
    fn most(&self) -> Option<LevelFilter> {
        None
    }

    /// Something is logged.
    fn event(&self, event: &Event<'_>);
}

/// A subscriber of `tracing` made of that. The gateway uses no spans, so it knows none.
#[derive(Debug, Clone, Default)]
pub struct EventLog<T>(pub T);

impl<T: TakesEvents> Subscriber for EventLog<T> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.most()
    }

    fn event(&self, event: &Event<'_>) {
        #[cfg(feature = "http")]
        super::ring().push(event);
        self.0.event(event);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
