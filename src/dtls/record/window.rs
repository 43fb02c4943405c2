//! Which records have come before (RFC 6347 §4.1.2.6).

/// How far behind the newest record an older one is still taken.
const WIDTH: u64 = 64;

/// The numbers of the records that came, as far as they matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dtls) struct Window {
    /// One more than the highest number that came; 0: none came.
    edge: u64,
    /// The bit `n` stands for the number `edge - 1 - n`.
    seen: u64,
}

impl Window {
    /// As if all numbers below `edge` had come.
    pub(in crate::dtls) const fn beginning_at(edge: u64) -> Self {
        Self {
            edge,
            seen: u64::MAX,
        }
    }

    /// One more than the highest number that came.
    pub(in crate::dtls) const fn edge(self) -> u64 {
        self.edge
    }

    /// Whether a record with this number may be looked at: it did not come before.
    pub(in crate::dtls) const fn admits(self, number: u64) -> bool {
        match self.edge.checked_sub(number) {
            None | Some(0) => true,
            Some(behind) if behind > WIDTH => false,
            Some(behind) => self.seen >> (behind - 1) & 1 == 0,
        }
    }

    /// A record with this number, which was admitted, is authentic. Returns whether it is newer than all
    /// before.
    pub(in crate::dtls) const fn note(&mut self, number: u64) -> bool {
        match self.edge.checked_sub(number) {
            None | Some(0) => {
                let ahead = number.saturating_sub(self.edge).saturating_add(1);
                self.seen = if ahead >= WIDTH {
                    1
                } else {
                    self.seen << ahead | 1
                };
                self.edge = number.saturating_add(1);
                true
            }
            Some(behind) => {
                if behind <= WIDTH {
                    self.seen |= 1 << (behind - 1);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn none_of_before() {
        let mut window = Window::beginning_at(1000);
        assert!((0..1000).all(|number| !window.admits(number)));
        assert!(window.admits(1000) && window.note(1000));
        assert!(!window.admits(1000) && !window.admits(999));
    }

    proptest! {
        #[test]
        fn each_number_once(numbers in proptest::collection::vec(0u64..300, 0..200)) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            for number in numbers {
                let newest = taken.last().copied();
                let too_old = newest.is_some_and(|newest: u64| newest >= number + WIDTH);
                let expected = !too_old && !taken.contains(&number);
                prop_assert_eq!(window.admits(number), expected);
                if expected {
                    prop_assert_eq!(window.note(number), newest.is_none_or(|it| it < number));
                    taken.insert(number);
                }
            }
        }
    }
}
