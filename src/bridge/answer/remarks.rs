//! What a device says beside code and content: why not, where, how much.

use super::content::{Answer, is_text};
use crate::bridge::code;
use crate::bridge::json::{put, put_integer, put_string};
use crate::lwm2m::codec::ContentFormat;

/// Longest text of a remark in bytes; a longer one is cut.
const MAX_TEXT: usize = 1024;

/// What the options of a device's answer say to the application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Location-Path of a 2.01 (RFC 7252 §5.10.7): where the new instance is.
    pub location: Option<String>,
    /// Size1 of a 4.13 (RFC 7959 §4): bytes of the largest body that the device takes.
    pub size1: Option<u32>,
    /// Size2 of a 4.13.
    pub size2: Option<u32>,
}

/// Appends them, and the diagnostic text of an error: `,"diagnostic":".."`, `,"location":".."`,
/// `,"size1":..`, `,"size2":..`.
pub(super) fn put_remarks(out: &mut Vec<u8>, answer: &Answer<'_>, remarks: &Remarks) {
    if let Some(text) = diagnostic(answer) {
        put(out, r#","diagnostic":"#);
        put_string(out, &text);
    }
    if let Some(location) = &remarks.location {
        put(out, r#","location":"#);
        put_string(out, cut(location));
    }
    for (name, size) in [("size1", remarks.size1), ("size2", remarks.size2)] {
        if let Some(size) = size {
            put(out, ",");
            put_string(out, name);
            put(out, ":");
            put_integer(out, size);
        }
    }
}

/// The diagnostic payload of an error (RFC 7252 §5.5.2): UTF-8 without a Content-Format. Many
/// devices call it text, which it is. What is no UTF-8 becomes U+FFFD.
pub(super) fn diagnostic(answer: &Answer<'_>) -> Option<String> {
    let format = answer.content_format.map(ContentFormat);
    let is_diagnostic = code::is_error(answer.code) && format.is_none_or(is_text);
    if !is_diagnostic || answer.payload.is_empty() {
        return None;
    }
    // One character more than may remain, so that none is broken by the cut.
    let head = answer.payload.get(..MAX_TEXT + 4);
    let text = String::from_utf8_lossy(head.unwrap_or(answer.payload));
    Some(cut(&text).to_owned())
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT))
        .unwrap_or(text)
}
