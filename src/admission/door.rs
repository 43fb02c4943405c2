//! New registrations and DTLS handshakes, counted for the whole gateway. Each of them costs far
//! more than the lock here.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::{Limit, SharedBucket};
use super::rate::Rate;
use super::sources::{Source, Sources};
use crate::time::Instant;

/// Bytes of a table of sources.
const SOURCES: usize = 128 << 10;

/// How long to wait when a source, rather than the gateway, has had its share.
const PATIENCE: Duration = Duration::from_secs(1);

/// What comes from all sources to all listeners, of one kind.
#[derive(Debug)]
pub struct Newcomers {
    source: Option<(Limit, Mutex<Sources>)>,
    total: Option<(Limit, SharedBucket)>,
    hasher: RandomState,
    /// The newest time of any shard, in microseconds: each has the time at which its turn began, and
    /// one with a long turn would find buckets that others have used emptier than they are.
    newest: AtomicU64,
}

impl Newcomers {
    /// So many from one source, and in total.
    pub fn new(source: Rate, total: Rate) -> Self {
        let table = |limit| (limit, Mutex::new(Sources::new(SOURCES)));
        Self {
            source: Limit::new(source).map(table),
            total: Limit::new(total).map(|limit| (limit, SharedBucket::default())),
            hasher: RandomState::new(),
            newest: AtomicU64::new(0),
        }
    }

    /// The newest time that any shard has told.
    fn newest(&self, now: Instant) -> Instant {
        let now = now.as_micros();
        let before = self.newest.fetch_max(now, Ordering::Relaxed);
        Instant::from_micros(before.max(now))
    }

    /// One from `address`.
    ///
    /// # Errors
    /// How long it should wait.
    pub fn admit(&self, now: Instant, address: IpAddr) -> Result<(), Duration> {
        let now = self.newest(now);
        if let Some((limit, sources)) = &self.source {
            let source = Source::of(address);
            let hash = self.hasher.hash_one(source);
            if !sources.lock().take(now, source, hash, *limit) {
                return Err(PATIENCE);
            }
        }
        match &self.total {
            Some((limit, total)) => total.take(now, *limit),
            None => Ok(()),
        }
    }
}

/// The way in through one listener.
#[derive(Debug)]
pub struct Door {
    newcomers: Arc<Newcomers>,
    /// `max_conn_rate`
    own: Option<(Limit, SharedBucket)>,
}

impl Door {
    /// A door that counts in `newcomers`, and lets `rate` in by itself.
    pub fn new(newcomers: Arc<Newcomers>, rate: Rate) -> Self {
        Self {
            newcomers,
            own: Limit::new(rate).map(|limit| (limit, SharedBucket::default())),
        }
    }

    /// A new device from `address`.
    ///
    /// # Errors
    /// How long it should wait.
    pub fn admit(&self, now: Instant, address: IpAddr) -> Result<(), Duration> {
        self.newcomers.admit(now, address)?;
        match &self.own {
            Some((limit, own)) => own.take(self.newcomers.newest(now), *limit),
            None => Ok(()),
        }
    }

    /// Somebody from `address`, who is a new device if `is_new` says so; it is asked where that
    /// matters.
    ///
    /// # Errors
    /// How long to wait.
    pub fn admit_if(
        &self,
        now: Instant,
        address: IpAddr,
        is_new: impl FnOnce() -> bool,
    ) -> Result<(), Duration> {
        if self.own.is_some() && is_new() {
            return self.admit(now, address);
        }
        self.newcomers.admit(now, address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn by_source_in_total_and_by_listener() {
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let at = Instant::from_micros(1_000_000);
        let newcomers = Arc::new(Newcomers::new(rate("3/s"), rate("8/s")));
        let one = Door::new(newcomers.clone(), rate("5/s"));
        let other = Door::new(newcomers, Rate::OFF);
        let passed = |door: &Door, n| (0..20).filter(|_| door.admit(at, ip(n)).is_ok()).count();
        assert_eq!(passed(&one, 1), 3);
        assert!(one.admit_if(at, ip(1), || false).is_err());
        assert_eq!(passed(&one, 2), 2, "max_conn_rate");
        assert_eq!(
            passed(&other, 3),
            2,
            "the source's third came to the other door, the total is 8"
        );
        let wait = one.admit(at, ip(4)).unwrap_err();
        assert!(wait <= Duration::from_secs(1) && !wait.is_zero());
    }

    #[test]
    fn a_shard_that_is_late_refuses_nobody() {
        let newcomers = Arc::new(Newcomers::new(rate("10/s"), rate("10/s")));
        let door = Door::new(newcomers, rate("10/s"));
        let from = IpAddr::from([192, 0, 2, 1]);
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        assert!(door.admit(at(100), from).is_ok());
        // Its turn began long before.
        assert!((0..9).all(|_| door.admit(at(90), from).is_ok()));
        assert!(door.admit(at(90), from).is_err(), "the rate holds for both");
    }

    #[test]
    fn off_lets_everybody_in() {
        let door = Door::new(Arc::new(Newcomers::new(Rate::OFF, Rate::OFF)), Rate::OFF);
        let from = IpAddr::from([192, 0, 2, 1]);
        assert!((0..10_000).all(|_| door.admit(Instant::ZERO, from).is_ok()));
    }
}
