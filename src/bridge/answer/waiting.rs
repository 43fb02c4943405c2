//! Answers about the commands that wait for a device.

use super::members::put_code;
use super::uplink::{open, put_req_path};
use crate::bridge::code;
use crate::bridge::echo::Echo;
use crate::bridge::ids::Ids;
use crate::bridge::json::{put, put_integer};
use crate::bridge::req_path::ReqPath;

/// A command that waits, or was sent and has no answer.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// What its answer will repeat.
    pub echo: &'a Echo,
    /// Where it goes.
    pub path: &'a ReqPath,
    /// While it waits: since when and until when, in milliseconds since 1970.
    pub time: Option<(u64, u64)>,
}

/// Commands in one answer at most, and bytes from which on no other is added.
const LISTED_MAX: usize = 1000;
const LISTED_BYTES: usize = 256 << 10;

/// The answer to `list-queue`: the first of them, and how many more there are.
pub fn queue<'a>(
    echo: &Echo,
    ids: &Ids<'_>,
    mut waiting: impl Iterator<Item = Waiting<'a>>,
) -> Vec<u8> {
    let mut out = open(echo, ids, echo.name(), None, 0);
    put_req_path(&mut out, None);
    put_code(&mut out, code::CONTENT);
    put(&mut out, r#","content":["#);
    let mut listed = 0;
    while listed < LISTED_MAX
        && out.len() < LISTED_BYTES
        && let Some(command) = waiting.next()
    {
        if listed > 0 {
            put(&mut out, ",");
        }
        listed += 1;
        put_req_path(&mut out, Some(command.path.into()));
        if let Some(id) = command.echo.request_id() {
            put(&mut out, r#","reqID":"#);
            put(&mut out, &id);
        }
        put(&mut out, r#","msgType":"#);
        put(&mut out, command.echo.name());
        match command.time {
            Some((since, until)) => {
                put(&mut out, r#","state":"waiting","since":"#);
                put_integer(&mut out, since);
                put(&mut out, r#","until":"#);
                put_integer(&mut out, until);
            }
            None => put(&mut out, r#","state":"sent""#),
        }
        put(&mut out, "}");
    }
    put(&mut out, "]");
    let more = waiting.count();
    if more > 0 {
        put(&mut out, r#","more":"#);
        put_integer(&mut out, more);
    }
    put(&mut out, "}}");
    out
}

/// The answer to a cancellation of an observation that the device was not asked about.
pub fn forgotten(echo: &Echo, ids: &Ids<'_>, path: &ReqPath) -> Vec<u8> {
    let mut out = open(echo, ids, echo.name(), None, 0);
    put_req_path(&mut out, Some(path.into()));
    put_code(&mut out, code::CHANGED);
    put(&mut out, "}}");
    out
}

/// The answer to `cancel`.
pub fn cancelled(echo: &Echo, ids: &Ids<'_>, count: usize) -> Vec<u8> {
    let mut out = open(echo, ids, echo.name(), None, 0);
    put_req_path(&mut out, None);
    put_code(&mut out, code::CHANGED);
    put(&mut out, r#","cancelled":"#);
    put_integer(&mut out, count);
    put(&mut out, "}}");
    out
}
