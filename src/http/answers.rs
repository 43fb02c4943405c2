//! Answers to commands of the API on their way to whoever waits.

use crate::mqtt::Publish;

/// What became of a command that was handed over.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Its shard has it.
    Yes,
    /// No such device is registered.
    Unknown,
    /// It was answered at once: overloaded, or about to stop.
    Answered(Option<Publish>),
}

/// What somebody who waits for an answer gets to know.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The answer's JSON.
    Answer(Vec<u8>),
    /// The device sleeps, and the command waits for it.
    Queued,
}
