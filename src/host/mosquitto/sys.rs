//! `$SYS/broker/lwm2m/#`: the counters as retained messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TREE: &str = "$SYS/broker/lwm2m/";

/// What was published last, and when to look again.
pub(super) struct SysTree {
    /// Zero: never.
    interval: Duration,
    next: Option<Instant>,
    last: BTreeMap<&'static str, u64>,
}

impl SysTree {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: None,
            last: BTreeMap::new(),
        }
    }

    /// Whether it is time to look at the counters, at most once an interval.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.interval.is_zero() || self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.next = now.checked_add(self.interval);
        true
    }

    /// Topic and text of each counter that has changed.
    pub(super) fn changed(
        &mut self,
        counters: &BTreeMap<&'static str, u64>,
    ) -> Vec<(String, String)> {
        counters
            .iter()
            .filter(|(name, value)| self.last.insert(name, **value) != Some(**value))
            .map(|(name, value)| (format!("{TREE}{name}"), value.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed() {
        let mut tree = SysTree::new(Duration::from_secs(10));
        let mut counters = BTreeMap::from([("registered", 1), ("requests", 0)]);
        assert_eq!(tree.changed(&counters).len(), 2);
        assert!(tree.changed(&counters).is_empty());
        counters.insert("requests", 5);
        let expected = ("$SYS/broker/lwm2m/requests".to_owned(), "5".to_owned());
        assert_eq!(tree.changed(&counters), [expected]);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // an origin for the times below
    fn once_an_interval() {
        let start = Instant::now();
        let mut tree = SysTree::new(Duration::from_secs(10));
        assert!(tree.is_due(start));
        assert!(!tree.is_due(start + Duration::from_secs(9)));
        assert!(tree.is_due(start + Duration::from_secs(10)));
        assert!(!SysTree::new(Duration::ZERO).is_due(start));
    }
}
