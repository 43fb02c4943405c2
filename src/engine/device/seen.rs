//! What was seen of a device, for the HTTP API.

use std::collections::VecDeque;

use crate::engine::listed::{DeviceCounters, LastAnswer};

/// Answers that are remembered; with all else some 700 bytes a device.
const ANSWERS: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::engine) struct Seen {
    pub(in crate::engine) counters: DeviceCounters,
    /// The newest last.
    pub(super) answers: VecDeque<LastAnswer>,
}

impl Seen {
    /// Remembers an answer; the oldest gives way.
    pub(super) fn answered(&mut self, answer: LastAnswer) {
        if self.answers.len() >= ANSWERS {
            self.answers.pop_front();
        } else if self.answers.len() == self.answers.capacity() {
            // Not room for four at once.
            self.answers.reserve_exact(self.answers.len().max(1));
        }
        self.answers.push_back(answer);
    }
}
