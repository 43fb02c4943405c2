//! Commands that are not read: too large, too deep, or no JSON. What can be read of them comes back
//! in the answer, so that the application knows which command it was.

use super::options::MAX_REPEATED;
use super::{current, legacy, own};
use crate::bridge::dialect::Dialect;
use crate::bridge::json::{Members, too_deep};
use crate::bridge::refusal::{CommandError, Fault, Reason};

/// The error for the command in `text`, of which all that matters is looked at once.
pub(super) fn unreadable(text: &str, dialect: Dialect, fault: Fault) -> CommandError {
    let mut command = Members::whole(text);
    let mut room = MAX_REPEATED;
    command.retain(|name, value| {
        if name == "data" {
            return true;
        }
        match room.checked_sub(name.len() + value.len()) {
            Some(rest) if !too_deep(value) => {
                room = rest;
                true
            }
            _ => false,
        }
    });
    let data = command.get("data");
    let data = data.and_then(|raw| Members::parse(raw.get()).ok());
    let fault = if own::is_message(&command) || data.as_ref().is_some_and(own::is_answer) {
        Fault::new(
            Reason::OwnMessage,
            "this is a message of the gateway, not a command",
        )
    } else {
        fault
    };
    let (echo, req_path) = if legacy::is_old_form(&command, dialect) {
        legacy::repeated(&command)
    } else {
        current::repeated(&command, data.as_ref())
    };
    fault.into_error(echo, req_path.filter(|path| path.len() <= MAX_REPEATED))
}
