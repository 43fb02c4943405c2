//! Single messages in the log, at DEBUG: what they are, from whom or for whom and how large, never
//! their payload.

use std::fmt::Write as _;

use tracing::{Level, debug, enabled};

use super::peer::Peer;
use crate::coap::message::{self, option};
use crate::coap::{Message, MessageType};
use crate::mqtt::Publish;

/// Characters of a path that are shown.
const MAX_PATH: usize = 128;

/// A message that came.
pub(super) fn received(from: Peer, message: &Message, size: usize) {
    if enabled!(Level::DEBUG) {
        let (kind, code, mid) = (kind(message.kind()), code(message), message.mid());
        let path = path(message);
        debug!(peer = %from.address, kind, %code, mid, path, size, "CoAP message received");
    }
}

/// An Empty message that came.
pub(super) fn received_empty(from: Peer, of: MessageType, mid: u16) {
    debug!(peer = %from.address, kind = kind(of), mid, "empty CoAP message received");
}

/// A datagram that goes out.
pub(super) fn sent(to: Peer, datagram: &[u8]) {
    if !enabled!(Level::DEBUG) {
        return;
    }
    if let Some((of, mid)) = message::as_empty(datagram) {
        debug!(peer = %to.address, kind = kind(of), mid, "empty CoAP message sent");
    } else if let Ok(message) = Message::parse(datagram) {
        let (kind, code, mid) = (kind(message.kind()), code(&message), message.mid());
        let (path, size) = (path(&message), datagram.len());
        debug!(peer = %to.address, kind, %code, mid, path, size, "CoAP message sent");
    }
}

/// A message for the broker.
pub(super) fn published(publish: &Publish) {
    if enabled!(Level::DEBUG) {
        let (endpoint, topic) = (&publish.endpoint, &publish.topic);
        let (kind, size) = (publish.kind, publish.payload.len());
        debug!(%endpoint, ?kind, topic, size, "message for the broker");
    }
}

/// Whether a datagram looks like a record of DTLS 1.0 to 1.3 (RFC 6347 §4.1).
pub(super) fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=26, 0xfe, 0xfc..=0xff, ..])
}

fn kind(of: MessageType) -> &'static str {
    match of {
        MessageType::Confirmable => "CON",
        MessageType::NonConfirmable => "NON",
        MessageType::Acknowledgement => "ACK",
        MessageType::Reset => "RST",
    }
}

/// `class.detail`
fn code(message: &Message) -> String {
    let code = message.code();
    format!("{}.{:02}", code.class(), code.0 & 0x1f)
}

/// The path of a request; none for a response.
fn path(message: &Message) -> Option<String> {
    if !message.code().is_request() {
        return None;
    }
    let mut path = String::new();
    for segment in message.option_values(option::URI_PATH) {
        // Writing to a string cannot fail.
        let _ = write!(path, "/{}", String::from_utf8_lossy(segment));
        if path.len() > MAX_PATH {
            path.truncate(path.floor_char_boundary(MAX_PATH));
            path.push('…');
            break;
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d2_records_of_dtls_are_known() {
        assert!(is_dtls(&[22, 0xfe, 0xff, 0, 0]));
        assert!(is_dtls(&[23, 0xfe, 0xfd]));
        assert!(!is_dtls(&[0x40, 1, 0xfe, 0xfd]));
        assert!(!is_dtls(&[22, 3, 3]));
    }
}
