//! Who wants to know when a command is safe.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::mqtt::Origin;

/// Why a command is not known to be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDurable {
    /// It was not taken: no command, no room, or the gateway stops. Commands that are refused have
    /// been answered.
    Refused,
    /// There is no store.
    NoStore,
    /// The store cannot be written. The command goes on from memory.
    Failed,
}

type Tell = Box<dyn FnOnce(Result<(), NotDurable>) + Send>;

/// Tells somebody, once, when everything that a message has caused is in the store or has its answer.
/// Dropped without a word, that is never the case.
pub struct Receipt {
    shared: Arc<Shared>,
    settled: bool,
    /// Shards that it may still follow its device to.
    hops: u8,
    /// Which message of a broker it is for.
    origin: Option<Origin>,
}

struct Shared {
    tell: Mutex<Option<Tell>>,
    failed: Mutex<Option<NotDurable>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.get_mut().take() {
            tell(self.failed.get_mut().map_or(Ok(()), Err));
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

impl Receipt {
    /// Shards that a receipt follows a device to.
    const HOPS: u8 = 8;

    /// `tell` is called from any thread of the gateway, or from within the call that takes the
    /// message; it must not block.
    pub fn new(tell: impl FnOnce(Result<(), NotDurable>) + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            tell: Mutex::new(Some(Box::new(tell))),
            failed: Mutex::new(None),
        });
        Self::of(shared, Self::HOPS)
    }

    /// For a message of a broker that may give it again.
    #[cfg(feature = "standalone")]
    pub(crate) fn of_message(
        origin: Origin,
        tell: impl FnOnce(Result<(), NotDurable>) + Send + 'static,
    ) -> Self {
        let mut receipt = Self::new(tell);
        receipt.origin = Some(origin);
        receipt
    }

    /// Which message of a broker it is for.
    pub(crate) const fn origin(&self) -> Option<Origin> {
        self.origin
    }

    fn of(shared: Arc<Shared>, hops: u8) -> Self {
        Self {
            shared,
            settled: false,
            hops,
            origin: None,
        }
    }

    /// For one of several commands that come of a message: all of them have to be safe.
    pub(crate) fn part(&self) -> Self {
        Self::of(self.shared.clone(), Self::HOPS)
    }

    /// Whether it may follow its device once more.
    pub(crate) fn hop(&mut self) -> bool {
        let hops = self.hops.checked_sub(1);
        self.hops = hops.unwrap_or(0);
        hops.is_some()
    }

    /// It is safe, or is not.
    pub(crate) fn settle(mut self, outcome: Result<(), NotDurable>) {
        self.settled = true;
        if let Err(reason) = outcome {
            self.shared.failed.lock().get_or_insert(reason);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.settled {
            let mut failed = self.shared.failed.lock();
            failed.get_or_insert(NotDurable::Refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn receipt() -> (Receipt, mpsc::Receiver<Result<(), NotDurable>>) {
        let (to, told) = mpsc::channel();
        let tell = move |outcome| {
            // A test may look no more.
            let _ = to.send(outcome);
        };
        (Receipt::new(tell), told)
    }

    #[test]
    fn told_once_when_all_parts_are_safe() {
        let (whole, told) = receipt();
        let (one, other) = (whole.part(), whole.part());
        whole.settle(Ok(()));
        one.settle(Ok(()));
        assert!(told.try_recv().is_err());
        other.settle(Ok(()));
        assert_eq!(told.recv(), Ok(Ok(())));
        assert!(told.recv().is_err());
    }

    #[test]
    fn a_part_that_is_not_safe_counts_and_so_does_one_that_is_dropped() {
        let (whole, told) = receipt();
        let part = whole.part();
        whole.settle(Ok(()));
        part.settle(Err(NotDurable::Failed));
        assert_eq!(told.recv(), Ok(Err(NotDurable::Failed)));

        let (whole, told) = receipt();
        let part = whole.part();
        whole.settle(Ok(()));
        drop(part);
        assert_eq!(told.recv(), Ok(Err(NotDurable::Refused)));
    }

    #[test]
    fn it_follows_a_device_so_often() {
        let (mut receipt, _told) = receipt();
        assert_eq!((0..99).filter(|_| receipt.hop()).count(), 8);
    }
}
