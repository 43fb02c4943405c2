//! The gateway's own messages, which a bridge may send back to it: they are told from commands, so
//! that no answer is answered.

use crate::bridge::json::{Members, string};

/// What `msgType` is in messages that only a gateway sends.
const NAMES: [&str; 10] = [
    "ack",
    "coap_reset",
    "coap_timeout",
    "notify",
    "send",
    "register",
    "update",
    "deregister",
    "expired",
    // The answer to what could not be read.
    "error",
];

/// Whether it is one of those, by its outer members.
pub(super) fn is_message(message: &Members<'_>) -> bool {
    match message.get("msgType") {
        Some(name) => string(name).is_some_and(|name| NAMES.contains(&&*name)),
        // Measurement series, and answers in the dialect of EMQ 2.
        None => {
            let has = |name| message.get(name).is_some();
            has("series") || has("Command") && (has("Result") || has("Error"))
        }
    }
}

/// Whether this is the `data` of an answer: it says what became of a command, and names no path to
/// do anything with.
pub(super) fn is_answer(data: &Members<'_>) -> bool {
    let text = |name| data.get(name).and_then(string).is_some();
    let has = |name| data.get(name).is_some();
    text("code")
        && text("codeMsg")
        && (has("reqPath") || has("reqPaths"))
        && !["path", "basePath", "paths"].into_iter().any(has)
}
