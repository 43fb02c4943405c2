//! A command on its way in.

use std::sync::Arc;

use crate::bridge::Dialect;
use crate::memory::Heap;
use crate::mqtt::{Origin, ReplyTo};

/// A command of an application for one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandInput {
    /// Endpoint name.
    pub endpoint: Arc<str>,
    /// Rendered mountpoint of the topic it came by, which also starts the topic of its answers.
    pub mount: Box<str>,
    /// By which topic pair it came.
    pub dialect: Dialect,
    /// JSON.
    pub payload: Vec<u8>,
    /// What is left of the message's expiry interval, in seconds (MQTT 5 §3.3.2.3.3).
    pub expiry: Option<u32>,
    /// Where its answers go as well.
    pub reply: Option<Box<ReplyTo>>,
    /// Which message of a broker it came with.
    pub origin: Option<Origin>,
    /// Its place among all commands, from [`Directory::route`](super::Directory::route); zero: as it
    /// comes.
    pub order: u64,
}

impl CommandInput {
    /// Whether it is meant for the device of its endpoint that has this mountpoint. A command that
    /// came by no topic names its endpoint and nothing else.
    pub(in crate::engine) fn is_for(&self, mount: &str) -> bool {
        *self.mount == *mount || (self.reply.as_deref()).is_some_and(|it| it.catcher().is_some())
    }

    /// Bytes that it takes where it waits.
    pub fn bytes(&self) -> usize {
        self.endpoint.heap()
            + self.mount.heap()
            + self.payload.heap()
            + ReplyTo::bytes_of(&self.reply)
    }
}
