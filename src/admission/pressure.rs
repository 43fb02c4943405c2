//! When more arrives than a shard can handle, the kernel drops datagrams of everybody. Before it
//! comes to that the shard reads faster than it works: strangers get a share of each turn that
//! follows how full the receive buffer is, and each of their sources a small part for sure.

/// Of a thousand parts of the receive buffer: from here on strangers are cut.
const FULL: u32 = 500;

/// Below this they get more again.
const CALM: u32 = 300;

/// Strangers in a turn when cutting begins.
const FIRST: u32 = 512;

/// Strangers in a turn at least.
const LEAST: u32 = 16;

/// With so many in a turn there is nothing to cut.
const MOST: u32 = 4096;

/// Datagrams of one source in a turn that are taken before those of sources that send more.
const SHARE: u8 = 4;

/// Sources that are told apart, by a part of their hash.
const SLOTS: usize = 256;

/// How much of the strangers' datagrams a shard takes in one turn.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// Strangers in a turn; `None` while there is no need to cut.
    budget: Option<u32>,
    /// What is left in this turn for the first datagrams of sources, and for further ones.
    first: u32,
    further: u32,
    /// Datagrams in this turn by source.
    seen: [u8; SLOTS],
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            budget: None,
            first: 0,
            further: 0,
            seen: [0; SLOTS],
        }
    }
}

impl Pressure {
    /// Whether strangers are cut.
    pub(crate) const fn is_on(&self) -> bool {
        self.budget.is_some()
    }

    /// A turn begins: `fill` is the fullness of the receive buffer in thousandths, zero when the
    /// last turn read all there was.
    pub(crate) fn begin_turn(&mut self, fill: u32) {
        self.budget = match self.budget {
            None => (fill >= FULL).then_some(FIRST),
            Some(budget) if fill >= FULL => Some((budget / 2).max(LEAST)),
            Some(budget) if fill < CALM => {
                let more = budget.saturating_mul(2);
                (more < MOST).then_some(more)
            }
            same => same,
        };
        if let Some(budget) = self.budget {
            self.first = budget / 2;
            self.further = budget - self.first;
            self.seen = [0; SLOTS];
        }
    }

    /// Whether a datagram of a stranger, whose source has `hash`, is taken in this turn.
    pub(crate) fn take(&mut self, hash: u64) -> bool {
        if self.budget.is_none() {
            return true;
        }
        let slot = (hash >> 32) as usize % SLOTS;
        let Some(seen) = self.seen.get_mut(slot) else {
            return false;
        };
        *seen = seen.saturating_add(1);
        let left = if *seen <= SHARE {
            &mut self.first
        } else {
            &mut self.further
        };
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Datagrams that get through of `count` of each source.
    fn turn(pressure: &mut Pressure, fill: u32, sources: &[(u64, usize)]) -> Vec<usize> {
        pressure.begin_turn(fill);
        let passes = |(source, count): &(u64, usize)| {
            (0..*count).filter(|_| pressure.take(*source << 32)).count()
        };
        sources.iter().map(passes).collect()
    }

    #[test]
    fn nobody_is_cut_without_need() {
        let mut pressure = Pressure::default();
        assert_eq!(turn(&mut pressure, 499, &[(1, 100_000)]), [100_000]);
        assert!(!pressure.is_on());
    }

    #[test]
    fn a_flood_leaves_room_for_other_sources() {
        let mut pressure = Pressure::default();
        let flood = [(1, 2000), (2, 1), (3, 4), (4, 9)];
        let passed = turn(&mut pressure, 900, &flood);
        assert_eq!(passed, [260, 1, 4, 4], "half of the turn is for all");
        // The cut follows the fullness, down to a bound.
        for _ in 0..20 {
            turn(&mut pressure, 900, &flood);
        }
        assert_eq!(turn(&mut pressure, 900, &flood), [12, 1, 3, 0]);
        assert_eq!(turn(&mut pressure, 400, &flood), [12, 1, 3, 0], "no change");
        assert_eq!(turn(&mut pressure, 200, &flood), [20, 1, 4, 4]);
        // And ends.
        for _ in 0..10 {
            turn(&mut pressure, 0, &flood);
        }
        assert!(!pressure.is_on());
        assert_eq!(turn(&mut pressure, 0, &[(1, 5000)]), [5000]);
    }

    #[test]
    fn work_of_a_turn_is_bounded_whatever_the_sources() {
        let mut pressure = Pressure::default();
        let spoofed: Vec<_> = (0..100_000).map(|source| (source, 1)).collect();
        let passed: usize = turn(&mut pressure, 900, &spoofed).iter().sum();
        assert!(passed <= FIRST as usize);
    }
}
