//! Changes that are written together.

use std::collections::HashMap;

use super::log::{Kind, Line, Log};
use crate::engine::Change;

/// Stands for a change that a later one has made needless.
const NEEDLESS: usize = usize::MAX;

/// Where a command came, where it was sent, and where it was refused.
type Commands = HashMap<u64, [Option<usize>; 3]>;

/// Changes by endpoint, as tables are, and those of a device in their order; without those that a later
/// one makes needless.
#[derive(Debug, Default)]
pub struct Batch {
    log: Log,
    /// Which of them are to be written, in order.
    order: Vec<usize>,
}

impl Batch {
    /// Puts changes together.
    pub(super) fn new(log: Log) -> Self {
        let mut order: Vec<usize> = (0..log.len()).collect();
        // Nothing that is said of one device matters for another.
        order.sort_by(|one, other| log.name(*one).cmp(log.name(*other)));
        let mut commands = Commands::new();
        for of_device in order.chunk_by_mut(|one, other| log.name(*one) == log.name(*other)) {
            if of_device.len() > 1 {
                commands.clear();
                leave_out(&log, of_device, &mut commands);
            }
        }
        order.retain(|at| *at != NEEDLESS);
        Self { log, order }
    }

    /// Whether there is nothing to be written.
    pub const fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What is to be written, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        self.order.iter().filter_map(|at| self.log.line(*at))
    }

    /// All that was put together.
    pub(super) fn into_log(self) -> Log {
        self.log
    }

    /// What is to be written, to be tried again with more.
    pub(super) fn into_rest(self) -> Log {
        if self.order.len() == self.log.len() {
            return self.log;
        }
        let mut rest = Log::default();
        for at in self.order {
            rest.copy(&self.log, at);
        }
        rest
    }
}

/// Leaves out what is needless of the changes of one device.
fn leave_out(log: &Log, changes: &mut [usize], commands: &mut Commands) {
    let forget = |changes: &mut [usize], place: Option<usize>| {
        if let Some(slot) = place.and_then(|place| changes.get_mut(place)) {
            *slot = NEEDLESS;
        }
    };
    // Where the device itself was changed first, and stands as it was last; where it was heard of last.
    let (mut device, mut seen) = (None, None);
    for place in 0..changes.len() {
        let Some(&at) = changes.get(place) else {
            return;
        };
        let Some(Line { kind, number, .. }) = log.line(at) else {
            continue;
        };
        match kind {
            Kind::Device => {
                forget(changes, seen.take());
                // What belongs to the device comes behind it.
                match device.and_then(|first: usize| changes.get_mut(first)) {
                    Some(first) => {
                        *first = at;
                        forget(changes, Some(place));
                    }
                    None => device = Some(place),
                }
            }
            Kind::Seen => forget(changes, seen.replace(place)),
            Kind::Gone => {
                forget(changes, seen.take());
                // The next one of this name comes behind.
                device = None;
            }
            Kind::Queued => {
                commands.insert(number, [Some(place), None, None]);
            }
            Kind::Sent | Kind::Awaited => {
                let [_, sent, _] = commands.entry(number).or_default();
                *sent = Some(place);
            }
            Kind::Refused => {
                let [_, _, refused] = commands.entry(number).or_default();
                *refused = Some(place);
            }
            Kind::Answered => {
                let [queued, sent, refused] = commands.remove(&number).unwrap_or_default();
                forget(changes, sent);
                forget(changes, refused);
                if queued.is_some() {
                    // The disk never knew of it.
                    forget(changes, queued);
                    forget(changes, Some(place));
                }
            }
            Kind::Note | Kind::Observed | Kind::Unobserved => {}
        }
    }
}

impl FromIterator<Change> for Batch {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        Self::new(changes.into_iter().collect())
    }
}
