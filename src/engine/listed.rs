//! What the HTTP API asks of an engine, and what it is told.

use std::sync::Arc;

use super::info::DeviceInfo;
use super::peer::Peer;
use crate::lwm2m::Path;

/// A registered device as the HTTP API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// What hosts get to know as well.
    pub info: DeviceInfo,
    /// Whether it is taken to be able to receive: always, without queue mode.
    pub awake: bool,
    /// Its last message, milliseconds since 1970.
    pub last_seen: u64,
    /// When its registration ends unless it says something, milliseconds since 1970.
    pub expires_at: u64,
}

/// A command that waits for a device, or for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandState {
    /// JSON text of its `reqID`.
    pub request_id: Option<String>,
    /// `msgType`
    pub kind: &'static str,
    /// As the command has them: one, or those of a composite operation.
    pub paths: Vec<String>,
    /// When it came and when it is too late, milliseconds since 1970; `None` when it was sent.
    pub waits: Option<(u64, u64)>,
}

/// An observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservationState {
    /// JSON text of the `reqID` of its command.
    pub request_id: Option<String>,
    /// `observe` or `observe-composite`.
    pub kind: &'static str,
    /// As its command has them.
    pub paths: Vec<String>,
    /// The Observe option of its newest value (RFC 7641 §2).
    pub sequence: u32,
    /// When it began, or came back from the store, milliseconds since 1970.
    pub since: u64,
    /// When its last notification came, milliseconds since 1970; 0: none has come.
    pub last_at: u64,
    /// Notifications since then.
    pub notifications: u32,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device answered with this code (RFC 7252 §12.1).
    Answered(u8),
    /// There was no answer.
    TimedOut,
    /// It was answered by Reset.
    Reset,
}

/// A request of a command and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAnswer {
    /// When, milliseconds since 1970.
    pub at: u64,
    /// `msgType`
    pub kind: &'static str,
    /// What it was about; `None` for several paths.
    pub path: Option<Path>,
    /// What became of it.
    pub outcome: Outcome,
    /// From the sending of the request, or of its last block, in milliseconds.
    pub took_ms: u32,
}

/// What is counted of a device since it is known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Requests sent to it.
    pub requests: u64,
    /// Its responses.
    pub responses: u64,
    /// Requests without an answer.
    pub timeouts: u64,
    /// Requests answered by Reset.
    pub resets: u64,
    /// Its notifications.
    pub notifications: u64,
    /// Its Sends.
    pub sends: u64,
    /// Bytes of its datagrams, without DTLS.
    pub bytes_in: u64,
    /// Bytes of datagrams to it, without DTLS and without what is sent again.
    pub bytes_out: u64,
}

/// One device in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceDetail {
    /// As in lists.
    pub state: DeviceState,
    /// What was sent, then what waits, in order; at most [`DeviceDetail::MOST`].
    pub queue: Vec<CommandState>,
    /// At most [`DeviceDetail::MOST`].
    pub observations: Vec<ObservationState>,
    /// What came of the last requests, the newest first.
    pub last_answers: Vec<LastAnswer>,
    /// What was counted.
    pub counters: DeviceCounters,
    /// Where it is.
    pub peer: Peer,
}

impl DeviceDetail {
    /// Commands and observations that are told of one device.
    pub const MOST: usize = 1000;
}

/// Which devices are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Endpoint names, with `*` for any text and `?` for one character.
    pub endpoint: Option<String>,
    /// An object that they have.
    pub object: Option<u16>,
    /// Whether they are awake.
    pub awake: Option<bool>,
    /// Their listener, as in `udp:default`.
    pub listener: Option<String>,
}

/// A question for some devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Those behind this endpoint name.
    pub after: Option<Arc<str>>,
    /// Which of them.
    pub filter: Arc<DeviceFilter>,
    /// How many at most.
    pub limit: usize,
}

/// An answer to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of the bytes of their names.
    pub devices: Vec<DeviceState>,
    /// The last endpoint that was looked at; `None` when there is nothing behind.
    pub reached: Option<Arc<str>>,
}

impl DeviceFilter {
    /// What every endpoint name begins with that is wanted.
    pub(super) fn prefix(&self) -> &str {
        let pattern = self.endpoint.as_deref().unwrap_or_default();
        pattern.split(['*', '?']).next().unwrap_or_default()
    }

    /// Whether a name is wanted.
    pub fn takes_name(&self, endpoint: &str) -> bool {
        let pattern = self.endpoint.as_deref();
        pattern.is_none_or(|pattern| matches_glob(pattern, endpoint))
    }
}

/// Whether `text` fits `pattern`, where `*` is any text and `?` one character. It takes
/// `pattern × text` steps at most.
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let (mut rest, mut wanted) = (text.chars(), pattern.chars());
    // Where to go on when what was taken for the last star was too little.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let before = rest.clone();
        match (wanted.next(), rest.next()) {
            (Some('*'), _) => {
                rest = before.clone();
                retry = Some((wanted.clone(), before));
            }
            (Some('?'), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return true,
            _ => {
                let Some((pattern, mut longer)) = retry.take() else {
                    return false;
                };
                if longer.next().is_none() {
                    return false;
                }
                rest = longer.clone();
                wanted = pattern.clone();
                retry = Some((pattern, longer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a?c", "abc"),
            ("*b*", "abc"),
            ("a*b*c", "aXbYbZc"),
            ("?", "ü"),
            ("**", "x"),
        ] {
            assert!(matches_glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a?", "a"),
            ("a*c", "ab"),
            ("b*", "abc"),
            ("a*b*c", "acb"),
            ("?", "ab"),
        ] {
            assert!(!matches_glob(pattern, text), "{pattern} {text}");
        }
        assert!(!matches_glob(&"*a".repeat(100), &"a".repeat(99)));
    }
}
