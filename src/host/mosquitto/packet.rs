//! The Message-Expiry-Interval of a command.
//!
//! Mosquitto takes this property out of a message before it shows the message to its plugins. The
//! packet as it came still lies in the client's structure then (`in_packet.payload` in
//! `lib/mosquitto_internal.h`), at an offset that differs between versions and builds. So the
//! structure is searched for a pointer to bytes that are exactly this PUBLISH, with its topic and
//! its whole payload; nothing else can pass for it, and nothing is read but by [`peek`]. Where no
//! such packet is found, a command has no expiry but its `ttl`. All this leans on memory that is the
//! broker's own, so it is done only where it is asked for (`plugin_opt_message_expiry packet`).

use std::cell::Cell;

use super::epoll::peek;

/// Bytes of the client's structure that are searched: the packet is in the first quarter.
const STRUCTURE: usize = 1024;

/// Longest list of properties that is looked at.
const MAX_PROPERTIES: usize = 64 << 10;

/// Fruitless searches before the first hit, after which there are no more.
const SEARCHES: u8 = 8;

/// A message as the broker shows it.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    /// With the broker's mount point, if there is one.
    pub(super) topic: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) qos: u8,
}

/// Where the packet is in a client's structure. Belongs to the broker's main thread.
pub(super) struct Packets {
    offset: Cell<Option<usize>>,
    searches_left: Cell<u8>,
}

/// No packet was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// There will be other tries.
    Now,
    /// This is no broker that we know: the last try has failed.
    Forever,
}

impl Packets {
    pub(super) fn new() -> Self {
        Self {
            offset: Cell::new(None),
            searches_left: Cell::new(SEARCHES),
        }
    }

    /// The Message-Expiry-Interval of `message`, which is being received from the MQTT 5 client
    /// whose structure is at `client`.
    ///
    /// # Errors
    /// The packet is not found.
    pub(super) fn expiry(&self, client: u64, message: Shown<'_>) -> Result<Option<u32>, Lost> {
        let at = |offset: usize| {
            let mut pointer = [0; 8];
            peek(client.wrapping_add(offset as u64), &mut pointer)
                .then(|| properties(u64::from_ne_bytes(pointer), message))
                .flatten()
        };
        if let Some(found) = self.offset.get().and_then(at) {
            return Ok(expiry(&found));
        }
        let left = self.searches_left.get();
        if left == 0 {
            return Err(Lost::Now);
        }
        for offset in (0..STRUCTURE).step_by(8) {
            if let Some(found) = at(offset) {
                self.offset.set(Some(offset));
                return Ok(expiry(&found));
            }
        }
        if self.offset.get().is_some() {
            // A message that the broker has changed, such as that of a bridge.
            return Err(Lost::Now);
        }
        self.searches_left.set(left.saturating_sub(1));
        Err(if left == 1 { Lost::Forever } else { Lost::Now })
    }
}

/// The properties of the PUBLISH that `address` points to, if it is `message` (MQTT 5 section
/// 3.3.2: topic, packet identifier for QoS 1 and 2, properties; then the payload).
fn properties(mut address: u64, message: Shown<'_>) -> Option<Vec<u8>> {
    // What the system hands out is aligned and not in the first page.
    if address < 4096 || !address.is_multiple_of(8) {
        return None;
    }
    let mut take = |len: usize| {
        let mut bytes = vec![0; len];
        peek(address, &mut bytes).then_some(())?;
        address = address.checked_add(u64::try_from(len).ok()?)?;
        Some(bytes)
    };
    let length = take(2)?;
    let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
    if length > message.topic.len() || !message.topic.ends_with(&take(length)?) {
        return None;
    }
    if message.qos > 0 {
        take(2)?;
    }
    let mut length: usize = 0;
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*take(1)?.first()?);
        length |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length > MAX_PROPERTIES {
        return None;
    }
    let properties = take(length)?;
    (take(message.payload.len())? == message.payload).then_some(properties)
}

/// The Message-Expiry-Interval in the properties of a PUBLISH (MQTT 5 section 2.2.2.2).
fn expiry(mut properties: &[u8]) -> Option<u32> {
    loop {
        let (&identifier, rest) = properties.split_first()?;
        let string = |from: &[u8]| {
            let (length, _) = from.split_first_chunk::<2>()?;
            Some(usize::from(u16::from_be_bytes(*length)).saturating_add(2))
        };
        let length = match identifier {
            // Payload Format Indicator
            0x01 => 1,
            // Message Expiry Interval
            0x02 => {
                return rest
                    .split_first_chunk()
                    .map(|(seconds, _)| u32::from_be_bytes(*seconds));
            }
            // Content Type, Response Topic, Correlation Data
            0x03 | 0x08 | 0x09 => string(rest)?,
            // Subscription Identifier: bytes whose highest bit says that there are more
            0x0b => rest
                .iter()
                .position(|byte| byte & 0x80 == 0)?
                .saturating_add(1),
            // Topic Alias
            0x23 => 2,
            // User Property: two strings
            0x26 => {
                let name = string(rest)?;
                name.saturating_add(string(rest.get(name..)?)?)
            }
            _ => return None,
        };
        properties = rest.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet behind a pointer in the middle of a structure.
    struct Client {
        structure: Vec<u64>,
        packet: Vec<u64>,
    }

    fn client(offset: usize, topic: &[u8], properties: &[u8], payload: &[u8]) -> Client {
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic);
        bytes.extend([0, 7]);
        assert!(properties.len() < 128);
        bytes.push(u8::try_from(properties.len()).unwrap());
        bytes.extend(properties);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let packet: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap()))
            .collect();
        let mut structure = vec![0; 256];
        structure[3] = 17;
        structure[4] = structure.as_ptr() as u64;
        structure[offset / 8] = packet.as_ptr() as u64;
        Client { structure, packet }
    }

    fn ask(
        packets: &Packets,
        client: &Client,
        topic: &str,
        payload: &str,
    ) -> Result<Option<u32>, Lost> {
        assert!(!client.packet.is_empty());
        let message = Shown {
            topic: topic.as_bytes(),
            payload: payload.as_bytes(),
            qos: 1,
        };
        packets.expiry(client.structure.as_ptr() as u64, message)
    }

    const FIVE: [u8; 5] = [2, 0, 0, 0, 5];

    #[test]
    fn of_a_packet_wherever_it_is() {
        let packets = Packets::new();
        for offset in [64, 1016, 64] {
            let client = client(offset, b"lwm2m/a/dn", &FIVE, b"{}");
            assert_eq!(ask(&packets, &client, "lwm2m/a/dn", "{}"), Ok(Some(5)));
            assert_eq!(
                ask(&packets, &client, "mount/lwm2m/a/dn", "{}"),
                Ok(Some(5))
            );
            assert_eq!(ask(&packets, &client, "lwm2m/b/dn", "{}"), Err(Lost::Now));
            assert_eq!(ask(&packets, &client, "lwm2m/a/dn", "[]"), Err(Lost::Now));
        }
        let without = client(64, b"lwm2m/a/dn", &[], b"{}");
        assert_eq!(ask(&packets, &without, "lwm2m/a/dn", "{}"), Ok(None));
        let by_alias = client(64, b"", &[0x23, 0, 1, 2, 0, 0, 1, 0], b"{}");
        assert_eq!(ask(&packets, &by_alias, "lwm2m/a/dn", "{}"), Ok(Some(256)));
    }

    #[test]
    fn the_search_ends_when_there_is_nothing() {
        let packets = Packets::new();
        let strange = client(1024, b"lwm2m/a/dn", &FIVE, b"{}");
        for _ in 1..SEARCHES {
            assert_eq!(ask(&packets, &strange, "lwm2m/a/dn", "{}"), Err(Lost::Now));
        }
        assert_eq!(
            ask(&packets, &strange, "lwm2m/a/dn", "{}"),
            Err(Lost::Forever)
        );
        let known = client(64, b"lwm2m/a/dn", &FIVE, b"{}");
        assert_eq!(ask(&packets, &known, "lwm2m/a/dn", "{}"), Err(Lost::Now));
    }

    #[test]
    fn among_other_properties() {
        let properties = [
            &[0x01, 1][..],
            &[0x03, 0, 1, b'j'],
            &[0x08, 0, 0],
            &[0x09, 0, 2, 1, 2],
            &[0x0b, 0x80, 1],
            &[0x23, 0, 1],
            &[0x26, 0, 1, b'a', 0, 2, b'b', b'c'],
            &[0x02, 0, 0, 1, 0],
        ]
        .concat();
        assert_eq!(expiry(&properties), Some(256));
        assert_eq!(expiry(&properties[..properties.len() - 1]), None);
        assert_eq!(expiry(&[0x11, 0, 0, 0, 0, 2, 0, 0, 0, 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes(properties in proptest::collection::vec(any::<u8>(), 0..64)) {
            expiry(&properties);
        }
    }
}
