//! Commands waiting for a device, in order of receipt (LwM2M Core 1.2 §6.5 queue mode, and
//! NSTART for all).

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::bridge::Command;
use crate::config;
use crate::time::Instant;

/// A command that waits.
#[derive(Debug)]
pub(in crate::engine) struct Queued {
    pub(in crate::engine) command: Box<Command>,
    /// When it is too late.
    pub(in crate::engine) expires: Instant,
    /// Size of the command's JSON, in bytes.
    pub(in crate::engine) size: usize,
    /// What it takes of memory, in bytes.
    pub(in crate::engine) bytes: usize,
    /// To be sent whether the device is taken to be awake or not (`mheaders.ttl` = 0).
    pub(in crate::engine) immediate: bool,
    /// When it came, in milliseconds since 1970.
    pub(in crate::engine) received: u64,
    /// Whether it may be sent, as far as the store is concerned.
    pub(in crate::engine) clearance: Clearance,
}

/// What must not be sent twice is sent only after the store has noted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Clearance {
    /// The store has not been asked, where that is necessary.
    NotAsked,
    /// It has been asked to note it.
    Asked,
    /// It has noted it.
    Given,
}

/// Why a command may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(in crate::engine) enum QueueError {
    /// The others leave no room for it.
    #[error("the queue of the device is full")]
    Full,
    /// It would find no room in an empty queue.
    #[error("{size} bytes, at most {limit} may wait for a device (queue.max_bytes)")]
    TooLarge {
        /// Of its JSON, in bytes.
        size: usize,
        /// `queue.max_bytes`
        limit: usize,
    },
}

/// In order of receipt ([`Command::order`]), within the bounds of `queue.max_commands` and
/// `queue.max_bytes`. What is immediate goes first. Each step takes a time that grows with the logarithm of the length.
#[derive(Debug, Default)]
pub(in crate::engine) struct CommandQueue(
    /// Most devices wait for nothing most of the time.
    Option<Box<Waiting>>,
);

/// What the places of a command take beside it, in bytes; nodes of trees are two thirds full.
pub(in crate::engine) const PLACE_BYTES: usize = 64;

/// The place of a command: whether it is not immediate, its order of receipt, and for those of the
/// same order a number, in the order they came here.
type Place = (bool, u64, u32);

#[derive(Debug, Default)]
struct Waiting {
    commands: BTreeMap<Place, Queued>,
    /// The same in order of their expiry.
    expiries: BTreeSet<(Instant, Place)>,
    /// Of JSON.
    bytes: usize,
    /// Of memory.
    memory: usize,
    /// The highest order there was.
    last: u64,
    next: u32,
}

impl Waiting {
    fn take(&mut self, place: Place) -> Option<Queued> {
        let queued = self.commands.remove(&place)?;
        self.expiries.remove(&(queued.expires, place));
        self.bytes -= queued.size;
        self.memory -= queued.bytes;
        Some(queued)
    }
}

impl CommandQueue {
    /// Everything that waits, in order.
    pub(in crate::engine) fn into_waiting(self) -> impl Iterator<Item = Queued> {
        let commands = self.0.map(|waiting| waiting.commands);
        commands.unwrap_or_default().into_values()
    }

    /// Takes a command to its place: one that came later than others but was received before them
    /// goes before them, an immediate one before all that are not.
    pub(in crate::engine) fn push(
        &mut self,
        queued: Queued,
        bounds: &config::Queue,
    ) -> Result<(), (Queued, QueueError)> {
        let (size, limit) = (queued.size, bounds.max_bytes);
        if size > limit {
            return Err((queued, QueueError::TooLarge { size, limit }));
        }
        let waiting = self.0.get_or_insert_default();
        if waiting.commands.len() >= bounds.max_commands
            || waiting.bytes.saturating_add(queued.size) > bounds.max_bytes
        {
            self.tidy();
            return Err((queued, QueueError::Full));
        }
        self.put(queued);
        Ok(())
    }

    /// The same whatever the bounds: for commands that were within them once.
    pub(in crate::engine) fn put(&mut self, queued: Queued) {
        let waiting = self.0.get_or_insert_default();
        let order = match queued.command.order {
            0 => waiting.last,
            order => order,
        };
        let place = (!queued.immediate, order, waiting.next);
        waiting.last = waiting.last.max(order);
        waiting.next = waiting.next.wrapping_add(1);
        waiting.bytes += queued.size;
        waiting.memory += queued.bytes;
        waiting.expiries.insert((queued.expires, place));
        waiting.commands.insert(place, queued);
    }

    /// What waits, in order.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = &Queued> {
        let commands = self.0.iter();
        commands.flat_map(|waiting| waiting.commands.values())
    }

    /// Takes out what is wanted, in order.
    pub(in crate::engine) fn take_where(
        &mut self,
        wanted: impl Fn(&Queued) -> bool,
    ) -> Vec<Queued> {
        let Some(waiting) = &mut self.0 else {
            return Vec::new();
        };
        let commands = waiting.commands.iter();
        let places = commands.filter(|(_, queued)| wanted(queued));
        let places: Vec<Place> = places.map(|(place, _)| *place).collect();
        let taken = places.into_iter().filter_map(|place| waiting.take(place));
        let taken = taken.collect();
        self.tidy();
        taken
    }

    /// All that waits, to have its clearance changed.
    pub(in crate::engine) fn clearances(&mut self) -> impl Iterator<Item = (u64, &mut Clearance)> {
        let commands = self.0.iter_mut();
        let commands = commands.flat_map(|waiting| waiting.commands.values_mut());
        commands.map(|queued| (queued.command.number, &mut queued.clearance))
    }

    /// What it takes of memory, in bytes.
    pub(in crate::engine) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.memory)
    }

    /// The same, counted anew.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn recount(&self) -> usize {
        let commands = self.0.iter().flat_map(|waiting| waiting.commands.values());
        commands
            .map(|queued| Queued::bytes_of(&queued.command))
            .sum()
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.commands.len())
    }

    pub(in crate::engine) fn front(&self) -> Option<&Queued> {
        let (_, queued) = self.0.as_ref()?.commands.first_key_value()?;
        Some(queued)
    }

    /// The order of receipt of the first, as far as it has one.
    pub(in crate::engine) fn front_order(&self) -> Option<u64> {
        let ((_, order, _), _) = self.0.as_ref()?.commands.first_key_value()?;
        Some(*order)
    }

    pub(in crate::engine) fn pop(&mut self) -> Option<Queued> {
        let waiting = self.0.as_mut()?;
        let (place, _) = waiting.commands.first_key_value()?;
        let place = *place;
        let queued = waiting.take(place);
        self.tidy();
        queued
    }

    /// The earliest expiry.
    pub(in crate::engine) fn next_expiry(&self) -> Option<Instant> {
        let (at, _) = self.0.as_ref()?.expiries.first()?;
        Some(*at)
    }

    /// Takes out what is too late at `now`, in order.
    pub(in crate::engine) fn take_expired(&mut self, now: Instant) -> Vec<Queued> {
        let mut expired = Vec::new();
        if let Some(waiting) = &mut self.0 {
            while let Some((_, place)) = waiting.expiries.first().filter(|(at, _)| *at <= now) {
                let place = *place;
                expired.extend(waiting.take(place).map(|queued| (place, queued)));
            }
        }
        if expired.is_empty() {
            return Vec::new();
        }
        self.tidy();
        expired.sort_unstable_by_key(|(place, _)| *place);
        expired.into_iter().map(|(_, queued)| queued).collect()
    }

    /// Takes everything out.
    pub(in crate::engine) fn drain(&mut self) -> impl Iterator<Item = Queued> {
        std::mem::take(self).into_waiting()
    }

    fn tidy(&mut self) {
        let waits = |waiting: &Waiting| !waiting.commands.is_empty();
        self.0.take_if(|waiting| !waits(waiting));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::lwm2m::Path;

    const BOUNDS: config::Queue = config::Queue {
        max_commands: 20,
        max_bytes: 1000,
        max_age: Duration::from_secs(1),
        max_total: 1_000_000,
        max_total_bytes: 1 << 30,
    };

    fn queued(size: usize, expires: u64, immediate: bool) -> Queued {
        Queued {
            command: Box::new(Command::auto_observe(&Path::ROOT)),
            expires: Instant::from_micros(expires),
            size,
            bytes: size + 1,
            immediate,
            received: 0,
            clearance: Clearance::NotAsked,
        }
    }

    #[test]
    fn c4_commands_wait_in_order_of_receipt_whenever_they_come() {
        let mut queue = CommandQueue::default();
        for (order, immediate) in [
            (4, false),
            (7, true),
            (2, false),
            (0, false),
            (5, true),
            (3, false),
        ] {
            let mut queued = queued(order, 100, immediate);
            queued.command.order = order as u64;
            queue.push(queued, &BOUNDS).unwrap();
        }
        let sizes: Vec<usize> = queue.drain().map(|it| it.size).collect();
        // What has no order goes behind all that were there.
        assert_eq!(sizes, [5, 7, 2, 3, 4, 0]);
    }

    proptest! {
        /// Like a list that is searched from end to end.
        #[test]
        fn a_queue(steps in prop::collection::vec((0..4u8, 0..100usize, 0..50u64, any::<bool>()), 0..80)) {
            let mut queue = CommandQueue::default();
            let mut model: Vec<(bool, u64, usize)> = Vec::new();
            for (now, (step, size, wait, immediate)) in (0..).zip(steps) {
                match step {
                    0 | 1 => {
                        let bytes: usize = model.iter().map(|it| it.2).sum();
                        let fits = model.len() < 20 && bytes + size <= 1000;
                        let pushed = queue.push(queued(size, now + wait, immediate), &BOUNDS);
                        prop_assert_eq!(pushed.is_ok(), fits);
                        if fits {
                            let at = if immediate {
                                model.iter().take_while(|it| it.0).count()
                            } else {
                                model.len()
                            };
                            model.insert(at, (immediate, now + wait, size));
                        }
                    }
                    2 => {
                        let popped = queue.pop().map(|it| it.size);
                        let expected = (!model.is_empty()).then(|| model.remove(0).2);
                        prop_assert_eq!(popped, expected);
                    }
                    _ => {
                        let expired = queue.take_expired(Instant::from_micros(now));
                        let expired: Vec<usize> = expired.iter().map(|it| it.size).collect();
                        let late = |it: &&(bool, u64, usize)| it.1 <= now;
                        let expected: Vec<usize> = model.iter().filter(late).map(|it| it.2).collect();
                        model.retain(|it| it.1 > now);
                        prop_assert_eq!(expired, expected);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                let bytes: usize = model.iter().map(|it| it.2 + 1).sum();
                prop_assert_eq!(queue.bytes(), bytes);
                prop_assert_eq!(queue.0.is_none(), model.is_empty());
                prop_assert_eq!(queue.front().map(|it| it.size), model.first().map(|it| it.2));
                let next = model.iter().map(|it| Instant::from_micros(it.1)).min();
                prop_assert_eq!(queue.next_expiry(), next);
            }
            let rest: Vec<usize> = queue.drain().map(|it| it.size).collect();
            prop_assert_eq!(rest, model.iter().map(|it| it.2).collect::<Vec<_>>());
        }
    }
}
