//! Lines of the libraries, which clients of the embedded broker can cause as often as they like:
//! one an interval for each place in their code.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Target of what comes through the `log` crate, as that of all libraries with something to say
/// does.
const TARGET: &str = "log";

/// Places in code that are told apart; there are fewer.
const MAX_PLACES: usize = 1024;

/// Lets one line a place and interval pass. Single messages, DEBUG and below, are not touched.
pub(super) struct Libraries {
    interval: Duration,
    places: Mutex<HashMap<Place, Instant>>,
    suppressed: Arc<AtomicU64>,
}

impl Libraries {
    /// Counts the lines left out in `suppressed`.
    pub(super) fn new(interval: Duration, suppressed: Arc<AtomicU64>) -> Self {
        Self {
            interval,
            places: Mutex::default(),
            suppressed,
        }
    }

    fn admits(&self, place: Place, now: Instant) -> bool {
        let mut places = self.places.lock();
        if places.len() >= MAX_PLACES && !places.contains_key(&place) {
            places.retain(|_, until| *until > now);
        }
        let has_room = places.len() < MAX_PLACES;
        match places.get_mut(&place) {
            Some(until) if *until > now => return false,
            Some(until) => *until = now + self.interval,
            None if has_room => drop(places.insert(place, now + self.interval)),
            None => return false,
        }
        true
    }
}

impl<S: Subscriber> Layer<S> for Libraries {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() != TARGET || *metadata.level() > Level::INFO {
            return true;
        }
        let mut place = Place::default();
        event.record(&mut place);
        let admitted = self.admits(place, Instant::now());
        if !admitted {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

/// Where in the code a line comes from, as the `log` crate tells it.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Place {
    target: String,
    line: u64,
}

impl Visit for Place {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            value.clone_into(&mut self.target);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u64) -> Place {
        Place {
            target: "rmqtt::server".to_owned(),
            line,
        }
    }

    #[test]
    fn c11_one_line_a_place_and_interval() {
        let second = Duration::from_secs(1);
        let libraries = Libraries::new(10 * second, Arc::default());
        let start = Instant::now();
        assert!(libraries.admits(place(1), start));
        assert!(libraries.admits(place(2), start));
        for _ in 0..1000 {
            assert!(!libraries.admits(place(1), start + 9 * second));
        }
        assert!(libraries.admits(place(1), start + 10 * second));
        assert!(!libraries.admits(place(1), start + 19 * second));
    }

    #[test]
    fn c11_the_places_are_bounded() {
        let second = Duration::from_secs(1);
        let libraries = Libraries::new(10 * second, Arc::default());
        let start = Instant::now();
        for line in 0..5000 {
            let admitted = libraries.admits(place(line), start);
            assert_eq!(admitted, line < MAX_PLACES as u64);
        }
        assert_eq!(libraries.places.lock().len(), MAX_PLACES);
        assert!(libraries.admits(place(5000), start + 10 * second));
        assert_eq!(libraries.places.lock().len(), 1);
    }
}
