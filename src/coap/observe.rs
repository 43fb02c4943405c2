//! Freshness of notifications (RFC 7641 §3.4).

use std::time::Duration;

use crate::time::Instant;

/// After this time without a newer notification any sequence number is newer (RFC 7641 §3.4).
const REORDER_WINDOW: Duration = Duration::from_secs(128);

/// In [`Freshness`]: the next notification is newer in any case.
const UNKNOWN: u32 = 1 << 31;

/// The newest notification seen of one observation, in twelve bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub struct Freshness {
    at: Instant,
    /// 24 bits, and [`UNKNOWN`] if nobody knows what came since.
    sequence: u32,
}

impl Freshness {
    /// The first notification.
    pub const fn new(sequence: u32, at: Instant) -> Self {
        Self {
            sequence: sequence & 0xff_ffff,
            at,
        }
    }

    /// Some notifications after `sequence`, nobody knows how many.
    pub const fn unknown(sequence: u32, at: Instant) -> Self {
        Self {
            sequence: sequence & 0xff_ffff | UNKNOWN,
            at,
        }
    }

    /// The newest sequence number, 24 bits.
    pub const fn sequence(&self) -> u32 {
        self.sequence & 0xff_ffff
    }

    /// Whether `sequence`, arriving at `now`, is newer than what was seen; if so it is now the
    /// newest. Duplicates are not newer.
    pub fn accept(&mut self, sequence: u32, now: Instant) -> bool {
        let (v1, v2) = (self.sequence(), sequence & 0xff_ffff);
        let newer = self.sequence & UNKNOWN != 0
            || (v1 < v2 && v2 - v1 < 1 << 23)
            || (v1 > v2 && v1 - v2 > 1 << 23)
            || (now - self.at > REORDER_WINDOW && v1 != v2);
        if newer {
            *self = Self::new(v2, now);
        }
        newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_wrap_and_time() {
        let second = |s: u64| Instant::from_micros(s * 1_000_000);
        let mut seen = Freshness::new(10, second(0));
        assert!(!seen.accept(10, second(1)), "duplicate");
        assert!(!seen.accept(9, second(1)), "older");
        assert!(seen.accept(11, second(1)));
        assert!(seen.accept(0x80_0000, second(2)));
        assert!(seen.accept(0xff_ffff, second(2)));
        assert!(seen.accept(3, second(3)), "wrapped");
        assert!(!seen.accept(0xff_ffff, second(4)));
        assert!(seen.accept(2, second(200)), "anything is newer after 128 s");
        assert!(
            !seen.accept(2, second(400)),
            "a late duplicate stays a duplicate"
        );
        let mut restored = Freshness::unknown(100, second(0));
        assert!(restored.accept(7, second(1)), "the device may have wrapped");
        assert!(!restored.accept(7, second(1)), "once");
    }
}
