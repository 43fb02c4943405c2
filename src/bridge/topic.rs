//! Mountpoints, placeholders, and names that would widen a topic.

use std::borrow::Cow;
use std::fmt::Write as _;

use thiserror::Error;

use crate::config::{HostileEndpoint, Translator};

/// Longest name that may stand in a topic, in bytes.
pub const MAX_NAME: usize = 255;

/// Where notifications of the firmware object go with `compat.firmware_topic`, below the
/// mountpoint. EMQX has it hard-coded, with the slash, whatever the mountpoint ends in.
pub const FIRMWARE_TOPIC: &str = "/v1/up/dm";

/// Why a topic cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicError {
    /// A placeholder's value is empty.
    #[error("empty name in a topic")]
    Empty,
    /// A placeholder's value is longer than [`MAX_NAME`] bytes.
    #[error("name of {0} bytes in a topic, at most {MAX_NAME} are allowed")]
    TooLong(usize),
    /// A placeholder's value holds a character with a meaning in topics, or starts with `$`.
    #[error("character {0:?} may not stand in a topic name")]
    Hostile(char),
    /// The identity of the connection is to stand in a topic and is no UTF-8.
    #[error("the identity is not UTF-8 and cannot stand in a topic")]
    NotText,
    /// Mountpoint and command topic do not make a topic filter (MQTT 5.0 §4.7.1).
    #[error("{0:?} is not a topic filter")]
    BadFilter(String),
}

/// Longest topic of MQTT in bytes (MQTT 5.0 §1.5.4).
pub const MAX_TOPIC: usize = 65_535;

/// Longest mountpoint in bytes that a host gives a device.
pub const MAX_MOUNTPOINT: usize = 1024;

/// Why a host's text cannot stand in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LiteralError {
    /// It holds what only filters do (MQTT 5.0 §4.7.1), or NUL (§4.7.3).
    #[error("holds +, # or NUL, which no topic does")]
    Characters,
    /// It is too long.
    #[error("has {length} bytes, at most {longest} are allowed")]
    Length {
        /// Its bytes.
        length: usize,
        /// The limit.
        longest: usize,
    },
}

/// Checks a topic, or a part of one, that a host has made.
///
/// # Errors
///
/// When it is no topic, or longer than `longest` bytes.
pub fn check_literal(text: &str, longest: usize) -> Result<(), LiteralError> {
    if text.contains(['+', '#', '\0']) {
        return Err(LiteralError::Characters);
    }
    let length = text.len();
    if length > longest {
        return Err(LiteralError::Length { length, longest });
    }
    Ok(())
}

/// What a mountpoint's placeholders stand for, one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vars<'a> {
    /// Query `ep`.
    pub endpoint_name: &'a str,
    /// With DTLS the configured identity, without it query `device_id`, else `ep`.
    pub clientid: &'a str,
    /// With DTLS the configured identity, without it query `imei`, else `ep`.
    pub username: &'a str,
    /// The device's IP address as text.
    pub peerhost: &'a str,
    /// `default`.
    pub zone: &'a str,
}

/// A placeholder of a mountpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder {
    EndpointName,
    ClientId,
    Username,
    PeerHost,
    Zone,
}

impl Placeholder {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "endpoint_name" => Self::EndpointName,
            "clientid" => Self::ClientId,
            "username" => Self::Username,
            "peerhost" => Self::PeerHost,
            "zone" => Self::Zone,
            _ => return None,
        })
    }

    fn value<'a>(self, vars: &Vars<'a>) -> &'a str {
        match self {
            Self::EndpointName => vars.endpoint_name,
            Self::ClientId => vars.clientid,
            Self::Username => vars.username,
            Self::PeerHost => vars.peerhost,
            Self::Zone => vars.zone,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

/// A mountpoint with its placeholders found once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    pub(super) parts: Vec<Part>,
}

impl TopicTemplate {
    /// Finds the placeholders. Unknown ones stay in the topic literally, as EMQX does.
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            literal.push_str(before);
            let name = from
                .strip_prefix("${")
                .and_then(|name| name.split_once('}'));
            match name.and_then(|(name, after)| Some((Placeholder::from_name(name)?, after))) {
                Some((placeholder, after)) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Placeholder(placeholder));
                    rest = after;
                }
                None => {
                    literal.push_str("${");
                    rest = from.strip_prefix("${").unwrap_or_default();
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Self { parts }
    }

    /// The mountpoint of one device: the start of each of its topics. Values are checked by
    /// [`escape_endpoint`], but only those the template uses.
    ///
    /// # Errors
    ///
    /// When a value may not stand in a topic; such a Register is to be answered 4.00.
    pub fn render(&self, vars: &Vars<'_>, policy: HostileEndpoint) -> Result<String, TopicError> {
        let mut topic = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => topic.push_str(text),
                Part::Placeholder(placeholder) => {
                    topic.push_str(&escape_endpoint(placeholder.value(vars), policy)?);
                }
            }
        }
        Ok(topic)
    }

    /// Whether a topic holds a name that a device without DTLS gives itself besides its endpoint
    /// name.
    pub fn has_other_name(&self) -> bool {
        let names = [Placeholder::ClientId, Placeholder::Username];
        names
            .iter()
            .any(|name| self.parts.contains(&Part::Placeholder(*name)))
    }
}

/// The full topic of one kind of message of a device. Nothing is added or removed between the
/// two parts, as EMQX does. A device needs to keep only its rendered mountpoint.
pub fn topic(mount: &str, translator: &Translator) -> String {
    concat(mount, &translator.topic)
}

/// See [`topic`], for [`FIRMWARE_TOPIC`].
pub fn firmware_topic(mount: &str) -> String {
    concat(mount, FIRMWARE_TOPIC)
}

fn concat(mount: &str, below: &str) -> String {
    let mut topic = String::with_capacity(mount.len() + below.len());
    topic.push_str(mount);
    topic.push_str(below);
    topic
}

/// A name as it may stand in one level of a topic. `/`, `+`, `#`, control characters (NUL
/// among them), a leading `$` and the names `.` and `..`, which no URL can have, are refused or written `%XX`, byte by byte; when names are
/// escaped, so is `%`, which makes the form reversible.
///
/// # Errors
///
/// Empty names and names over [`MAX_NAME`] bytes always, hostile names with
/// [`HostileEndpoint::Refuse`].
pub fn escape_endpoint(name: &str, policy: HostileEndpoint) -> Result<Cow<'_, str>, TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(TopicError::TooLong(name.len()));
    }
    let escape = policy == HostileEndpoint::Escape;
    let dots = matches!(name, "." | "..");
    let hostile = |(index, c): (usize, char)| {
        dots || matches!(c, '/' | '+' | '#')
            || c.is_control()
            || (c == '$' && index == 0)
            || (c == '%' && escape)
    };
    let Some((_, first)) = name.char_indices().find(|at| hostile(*at)) else {
        return Ok(Cow::Borrowed(name));
    };
    if !escape {
        return Err(TopicError::Hostile(first));
    }
    let mut escaped = String::with_capacity(name.len() + 8);
    let mut buffer = [0; 4];
    for (index, c) in name.char_indices() {
        if hostile((index, c)) {
            for byte in c.encode_utf8(&mut buffer).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        } else {
            escaped.push(c);
        }
    }
    Ok(Cow::Owned(escaped))
}

/// The name that [`escape_endpoint`] wrote. A text it cannot have written comes back as it is
/// and will name no device.
pub fn unescape_endpoint(text: &str, policy: HostileEndpoint) -> Cow<'_, str> {
    if policy == HostileEndpoint::Refuse || !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        match digit().and_then(|high| u8::try_from(high << 4 | digit()?).ok()) {
            Some(byte) => name.push(byte),
            None => return Cow::Borrowed(text),
        }
    }
    String::from_utf8(name).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VARS: Vars<'_> = Vars {
        endpoint_name: "ep1",
        clientid: "id1",
        username: "8612",
        peerhost: "10.0.0.1",
        zone: "default",
    };

    fn render(template: &str) -> String {
        TopicTemplate::parse(template)
            .render(&VARS, HostileEndpoint::Refuse)
            .unwrap()
    }

    #[test]
    fn renders_placeholders() {
        for (template, topic) in [
            ("lwm2m/${endpoint_name}/", "lwm2m/ep1/"),
            (
                "${zone}/${peerhost}/${username}-${clientid}/",
                "default/10.0.0.1/8612-id1/",
            ),
            ("lwm2m/", "lwm2m/"),
            ("", ""),
            (
                "a/${client_attrs.x}/${endpoint_name",
                "a/${client_attrs.x}/${endpoint_name",
            ),
            ("${${zone}", "${default"),
        ] {
            assert_eq!(render(template), topic, "{template}");
        }
    }

    #[test]
    fn only_used_names_are_checked() {
        let vars = Vars {
            username: "a/b",
            ..VARS
        };
        let refuse = HostileEndpoint::Refuse;
        assert_eq!(
            TopicTemplate::parse("x/${username}/").render(&vars, refuse),
            Err(TopicError::Hostile('/'))
        );
        assert!(
            TopicTemplate::parse("x/${endpoint_name}/")
                .render(&vars, refuse)
                .is_ok()
        );
    }

    #[test]
    fn hostile_names() {
        let long = "x".repeat(256);
        for policy in [HostileEndpoint::Refuse, HostileEndpoint::Escape] {
            assert_eq!(escape_endpoint("", policy), Err(TopicError::Empty));
            assert_eq!(
                escape_endpoint(&long, policy),
                Err(TopicError::TooLong(256))
            );
            assert_eq!(escape_endpoint("urn:imei:1", policy).unwrap(), "urn:imei:1");
        }
        for (name, escaped) in [
            ("urn:imei:1/2+#", "urn:imei:1%2F2%2B%23"),
            ("$SYS", "%24SYS"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("a\0b\u{85}", "a%00b%C2%85"),
        ] {
            assert!(matches!(
                escape_endpoint(name, HostileEndpoint::Refuse),
                Err(TopicError::Hostile(_))
            ));
            assert_eq!(
                escape_endpoint(name, HostileEndpoint::Escape).unwrap(),
                escaped
            );
        }
        assert_eq!(
            escape_endpoint("50%", HostileEndpoint::Refuse).unwrap(),
            "50%"
        );
        assert_eq!(
            escape_endpoint("...", HostileEndpoint::Refuse).unwrap(),
            "..."
        );
    }

    proptest! {
        #[test]
        fn escaping_is_reversible_and_safe(name in "\\PC{1,20}|[/+#$%\\x00-\\x1f]{1,20}") {
            let escaped = escape_endpoint(&name, HostileEndpoint::Escape).unwrap();
            prop_assert!(!escaped.contains(['/', '+', '#', '\0']) && !escaped.starts_with('$'));
            let back = unescape_endpoint(&escaped, HostileEndpoint::Escape);
            prop_assert_eq!(back, name.as_str());
        }

        #[test]
        fn any_text_unescapes(text in "[%a-fA-F0-9\\PC]{0,20}") {
            unescape_endpoint(&text, HostileEndpoint::Escape);
        }
    }
}
