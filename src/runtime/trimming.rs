//! When free memory goes back to the system.
//!
//! A DTLS handshake takes some 45 kB for a moment, and many are under way at once when a fleet comes back.
//! The C library keeps what they have freed: it lies between what stays. The same goes for what a restart reads
//! from the store.

/// Handshakes, or devices of the store, from which on there is enough to give back: some 10 MB.
const MANY: u64 = 256;

/// When so few more have come between two looks, it is over.
const FEW: u64 = 16;

/// Looks after which it is done even though more are coming.
const PATIENCE: u32 = 30;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// At the last look.
    seen: u64,
    /// When it was done last.
    done: u64,
    /// Looks since there was enough.
    looks: u32,
}

impl Trimming {
    /// To be asked at regular times with the number of completed handshakes and of devices that came back,
    /// since the start. Whether it is time now.
    pub(super) fn is_due(&mut self, total: u64) -> bool {
        let new = total.saturating_sub(self.seen);
        self.seen = total;
        if total.saturating_sub(self.done) < MANY {
            return false;
        }
        self.looks += 1;
        if new > FEW && self.looks < PATIENCE {
            return false;
        }
        (self.done, self.looks) = (total, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_many_once_it_is_calm() {
        let mut trimming = Trimming::default();
        assert!(!trimming.is_due(0));
        assert!(!trimming.is_due(MANY - 1));
        assert!(!trimming.is_due(5000));
        assert!(!trimming.is_due(9000));
        assert!(trimming.is_due(9000 + FEW));
        assert!(!trimming.is_due(9000 + FEW));
        assert!(!trimming.is_due(9100));
    }

    #[test]
    fn seldom_while_they_keep_coming() {
        let mut trimming = Trimming::default();
        let due = (1..=3 * PATIENCE).filter(|look| trimming.is_due(u64::from(*look) * 1000));
        assert_eq!(due.count(), 3);
    }
}
