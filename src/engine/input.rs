//! A command on its way in.

use std::sync::Arc;

use crate::bridge::Dialect;
use crate::memory::Heap;
use crate::mqtt::ReplyTo;

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
}

impl CommandInput {
    /// Bytes that it takes where it waits.
    pub fn bytes(&self) -> usize {
        self.endpoint.heap()
            + self.mount.heap()
            + self.payload.heap()
            + ReplyTo::bytes_of(&self.reply)
    }
}
