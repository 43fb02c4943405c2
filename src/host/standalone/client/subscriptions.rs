//! The topic filters of the gateway, and what the broker has been asked for of them.

use std::collections::{BTreeMap, BTreeSet};

/// See the module. All of it is bounded by what is wanted and by what the broker has.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    wanted: BTreeMap<String, Wanted>,
    /// Filters, with their QoS, that the session at the broker has or is about to have.
    asked: BTreeMap<String, u8>,
    /// Wanted and not asked for.
    new: BTreeSet<String>,
    /// Asked for and not wanted any more, since the last sweep.
    left: BTreeSet<String>,
    /// The same, for longer.
    leaving: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Wanted {
    qos: u8,
    /// Endpoints; several may have one mountpoint.
    by: BTreeSet<Box<str>>,
}

impl Subscriptions {
    /// A filter is wanted, by an endpoint or for all (`""`). Whether there is something to do.
    pub(super) fn add(&mut self, filter: &str, qos: u8, by: &str) -> bool {
        let wanted = self.wanted.entry(filter.to_owned()).or_default();
        wanted.qos = qos;
        wanted.by.insert(by.into());
        self.left.remove(filter);
        self.leaving.remove(filter);
        let is_new = self.asked.get(filter) != Some(&qos);
        if is_new {
            self.new.insert(filter.to_owned());
        }
        is_new
    }

    /// A filter is wanted no longer by one of those who did.
    pub(super) fn remove(&mut self, filter: &str, by: &str) {
        let Some(wanted) = self.wanted.get_mut(filter) else {
            return;
        };
        wanted.by.remove(by);
        if !wanted.by.is_empty() {
            return;
        }
        self.wanted.remove(filter);
        self.new.remove(filter);
        if self.asked.contains_key(filter) {
            self.left.insert(filter.to_owned());
        }
    }

    /// A connection stands, with the session of before or a new one: everything that is wanted is
    /// to be asked for.
    pub(super) fn begin(&mut self, session_present: bool) -> BTreeMap<String, u8> {
        if !session_present {
            self.asked.clear();
            self.left.clear();
            self.leaving.clear();
        }
        self.new.clear();
        let wanted = self.wanted.iter();
        let wanted: BTreeMap<_, _> = wanted.map(|(f, it)| (f.clone(), it.qos)).collect();
        self.asked.extend(wanted.clone());
        wanted
    }

    /// What is to be asked for now, so many at most.
    pub(super) fn take_new(&mut self, most: usize) -> Vec<(String, u8)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(filter) = self.new.pop_first()
        {
            if let Some(wanted) = self.wanted.get(&filter) {
                self.asked.insert(filter.clone(), wanted.qos);
                taken.push((filter, wanted.qos));
            }
        }
        taken
    }

    /// What is to be taken back: what has not been wanted since the sweep before the last one. A
    /// device that registers again gives its filter up and wants it again at once; in between no
    /// command must be lost.
    pub(super) fn sweep(&mut self) -> Vec<String> {
        let gone = std::mem::replace(&mut self.leaving, std::mem::take(&mut self.left));
        for filter in &gone {
            self.asked.remove(filter);
        }
        gone.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(filter: &str, qos: u8) -> Vec<(String, u8)> {
        vec![(filter.to_owned(), qos)]
    }

    #[test]
    fn b7_a_device_that_registers_again_keeps_its_filter() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.add("a/dn", 1, "a"));
        assert_eq!(subscriptions.take_new(9), asked("a/dn", 1));
        for _ in 0..3 {
            subscriptions.remove("a/dn", "a");
            assert_eq!(subscriptions.sweep(), [""; 0]);
            assert!(!subscriptions.add("a/dn", 1, "a"));
            assert_eq!(subscriptions.take_new(9), []);
        }
        subscriptions.remove("a/dn", "a");
        assert_eq!(subscriptions.sweep(), [""; 0]);
        assert_eq!(subscriptions.sweep(), ["a/dn"]);
        assert_eq!(subscriptions.sweep(), [""; 0]);
        assert!(subscriptions.add("a/dn", 1, "a"), "it is asked for anew");
    }

    #[test]
    fn b7_a_filter_of_several_devices_stays_for_the_last_one() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add("dn", 0, "a");
        subscriptions.add("dn", 0, "b");
        assert_eq!(subscriptions.take_new(9), asked("dn", 0));
        subscriptions.remove("dn", "a");
        subscriptions.remove("dn", "a");
        assert_eq!(
            (subscriptions.sweep(), subscriptions.sweep()),
            (vec![], vec![])
        );
        subscriptions.remove("dn", "b");
        subscriptions.sweep();
        assert_eq!(subscriptions.sweep(), ["dn"]);
    }

    #[test]
    fn b7_a_new_session_is_asked_for_everything_and_told_of_nothing_else() {
        let mut subscriptions = Subscriptions::default();
        for device in ["a", "b", "c"] {
            subscriptions.add(device, 1, device);
        }
        subscriptions.take_new(2);
        subscriptions.remove("a", "a");
        // The session that was kept still has the filter that is not wanted any more.
        let wanted = subscriptions.begin(true);
        assert_eq!(wanted.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(subscriptions.take_new(9), []);
        subscriptions.sweep();
        assert_eq!(subscriptions.sweep(), ["a"]);
        subscriptions.remove("b", "b");
        let wanted = subscriptions.begin(false);
        assert_eq!(wanted.keys().collect::<Vec<_>>(), ["c"]);
        subscriptions.sweep();
        assert_eq!(subscriptions.sweep(), [""; 0]);
    }

    #[test]
    fn another_qos_is_asked_for() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add("dn", 0, "");
        subscriptions.take_new(9);
        assert!(subscriptions.add("dn", 1, ""));
        assert_eq!(subscriptions.take_new(9), asked("dn", 1));
    }

    /// Devices come and go while the broker is away: nothing is left of them.
    #[test]
    fn b7_nothing_grows_while_the_broker_is_away() {
        let mut subscriptions = Subscriptions::default();
        for number in 0..1000 {
            let name = number.to_string();
            subscriptions.add(&name, 1, &name);
            subscriptions.remove(&name, &name);
        }
        let left = [
            subscriptions.wanted.len(),
            subscriptions.asked.len(),
            subscriptions.new.len(),
            subscriptions.left.len() + subscriptions.leaving.len(),
        ];
        assert_eq!(left, [0; 4]);
    }
}
