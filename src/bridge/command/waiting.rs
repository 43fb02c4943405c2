//! Commands about the commands that wait for a device: `list-queue` and `cancel`. The gateway
//! answers them by itself, and they do not wait behind others.

use crate::bridge::json::{Members, string};

/// What is asked about the queue of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueRequest {
    /// `list-queue`: what waits.
    List,
    /// `cancel`: one that waits, by the JSON text of its `reqID`, or all.
    Cancel(Option<String>),
}

/// Reads what [`parse`](super::parse) has taken for no operation; `None` when it is none of these
/// either, and a text for people when something is missing.
pub fn queue_request(payload: &[u8]) -> Option<Result<QueueRequest, &'static str>> {
    let text = str::from_utf8(payload).ok()?;
    let command = Members::parse(text).ok()?;
    let name = command.get("msgType").and_then(string)?;
    match &*name {
        "list-queue" => Some(Ok(QueueRequest::List)),
        "cancel" => Some(cancel(&command)),
        _ => None,
    }
}

fn cancel(command: &Members<'_>) -> Result<QueueRequest, &'static str> {
    let missing = "data must hold the reqID of a command, or \"all\": true";
    let data = command.value("data").ok_or(missing)?;
    let data = Members::parse(data.get()).map_err(|_| missing)?;
    match (data.value("reqID"), data.value("all")) {
        (Some(id), None) => Ok(QueueRequest::Cancel(Some(id.get().to_owned()))),
        (None, Some(all)) if all.get() == "true" => Ok(QueueRequest::Cancel(None)),
        _ => Err(missing),
    }
}
