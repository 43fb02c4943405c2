//! Messages to the broker and from it, whoever carries them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::memory::block;

/// A message for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// What the message is.
    pub kind: PublishKind,
    /// Endpoint name of the device the message is about.
    pub endpoint: Arc<str>,
    /// Full topic.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Correlation Data (MQTT 5), if an application asked for it.
    pub correlation: Option<Box<[u8]>>,
}

impl Publish {
    /// Whether the message gives way to others where there is no room for all: a notification, Send
    /// or series of QoS 0. One device can send as many of them as it likes, which must not cost
    /// another one its answers.
    pub(crate) const fn gives_way(&self) -> bool {
        self.qos == 0 && self.is_value()
    }

    /// Whether it is what a device measured, not an answer or a report.
    pub(crate) const fn is_value(&self) -> bool {
        use PublishKind::{Notify, Send, Series};
        matches!(self.kind, Notify | Send | Series)
    }

    /// Adds the time at which its reason came, in milliseconds since 1970 (`received_at`): what is
    /// received later may have waited in a broker. Series have times of their own, states one of
    /// theirs.
    pub(crate) fn stamp(&mut self, unix_ms: u64) {
        let is_stamped = !matches!(self.kind, PublishKind::Series | PublishKind::State);
        if is_stamped && self.payload.last() == Some(&b'}') && self.payload.len() > 2 {
            self.payload.pop();
            let stamp = format!(r#","receivedAt":{unix_ms}}}"#);
            self.payload.extend_from_slice(stamp.as_bytes());
        }
    }

    /// Whether the message is published as retained (MQTT 5 §3.3.1.3).
    pub fn is_retained(&self) -> bool {
        self.kind == PublishKind::State
    }

    /// Bytes that the message occupies in a queue.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(block(self.topic.capacity()))
            .saturating_add(block(self.payload.capacity()))
            .saturating_add(bytes_of(self.correlation.as_deref()))
    }
}

/// See [`Publish::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishKind {
    /// A report of a registration, or of its end.
    Register,
    /// A report of an Update.
    Update,
    /// An answer to a command, from the device or from the gateway.
    Response,
    /// A notification of an observation.
    Notify,
    /// Values that a device sent on its own (LwM2M Core 1.2 §6.4.6).
    Send,
    /// A measurement series made from an answer, a notification or a Send.
    Series,
    /// Whether a device can be reached; published as retained.
    State,
}

/// Start of the topic of [`ReplyTo::caught`].
const CAUGHT: &str = "$caught/";

/// A message from the broker that may be a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Full topic.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// What was left of the Message-Expiry-Interval (MQTT 5) when the message arrived here, in
    /// seconds.
    pub expiry: Option<u32>,
    /// Response Topic and Correlation Data (MQTT 5).
    pub reply: Option<Box<ReplyTo>>,
}

/// What tells a message of a broker from others: the broker gives it again when it did not get its
/// acknowledgement (MQTT 5 §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its packet identifier.
    pub id: u16,
    /// Of topic and payload.
    pub digest: u64,
    /// The broker has given it before, and nobody here knows what became of it.
    pub again: bool,
}

/// Where an application wants the answers to a command, in addition to their usual topic (MQTT 5
/// §4.10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    topic: Box<str>,
    /// In JSON as numbers: it is rare and short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<Box<[u8]>>,
}

impl ReplyTo {
    /// Most bytes of a response topic, and of correlation data.
    pub const MAX_BYTES: usize = 1024;

    /// What a message asks for, unchecked: the gateway checks it, and counts what it refuses
    /// (`replies_refused`).
    pub fn new(topic: &str, correlation: Option<&[u8]>) -> Self {
        Self {
            topic: topic.into(),
            correlation: correlation.map(Into::into),
        }
    }

    #[cfg(feature = "http")]
    /// For an answer that goes back into this process, and not to the broker: to whoever waits for
    /// `number`. No message of a broker can ask for it, since its topic is not fit to publish to.
    pub(crate) fn caught(number: u64) -> Self {
        Self::new(&format!("{CAUGHT}{number:016x}"), None)
    }

    /// Who waits for the answer, see [`ReplyTo::caught`].
    pub(crate) fn catcher(&self) -> Option<u64> {
        let number = self.topic.strip_prefix(CAUGHT)?;
        u64::from_str_radix(number, 16).ok()
    }

    /// Whether this is a topic to publish to that is not the broker's own (`$…`), and nothing is
    /// longer than [`ReplyTo::MAX_BYTES`].
    pub(crate) fn is_fit(&self) -> bool {
        let topic = &*self.topic;
        let correlation = self.correlation.as_deref().map_or(0, <[u8]>::len);
        !topic.is_empty()
            && topic.len() <= Self::MAX_BYTES
            && !topic.starts_with('$')
            && !topic.contains(['+', '#'])
            && !topic.chars().any(char::is_control)
            && correlation <= Self::MAX_BYTES
    }

    /// Bytes that one takes beside its place.
    pub(crate) fn bytes_of(reply: &Option<Box<Self>>) -> usize {
        reply.as_ref().map_or(0, |reply| {
            block(size_of::<Self>())
                .saturating_add(block(reply.topic.len()))
                .saturating_add(bytes_of(reply.correlation.as_deref()))
        })
    }

    /// The response topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The correlation data.
    pub fn correlation(&self) -> Option<&[u8]> {
        self.correlation.as_deref()
    }

    /// The same message for the response topic.
    pub fn copy_of(&self, answer: &Publish) -> Publish {
        Publish {
            topic: self.topic.to_string(),
            correlation: self.correlation.clone(),
            ..answer.clone()
        }
    }
}

fn bytes_of(data: Option<&[u8]>) -> usize {
    data.map_or(0, |data| block(data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_what_is_no_response_topic_is_refused() {
        let is_fit = |topic: &str, data: Option<&[u8]>| ReplyTo::new(topic, data).is_fit();
        for topic in ["a", "a/b", "/", "answers/€"] {
            assert!(is_fit(topic, Some(b"1")), "{topic}");
        }
        for topic in [
            "",
            "a/+",
            "#",
            "a/#",
            "$SYS/a",
            "$share/g/a",
            "a\0b",
            "a\nb",
        ] {
            assert!(!is_fit(topic, None), "{topic}");
        }
        let (fits, long) = ("t".repeat(1024), "t".repeat(1025));
        assert!(is_fit(&fits, Some(fits.as_bytes())));
        assert!(!is_fit(&long, None));
        assert!(!is_fit(&fits, Some(long.as_bytes())));
    }

    #[test]
    fn b14_what_it_holds_is_counted() {
        let reply = Some(Box::new(ReplyTo::new(&"t".repeat(500), Some(&[0; 700]))));
        assert!(ReplyTo::bytes_of(&reply) >= 1200);
    }
}
