//! The end of a gateway.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The end, which is asked for once and waited for by others.
#[derive(Debug, Default)]
pub(super) struct Stop {
    asked: Mutex<bool>,
    /// The same, for a look at every command.
    seen: AtomicBool,
    changed: Condvar,
}

impl Stop {
    /// Asks for the end; true when somebody had before.
    pub(super) fn ask(&self) -> bool {
        let before = std::mem::replace(&mut *self.asked.lock(), true);
        self.seen.store(true, Ordering::Release);
        self.changed.notify_all();
        before
    }

    pub(super) fn is_asked(&self) -> bool {
        self.seen.load(Ordering::Acquire)
    }

    /// Waits for the end, `timeout` at most; whether it has come.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let mut asked = self.asked.lock();
        if !*asked {
            self.changed.wait_for(&mut asked, timeout);
        }
        *asked
    }
}
