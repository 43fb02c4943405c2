//! Records as older releases wrote them.

use serde::{Deserialize, Serialize};

use crate::bridge::{StoredEcho, StoredReply, StoredTarget};
use crate::engine::{StoredCommand, StoredObservation};

/// A command in format 1.
#[derive(Serialize, Deserialize)]
pub(super) struct CommandV1 {
    number: u64,
    payload: Box<[u8]>,
    legacy: bool,
    received: u64,
    expires: u64,
    immediate: bool,
    reply: Option<StoredReply>,
}

impl From<CommandV1> for StoredCommand {
    fn from(old: CommandV1) -> Self {
        Self {
            number: old.number,
            payload: old.payload,
            legacy: old.legacy,
            received: old.received,
            expires: old.expires,
            immediate: old.immediate,
            reply: old.reply,
            origin: None,
        }
    }
}

/// An observation in format 1.
#[derive(Serialize, Deserialize)]
pub(super) struct ObservationV1 {
    token: u64,
    target: StoredTarget,
    echo: StoredEcho,
    accept: Option<u16>,
    write: u16,
    sequence: u32,
}

impl From<ObservationV1> for StoredObservation {
    fn from(old: ObservationV1) -> Self {
        Self {
            token: old.token,
            target: old.target,
            echo: old.echo,
            accept: old.accept,
            write: old.write,
            sequence: old.sequence,
            pmax: 0,
        }
    }
}
