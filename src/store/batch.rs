//! Changes that are written together.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::Change;

/// Changes in their order, without those that a later one makes needless.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Option<Change>>,
    /// Where the device itself was changed first, and stands as it was last.
    devices: HashMap<Arc<str>, usize>,
    /// Where a device was heard of last.
    seen: HashMap<Arc<str>, usize>,
    /// Where a command came, where it was sent, and where it was refused.
    commands: HashMap<(Arc<str>, u64), [Option<usize>; 3]>,
}

impl Batch {
    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// What is to be written, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().flatten()
    }

    /// Appends one.
    pub fn push(&mut self, change: Change) {
        let at = self.changes.len();
        match &change {
            Change::Device(device) => {
                let endpoint = device.endpoint.clone();
                let seen = self.seen.remove(&endpoint);
                let first = *self.devices.entry(endpoint).or_insert(at);
                self.forget(seen);
                // What belongs to the device comes behind it.
                if let Some(before) = self.changes.get_mut(first) {
                    *before = Some(change);
                    return;
                }
            }
            Change::Seen { endpoint, .. } => {
                let before = self.seen.insert(endpoint.clone(), at);
                self.forget(before);
            }
            Change::Gone(endpoint) => {
                let seen = self.seen.remove(endpoint);
                self.forget(seen);
                // The next one of this name comes behind.
                self.devices.remove(endpoint);
            }
            Change::Queued { endpoint, command } => {
                let key = (endpoint.clone(), command.number);
                self.commands.insert(key, [Some(at), None, None]);
            }
            Change::Sent {
                endpoint, number, ..
            } => {
                let key = (endpoint.clone(), *number);
                let [_, sent, _] = self.commands.entry(key).or_default();
                *sent = Some(at);
            }
            Change::Refused {
                endpoint, number, ..
            } => {
                let key = (endpoint.clone(), *number);
                let [_, _, refused] = self.commands.entry(key).or_default();
                *refused = Some(at);
            }
            Change::Answered { endpoint, number } => {
                let known = self.commands.remove(&(endpoint.clone(), *number));
                let [queued, sent, refused] = known.unwrap_or_default();
                self.forget(sent);
                self.forget(refused);
                if queued.is_some() {
                    // The disk never knew of it.
                    return self.forget(queued);
                }
            }
            Change::Note { .. } | Change::Observed { .. } | Change::Unobserved { .. } => {}
        }
        self.changes.push(Some(change));
    }

    /// What is to be written, to be tried again with more.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes.into_iter().flatten().collect()
    }

    fn forget(&mut self, at: Option<usize>) {
        if let Some(slot) = at.and_then(|at| self.changes.get_mut(at)) {
            *slot = None;
        }
    }
}

impl FromIterator<Change> for Batch {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        let mut batch = Self::default();
        changes.into_iter().for_each(|change| batch.push(change));
        batch
    }
}
