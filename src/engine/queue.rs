//! Commands waiting for a device, in order of receipt (LwM2M Core 1.2 §6.5 queue mode, and
//! NSTART for all).

use std::collections::VecDeque;

use thiserror::Error;

use crate::bridge::downlink::Command;
use crate::config;
use crate::time::Instant;

/// A command that waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) command: Box<Command>,
    /// When it is too late.
    pub(super) expires: Instant,
    /// Size of the command's JSON, in bytes.
    pub(super) size: usize,
    /// What it takes of memory, in bytes.
    pub(super) bytes: usize,
    /// To be sent whether the device is taken to be awake or not (`mheaders.ttl` = 0).
    pub(super) immediate: bool,
}

/// The bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the device's queue is full")]
pub(super) struct QueueFull;

/// First in, first out, within the bounds of `queue.max_commands` and `queue.max_bytes`.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    waiting: VecDeque<Queued>,
    /// Of JSON.
    bytes: usize,
    /// Of memory.
    memory: usize,
}

impl CommandQueue {
    /// Everything that waits, in order.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = Queued> {
        self.waiting.into_iter()
    }

    /// Appends; an immediate command goes first.
    pub(super) fn push(
        &mut self,
        queued: Queued,
        bounds: &config::Queue,
    ) -> Result<(), (Queued, QueueFull)> {
        if self.waiting.len() >= bounds.max_commands
            || self.bytes.saturating_add(queued.size) > bounds.max_bytes
        {
            return Err((queued, QueueFull));
        }
        self.bytes += queued.size;
        self.memory += queued.bytes;
        if queued.immediate {
            let behind = self
                .waiting
                .iter()
                .take_while(|other| other.immediate)
                .count();
            self.waiting.insert(behind, queued);
        } else {
            self.waiting.push_back(queued);
        }
        Ok(())
    }

    /// What it takes of memory, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.memory
    }

    /// The same, counted anew.
    pub(super) fn recount(&self) -> usize {
        let bytes = self.waiting.iter();
        bytes.map(|queued| Queued::bytes_of(&queued.command)).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn front(&self) -> Option<&Queued> {
        self.waiting.front()
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front()?;
        self.bytes -= queued.size;
        self.memory -= queued.bytes;
        if self.waiting.is_empty() {
            // Most devices wait for nothing most of the time.
            self.waiting = VecDeque::new();
        }
        Some(queued)
    }

    /// The earliest expiry.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.waiting.iter().map(|queued| queued.expires).min()
    }

    /// Takes out what is too late at `now`, in order.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Queued> {
        if self.next_expiry().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let (expired, waiting) = self
            .waiting
            .drain(..)
            .partition::<Vec<_>, _>(|queued| queued.expires <= now);
        self.waiting = waiting.into();
        self.bytes -= expired.iter().map(|queued| queued.size).sum::<usize>();
        self.memory -= expired.iter().map(|queued| queued.bytes).sum::<usize>();
        expired
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Queued> {
        self.bytes = 0;
        self.memory = 0;
        self.waiting.drain(..)
    }
}
