//! The log of one gateway: what its threads and its callers say through `tracing`, as lines for
//! the host's callback. Nothing here is global, so each gateway of a process has its own.

use std::sync::Weak;

use parking_lot::RwLock;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};

use super::callbacks::Callbacks;
use super::queue::{Event, LogLine};
use super::types::lwm2m_gateway_log_level as LogLevel;
use crate::telemetry::{TakesEvents, line_of};

/// Which lines are wanted: a level for all, and others for parts of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    level: LevelFilter,
    /// Start of the target and its level, the longest first.
    parts: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// From `log.level`: a level, or levels by target as in `info,lwm2m_gateway::engine=debug`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let level = |text: &str| {
            let known = text.trim().parse::<LevelFilter>();
            known.map_err(|_| {
                format!(
                    "log.level: expected error, warn, info, debug, trace or off, found {text:?}"
                )
            })
        };
        let mut filter = Self {
            level: LevelFilter::ERROR,
            parts: Vec::new(),
        };
        for item in text.split(',').filter(|item| !item.trim().is_empty()) {
            match item.split_once('=') {
                Some((part, text)) => {
                    let part = part.trim().to_owned();
                    filter.parts.push((part, level(text)?));
                }
                None => filter.level = level(item)?,
            }
        }
        filter
            .parts
            .sort_by_key(|(part, _)| std::cmp::Reverse(part.len()));
        Ok(filter)
    }

    fn most(&self) -> LevelFilter {
        let parts = self.parts.iter().map(|(_, level)| *level);
        parts.fold(self.level, LevelFilter::max)
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let part = self
            .parts
            .iter()
            .find(|(part, _)| target.starts_with(part.as_str()));
        *metadata.level() <= part.map_or(self.level, |(_, level)| *level)
    }
}

impl From<LevelFilter> for Filter {
    fn from(level: LevelFilter) -> Self {
        let parts = Vec::new();
        Self { level, parts }
    }
}

/// Takes events of `tracing` and gives lines to the callbacks.
pub(super) struct Logger {
    /// The dispatcher may outlive the gateway in a thread that does not end.
    callbacks: Weak<Callbacks>,
    filter: RwLock<Filter>,
}

impl Logger {
    pub(super) fn new(callbacks: Weak<Callbacks>, filter: Filter) -> Self {
        let filter = RwLock::new(filter);
        Self { callbacks, filter }
    }

    /// Wants other lines from now on.
    pub(super) fn set_filter(&self, filter: Filter) {
        *self.filter.write() = filter;
        tracing::callsite::rebuild_interest_cache();
    }
}

impl TakesEvents for Logger {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.filter.read().wants(metadata)
    }

    fn most(&self) -> Option<LevelFilter> {
        Some(self.filter.read().most())
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let Some(callbacks) = self.callbacks.upgrade() else {
            return;
        };
        let metadata = event.metadata();
        callbacks.emit(Event::Log(LogLine {
            level: level_of(*metadata.level()),
            target: metadata.target(),
            text: line_of(event),
        }));
    }
}

/// The level of the options; 0 is the configuration's.
pub(super) fn filter_of(level: u32, configured: &str) -> Result<Filter, String> {
    const LEVELS: [(LogLevel, LevelFilter); 5] = [
        (LogLevel::Error, LevelFilter::ERROR),
        (LogLevel::Warn, LevelFilter::WARN),
        (LogLevel::Info, LevelFilter::INFO),
        (LogLevel::Debug, LevelFilter::DEBUG),
        (LogLevel::Trace, LevelFilter::TRACE),
    ];
    if level == LogLevel::Default as u32 {
        return Filter::parse(configured);
    }
    LEVELS
        .iter()
        .find(|(known, _)| *known as u32 == level)
        .map(|(_, filter)| Filter::from(*filter))
        .ok_or_else(|| format!("log_level: {level} is not one of LWM2M_GATEWAY_LOG_LEVEL_*"))
}

fn level_of(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let plain = Filter::parse("debug").unwrap();
        assert_eq!(plain, LevelFilter::DEBUG.into());
        let parts = Filter::parse("warn, a=info,a::b=trace").unwrap();
        assert_eq!(parts.level, LevelFilter::WARN);
        assert_eq!(parts.parts[0], ("a::b".to_owned(), LevelFilter::TRACE));
        assert_eq!(parts.most(), LevelFilter::TRACE);
        assert!(Filter::parse("loud").is_err());
        assert!(Filter::parse("info,a=loud").is_err());
        assert_eq!(filter_of(0, "off").unwrap(), LevelFilter::OFF.into());
        assert_eq!(filter_of(4, "off").unwrap(), LevelFilter::DEBUG.into());
        assert!(filter_of(6, "off").is_err());
    }
}
