//! CoAP messages as events (RFC 7252 §3).

use std::net::SocketAddr;

use serde::Serialize;

use super::events;
use crate::coap::message::option;
use crate::coap::{Message, MessageType, message};

/// Bytes of a payload that are shown.
const SHOWN: usize = 256;

/// Options that are shown.
const OPTIONS: usize = 64;

#[derive(Serialize)]
struct Shown<'a> {
    direction: &'a str,
    kind: &'static str,
    code: String,
    mid: u16,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    options: Vec<(String, String)>,
    payload_bytes: usize,
    payload_hex: String,
    peer: String,
}

/// A datagram that came in or goes out, without its protection by DTLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace<'a> {
    /// It came from the device.
    pub(crate) incoming: bool,
    /// Address of the device.
    pub(crate) peer: SocketAddr,
    /// The bytes.
    pub(crate) datagram: &'a [u8],
}

/// The event of a datagram; one that is no CoAP message has its bytes alone.
pub(super) fn describe(at: u64, endpoint: &str, trace: Trace<'_>) -> Vec<u8> {
    let mut data = events::open(at, endpoint);
    let text = read(trace).and_then(|shown| serde_json::to_vec(&shown).ok());
    let text = text.unwrap_or_else(|| b"{\"kind\":\"none\"}".to_vec());
    data.push(b',');
    data.extend_from_slice(text.get(1..).unwrap_or(b"}"));
    data
}

fn read(trace: Trace<'_>) -> Option<Shown<'static>> {
    let datagram = trace.datagram;
    let direction = if trace.incoming { "in" } else { "out" };
    let peer = trace.peer.to_string();
    Some(match message::as_empty(datagram) {
        Some((kind, mid)) => Shown {
            direction,
            kind: kind_name(kind),
            code: "0.00".to_owned(),
            mid,
            token: String::new(),
            path: None,
            options: Vec::new(),
            payload_bytes: 0,
            payload_hex: String::new(),
            peer,
        },
        None => {
            let message = Message::parse(datagram).ok()?;
            let payload = message.payload();
            let code = message.code();
            Shown {
                direction,
                kind: kind_name(message.kind()),
                code: format!("{}.{:02}", code.class(), code.0 & 31),
                mid: message.mid(),
                token: hex(message.token()),
                path: path(&message),
                options: options(&message),
                payload_bytes: payload.len(),
                payload_hex: hex(payload.get(..SHOWN).unwrap_or(payload)),
                peer,
            }
        }
    })
}

const fn kind_name(kind: MessageType) -> &'static str {
    match kind {
        MessageType::Confirmable => "CON",
        MessageType::NonConfirmable => "NON",
        MessageType::Acknowledgement => "ACK",
        MessageType::Reset => "RST",
    }
}

fn path(message: &Message) -> Option<String> {
    let mut path = String::new();
    for segment in message.option_values(option::URI_PATH) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(segment));
    }
    (!path.is_empty()).then_some(path)
}

fn options(message: &Message) -> Vec<(String, String)> {
    let options = message.options().take(OPTIONS);
    options
        .map(|(number, value)| (option_name(number), option_value(number, value)))
        .collect()
}

fn option_name(number: u16) -> String {
    let name = match number {
        1 => "If-Match",
        option::URI_HOST => "Uri-Host",
        option::ETAG => "ETag",
        5 => "If-None-Match",
        option::OBSERVE => "Observe",
        option::URI_PORT => "Uri-Port",
        option::LOCATION_PATH => "Location-Path",
        9 => "OSCORE",
        option::URI_PATH => "Uri-Path",
        option::CONTENT_FORMAT => "Content-Format",
        option::MAX_AGE => "Max-Age",
        option::URI_QUERY => "Uri-Query",
        option::ACCEPT => "Accept",
        20 => "Location-Query",
        option::BLOCK2 => "Block2",
        option::BLOCK1 => "Block1",
        option::SIZE2 => "Size2",
        option::PROXY_URI => "Proxy-Uri",
        option::PROXY_SCHEME => "Proxy-Scheme",
        option::SIZE1 => "Size1",
        option::ECHO => "Echo",
        258 => "No-Response",
        292 => "Request-Tag",
        other => return other.to_string(),
    };
    name.to_owned()
}

fn option_value(number: u16, value: &[u8]) -> String {
    let uint = || {
        value
            .iter()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    match number {
        option::URI_HOST
        | option::LOCATION_PATH
        | option::URI_PATH
        | option::URI_QUERY
        | 20
        | option::PROXY_URI
        | option::PROXY_SCHEME => String::from_utf8_lossy(value).into_owned(),
        option::BLOCK1 | option::BLOCK2 if value.len() <= 3 => {
            let block = uint();
            let more = if block & 8 == 0 { 0 } else { 1 };
            format!("{}/{more}/{}", block >> 4, 16 << (block & 7).min(6))
        }
        option::OBSERVE
        | option::URI_PORT
        | option::CONTENT_FORMAT
        | option::MAX_AGE
        | option::ACCEPT
        | option::SIZE1
        | option::SIZE2
        | 258
            if value.len() <= 8 =>
        {
            uint().to_string()
        }
        _ => hex(value),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::coap::Code;
    use crate::coap::message::Builder;

    fn shown(datagram: &[u8]) -> Value {
        let trace = Trace {
            incoming: true,
            peer: "192.0.2.1:5683".parse().unwrap(),
            datagram,
        };
        let data = describe(5, "a\"b", trace);
        serde_json::from_slice(&data).unwrap()
    }

    #[test]
    fn a_notification() {
        let datagram = Builder::new(MessageType::NonConfirmable, Code::CONTENT, 258, &[1, 0xab])
            .uint(option::OBSERVE, 3)
            .uint(option::CONTENT_FORMAT, 110)
            .option(option::BLOCK2, [0x1d])
            .payload(vec![0x5b; 300])
            .build();
        assert_eq!(
            shown(&datagram),
            json!({
                "at": 5, "endpoint": "a\"b", "direction": "in", "kind": "NON", "code": "2.05",
                "mid": 258, "token": "01ab", "peer": "192.0.2.1:5683", "payload_bytes": 300,
                "options": [["Observe", "3"], ["Content-Format", "110"], ["Block2", "1/1/512"]],
                "payload_hex": "5b".repeat(256),
            })
        );
    }

    #[test]
    fn a_request_and_nothing() {
        let datagram = Builder::new(MessageType::Confirmable, Code::GET, 1, &[])
            .option(option::URI_PATH, "3")
            .option(option::URI_PATH, "0")
            .build();
        assert_eq!(shown(&datagram)["path"], "/3/0");
        assert_eq!(shown(&datagram)["code"], "0.01");
        let reset = message::empty(MessageType::Reset, 7);
        assert_eq!(shown(&reset)["kind"], "RST");
        assert_eq!(shown(&reset)["code"], "0.00");
        assert_eq!(
            shown(b"nonsense"),
            json!({"at": 5, "endpoint": "a\"b", "kind": "none"})
        );
    }
}
