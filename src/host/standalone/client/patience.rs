//! How long to wait for the next connection.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(250);

const LONGEST: Duration = Duration::from_secs(30);

/// While another client has our identifier: each of the two throws the other one out when it comes
/// back.
const SHORTEST_CONTESTED: Duration = Duration::from_secs(60);

const LONGEST_CONTESTED: Duration = Duration::from_secs(600);

/// A connection that stood for a shorter time than this has not ended the trouble.
const STEADY: Duration = Duration::from_secs(10);

/// Connections in a row that the broker soon ended, and let us in again at once, from which on
/// another client seems to have our identifier. Not every broker says so (Mosquitto 2.0 does not).
const CONTESTED: u32 = 4;

/// See the module. The wait doubles from one failure to the next.
#[derive(Debug)]
pub(super) struct Patience {
    wait: Duration,
    /// Connections in a row that stood and were soon ended.
    short: u32,
    /// Whether the broker has said that another client has our identifier.
    taken_over: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            wait: SHORTEST,
            short: 0,
            taken_over: false,
        }
    }
}

impl Patience {
    /// A connection has ended after it `stood`, or there was none. Between half and all of the time
    /// that is due, so that gateways do not return in step.
    pub(super) fn next(&mut self, stood: Option<Duration>, taken_over: bool) -> Duration {
        let due = self.due(stood, taken_over);
        // Each `RandomState` has keys of its own.
        let random = RandomState::new().build_hasher().finish();
        let half = due / 2;
        let part = u32::try_from(random % 1024).unwrap_or(0);
        half + half.saturating_mul(part) / 1024
    }

    /// Whether another client seems to have our identifier.
    pub(super) fn is_contested(&self) -> bool {
        self.taken_over || self.short >= CONTESTED
    }

    fn due(&mut self, stood: Option<Duration>, taken_over: bool) -> Duration {
        match stood {
            // Two clients of one identifier stand for as long as the other one waits.
            Some(stood) if stood >= self.wait.saturating_mul(2).max(STEADY) => {
                *self = Self::default();
                self.taken_over = taken_over;
            }
            Some(_) => {
                self.short = self.short.saturating_add(1);
                self.taken_over |= taken_over;
            }
            // A broker that is away is none that gives our place to others.
            None => {
                *self = Self {
                    wait: self.wait,
                    ..Self::default()
                }
            }
        }
        let (shortest, longest) = match self.is_contested() {
            true => (SHORTEST_CONTESTED, LONGEST_CONTESTED),
            false => (SHORTEST, LONGEST),
        };
        let due = self.wait.clamp(shortest, longest);
        self.wait = due.saturating_mul(2).min(longest);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn the_wait_doubles_and_is_short_again_after_a_steady_connection() {
        let mut patience = Patience::default();
        let waits: Vec<_> = (0..9).map(|_| patience.due(None, false)).collect();
        assert_eq!(waits.first(), Some(&SHORTEST));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(waits.last(), Some(&LONGEST));
        assert_eq!(patience.due(Some(LONGEST), false), LONGEST);
        assert_eq!(patience.due(Some(LONGEST * 2), false), SHORTEST);
    }

    /// How often two clients of one identifier throw each other out in a day.
    fn takeovers(told: bool) -> usize {
        let mut both = [Patience::default(), Patience::default()];
        let (mut time, mut since, mut count) = (Duration::ZERO, Duration::ZERO, 0);
        let mut stood = None;
        while time < DAY {
            // The one that is thrown out waits, and is then the one that throws the other out.
            let loser = &mut both[count % 2];
            let due = loser.due(stood, told);
            stood = Some(time + due - since);
            since = time;
            time += due;
            count += 1;
        }
        count
    }

    #[test]
    fn b13_two_clients_of_one_identifier_leave_each_other_in_peace() {
        let told = takeovers(true);
        assert!(told <= 24 * 60, "{told}: a minute each at least");
        let untold = takeovers(false);
        assert!(untold <= 24 * 60, "{untold}");
    }

    #[test]
    fn b13_a_contest_is_recognised() {
        let mut patience = Patience::default();
        patience.due(Some(Duration::from_secs(3)), true);
        assert!(patience.is_contested(), "the broker says so");
        let mut patience = Patience::default();
        for _ in 0..CONTESTED {
            assert!(!patience.is_contested());
            patience.due(Some(Duration::from_millis(100)), false);
        }
        assert!(patience.is_contested());
        patience.due(Some(LONGEST_CONTESTED * 2), false);
        assert!(!patience.is_contested());
        // A broker that starts and breaks again and again.
        for _ in 0..20 {
            patience.due(Some(Duration::from_millis(100)), false);
            assert!(patience.due(None, false) <= LONGEST);
            assert!(!patience.is_contested());
        }
    }
}
