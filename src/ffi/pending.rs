//! What the host was asked and may answer later: by number, each once.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Questions kept at most; the oldest goes first. Long before that the gateway has answered it in
/// the host's place.
const MAX_PENDING: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub(super) struct Pending<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    next: u64,
    questions: BTreeMap<u64, T>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            next: 1,
            questions: BTreeMap::new(),
        }))
    }
}

impl<T> Pending<T> {
    /// Keeps a question; returns its number.
    pub(super) fn add(&self, question: T) -> u64 {
        let mut inner = self.0.lock();
        let id = inner.next;
        inner.next = id.wrapping_add(1);
        inner.questions.insert(id, question);
        let oldest = if inner.questions.len() > MAX_PENDING {
            inner.questions.pop_first()
        } else {
            None
        };
        drop(inner);
        // Dropped only now: a question that is dropped answers itself.
        drop(oldest);
        id
    }

    /// Takes a question out to answer it.
    pub(super) fn take(&self, id: u64) -> Option<T> {
        self.0.lock().questions.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_the_oldest_goes() {
        let pending = Pending::default();
        let first = pending.add("first");
        let second = pending.add("second");
        assert_eq!(pending.take(second), Some("second"));
        assert_eq!(pending.take(second), None);
        for _ in 0..MAX_PENDING {
            pending.add("more");
        }
        assert_eq!(pending.take(first), None);
        assert_eq!(pending.0.lock().questions.len(), MAX_PENDING);
    }
}
