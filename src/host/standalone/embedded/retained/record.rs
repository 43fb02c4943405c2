//! A retained message as it is kept in memory. Those of the gateway, one for each device, consist of
//! two bytes and the payload; of others, everything but topic and payload is packed as on the disk.

use bytes::Bytes;
use rmqtt::codec::types::{Publish, QoS};
use rmqtt::codec::v5::PublishProperties;
use rmqtt::types::{From as Origin, Publish as RoutedPublish, Retain};

use super::super::super::outbox;
use super::topics::{self, read_number, write_number};

/// Bits of the first byte: QoS in the lowest two, and these.
const DUP: u8 = 1 << 2;
const RETAIN: u8 = 1 << 3;
/// There are properties, none of which is set.
const PROPERTIES: u8 = 1 << 4;
/// Nanoseconds follow, since a time that the owner knows.
const ENDS: u8 = 1 << 5;
/// Instead of the number of an origin, the length of what is packed and this follow.
const PACKED: u8 = 1 << 6;
/// What is packed has the topic, since it is another one.
const TOPIC: u8 = 1 << 7;

/// Origins that are kept once for all their messages.
const ORIGINS: usize = 32;

/// Who sent messages: the gateway, and the same gateway before its restarts.
#[derive(Default)]
pub(super) struct Origins {
    /// With the number of messages.
    known: Vec<(Origin, usize)>,
}

impl Origins {
    /// For one message more.
    fn hold(&mut self, origin: &Origin) -> Option<u8> {
        let kind = |origin: &Origin| std::mem::discriminant(&origin.typ());
        let is_it = |known: &Origin| known.id == origin.id && kind(known) == kind(origin);
        let known = self.known.iter().position(|(known, _)| is_it(known));
        let unused = || self.known.iter().position(|(_, messages)| *messages == 0);
        let place = known.or_else(unused).unwrap_or(self.known.len());
        if place >= ORIGINS {
            return None;
        }
        match self.known.get_mut(place) {
            Some((known, messages)) => {
                *known = origin.clone();
                *messages = messages.saturating_add(1);
            }
            None => self.known.push((origin.clone(), 1)),
        }
        u8::try_from(place).ok()
    }

    /// A message is gone.
    pub(super) fn release(&mut self, record: &[u8]) {
        let origin = Record::read(record).and_then(|record| match record.rest {
            Rest::Origin(origin) => self.known.get_mut(usize::from(origin)),
            Rest::Packed(_) => None,
        });
        if let Some((_, messages)) = origin {
            *messages = messages.saturating_sub(1);
        }
    }
}

/// See the module.
pub(super) struct Record<'a> {
    flags: u8,
    /// Nanoseconds.
    pub(super) ends: Option<u64>,
    rest: Rest<'a>,
    payload: &'a [u8],
    length: usize,
}

enum Rest<'a> {
    /// Its number.
    Origin(u8),
    Packed(&'a [u8]),
}

impl<'a> Record<'a> {
    pub(super) fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let length = bytes.len();
        let flags = *bytes.split_off_first()?;
        let ends = match flags & ENDS {
            0 => None,
            _ => Some(u64::from_le_bytes(bytes.split_off(..8)?.try_into().ok()?)),
        };
        let rest = match flags & PACKED {
            0 => Rest::Origin(*bytes.split_off_first()?),
            _ => {
                let length = read_number(&mut bytes)?;
                Rest::Packed(bytes.split_off(..length)?)
            }
        };
        Some(Self {
            flags,
            ends,
            rest,
            payload: bytes,
            length,
        })
    }

    /// A message for [`Record::read`] and [`Record::retain`]; its payload stays where it is. Counts in
    /// `origins` until it is released.
    pub(super) fn write(
        topic: &str,
        retain: &mut Retain,
        ends: Option<u64>,
        origins: &mut Origins,
    ) -> Option<Vec<u8>> {
        let has_other_topic = retain.publish.topic != topic;
        let publish = &retain.publish;
        let mut flags = publish.qos as u8;
        for (bit, is_set) in [
            (DUP, publish.dup),
            (RETAIN, publish.retain),
            (PROPERTIES, publish.properties.is_some()),
            (ENDS, ends.is_some()),
        ] {
            flags |= if is_set { bit } else { 0 };
        }
        let mut bytes = Vec::with_capacity(publish.payload.len().saturating_add(100));
        bytes.push(flags);
        bytes.extend(ends.into_iter().flat_map(u64::to_le_bytes));
        let is_plain = is_plain(retain) && !has_other_topic;
        match is_plain.then(|| origins.hold(&retain.from)).flatten() {
            Some(origin) => bytes.push(origin),
            None => {
                flags |= PACKED | if has_other_topic { TOPIC } else { 0 };
                *bytes.first_mut()? = flags;
                let packed = pack(retain, has_other_topic)?;
                write_number(packed.len(), &mut bytes);
                bytes.extend(packed);
            }
        }
        bytes.extend_from_slice(&retain.publish.payload);
        Some(bytes)
    }

    /// At a time in nanoseconds like those of the ends.
    pub(super) fn has_ended(&self, now: u64) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// Bytes that it counts with, not less than what it takes.
    pub(super) fn bytes(&self, topic: usize) -> usize {
        let packed = match self.rest {
            Rest::Origin(_) => 0,
            Rest::Packed(packed) => packed.len(),
        };
        let value = self.payload.len().saturating_add(packed);
        outbox::size(topic.saturating_mul(2), value).max(topics::cost(topic, self.length))
    }

    pub(super) fn retain(&self, topic: &str, origins: &Origins) -> Option<Retain> {
        let payload = Bytes::copy_from_slice(self.payload);
        match self.rest {
            Rest::Origin(origin) => {
                let (from, _) = origins.known.get(usize::from(origin))?;
                let has_properties = self.flags & PROPERTIES != 0;
                let publish = Publish {
                    dup: self.flags & DUP != 0,
                    retain: self.flags & RETAIN != 0,
                    qos: QoS::try_from(self.flags & 0b11).ok()?,
                    topic: topic.into(),
                    packet_id: None,
                    payload,
                    properties: has_properties.then(PublishProperties::default),
                };
                Some(Retain {
                    msg_id: None,
                    from: from.clone(),
                    publish: RoutedPublish::new(Box::new(publish), None, None, None),
                })
            }
            Rest::Packed(packed) => {
                let mut retain: Retain = postcard::from_bytes(packed).ok()?;
                retain.publish.payload = payload;
                if self.flags & TOPIC == 0 {
                    retain.publish.topic = topic.into();
                }
                Some(retain)
            }
        }
    }
}

/// Whether it is as the gateway makes them: it has nothing beside its origin, topic and payload, and what
/// fits in the first byte.
fn is_plain(retain: &Retain) -> bool {
    let Retain {
        msg_id: None,
        from: _,
        publish,
    } = retain
    else {
        return false;
    };
    let RoutedPublish {
        inner,
        target_clientid: None,
        delay_interval: None,
        create_time: None,
    } = publish
    else {
        return false;
    };
    let Publish {
        dup: _,
        retain: _,
        qos: _,
        topic: _,
        packet_id: None,
        payload: _,
        properties,
    } = &**inner
    else {
        return false;
    };
    let properties = properties.as_ref();
    properties.is_none_or(|properties| *properties == PublishProperties::default())
}

/// Without the payload, and without the topic unless asked to.
fn pack(retain: &mut Retain, with_topic: bool) -> Option<Vec<u8>> {
    let payload = std::mem::take(&mut retain.publish.payload);
    let topic = match with_topic {
        true => None,
        false => Some(std::mem::take(&mut retain.publish.topic)),
    };
    let packed = postcard::to_allocvec(retain).ok();
    retain.publish.payload = payload;
    if let Some(topic) = topic {
        retain.publish.topic = topic;
    }
    packed
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU16, NonZeroU32};

    use proptest::prelude::*;
    use rmqtt::types::Id;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        "[a-zä/]{0,12}"
    }

    fn origin() -> impl Strategy<Value = Origin> {
        let id = prop_oneof![
            Just(Id::from(1, "gateway".into())),
            (
                any::<(u64, u16, Option<std::net::SocketAddr>)>(),
                text(),
                prop::option::of(text())
            )
                .prop_map(|((node, listener, address), client, user)| {
                    Id::new(
                        node,
                        listener,
                        address,
                        address,
                        client.into(),
                        user.map(Into::into),
                    )
                }),
        ];
        (0..5, id).prop_map(|(kind, id)| match kind {
            0 => Origin::from_custom(id),
            1 => Origin::from_admin(id),
            2 => Origin::from_bridge(id),
            3 => Origin::from_lastwill(id),
            _ => Origin::from_system(id),
        })
    }

    fn rarely<T: std::fmt::Debug>(
        of: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Option<T>> {
        prop::option::weighted(0.1, of)
    }

    fn properties() -> impl Strategy<Value = PublishProperties> {
        (
            rarely(any::<NonZeroU16>()),
            rarely(any::<Vec<u8>>()),
            rarely(any::<NonZeroU32>()),
            rarely(text()),
            rarely((text(), text())),
            prop::bool::weighted(0.1),
            rarely(text()),
            rarely(any::<NonZeroU32>()),
        )
            .prop_map(
                |(alias, correlation, expiry, kind, user, is_text, response, id)| {
                    PublishProperties {
                        topic_alias: alias,
                        correlation_data: correlation.map(Bytes::from),
                        message_expiry_interval: expiry,
                        content_type: kind.map(Into::into),
                        user_properties: user
                            .map(|(k, v)| (k.into(), v.into()))
                            .into_iter()
                            .collect(),
                        is_utf8_payload: is_text,
                        response_topic: response.map(Into::into),
                        subscription_ids: id.into_iter().collect(),
                    }
                },
            )
    }

    fn message() -> impl Strategy<Value = (String, Retain)> {
        let publish = (
            any::<(bool, bool)>(),
            0..3u8,
            rarely(any::<NonZeroU16>()),
            any::<Vec<u8>>(),
            prop::option::of(properties()),
        );
        let routed = (
            rarely(text()),
            rarely(any::<u32>()),
            rarely(any::<i64>()),
            rarely(any::<usize>()),
        );
        (text(), rarely(text()), origin(), publish, routed).prop_map(
            |(topic, other, from, (flags, qos, packet_id, payload, properties), routed)| {
                let (target, delay, time, msg_id) = routed;
                let publish = Publish {
                    dup: flags.0,
                    retain: flags.1,
                    qos: QoS::try_from(qos).unwrap(),
                    topic: other.unwrap_or_else(|| topic.clone()).into(),
                    packet_id,
                    payload: payload.into(),
                    properties,
                };
                let target = target.map(Into::into);
                let publish = RoutedPublish::new(Box::new(publish), target, delay, time);
                let retain = Retain {
                    msg_id,
                    from,
                    publish,
                };
                (topic, retain)
            },
        )
    }

    fn of(retain: &Retain) -> Vec<u8> {
        postcard::to_allocvec(retain).unwrap()
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(messages in prop::collection::vec((message(), any::<Option<u64>>()), 0..60)) {
            let mut origins = Origins::default();
            let mut records = Vec::new();
            for ((topic, mut retain), ends) in messages {
                let before = of(&retain);
                let record = Record::write(&topic, &mut retain, ends, &mut origins).unwrap();
                prop_assert_eq!(&of(&retain), &before);
                records.push((topic, before, ends, record));
            }
            for (topic, before, ends, bytes) in &records {
                let record = Record::read(bytes).unwrap();
                prop_assert_eq!(record.ends, *ends);
                prop_assert_eq!(&of(&record.retain(topic, &origins).unwrap()), before);
                prop_assert!(record.bytes(topic.len()) >= topics::cost(topic.len(), bytes.len()));
            }
            for (_, _, _, record) in &records {
                origins.release(record);
            }
            prop_assert!(origins.known.len() <= ORIGINS);
            prop_assert!(origins.known.iter().all(|(_, messages)| *messages == 0));
        }
    }

    #[test]
    fn a_state_is_two_bytes_and_its_payload() {
        let publish = Publish {
            dup: false,
            retain: true,
            qos: QoS::AtMostOnce,
            topic: "lwm2m/a/state".into(),
            packet_id: None,
            payload: Bytes::from_static(b"123"),
            properties: Some(PublishProperties::default()),
        };
        let mut origins = Origins::default();
        // Before a restart and after it.
        for n in 0..2 {
            let mut retain = Retain {
                msg_id: None,
                from: Origin::from_system(Id::from(n, "gateway".into())),
                publish: RoutedPublish::new(Box::new(publish.clone()), None, None, None),
            };
            for _ in 0..2 {
                let record = Record::write("lwm2m/a/state", &mut retain, None, &mut origins);
                assert_eq!(record.unwrap().len(), 2 + 3);
            }
        }
        assert_eq!(origins.known.len(), 2);
    }
}
