//! The layer on both sides of a wire.

use proptest::prelude::*;

use super::super::super::connection_id::ConnectionId;
use super::super::{APPLICATION_DATA, Keys, Record, TLS12_CID};
use super::*;

const OURS: [u8; 8] = *b"\x01\x02\x03\x04\x05\x06\x07\x08";
const THEIRS: &[u8] = b"theirs";

fn keys() -> Keys {
    let block: [u8; 40] = std::array::from_fn(|n| (n as u8).wrapping_mul(7) + 1);
    Keys::from_bytes(&block).unwrap()
}

fn layer(aead: Aead, ids: bool) -> Layer {
    let ids = match ids {
        true => (ConnectionId::from_slice(&OURS), THEIRS.into()),
        false => (None, Box::default()),
    };
    Layer::new(aead, keys(), 1, Some(0), ids)
}

/// A record of the device.
fn record(aead: Aead, ids: bool, number: u64, content_type: u8, payload: &[u8]) -> Vec<u8> {
    let id = if ids { &OURS[..] } else { &[] };
    aead.seal(&keys().client, number, id, content_type, payload, 0)
        .unwrap()
}

fn open(layer: &mut Layer, bytes: &[u8]) -> Option<(u8, Vec<u8>, bool)> {
    let (record, rest) = Record::split_any(bytes)?;
    assert!(rest.is_empty());
    let mut buffer = Vec::new();
    let opened = layer.open(&record, &mut buffer)?;
    buffer.truncate(opened.plain.length);
    Some((opened.plain.content_type, buffer, opened.is_at_home))
}

const ALL: [(Aead, bool); 6] = [
    (Aead::Ccm8, false),
    (Aead::Ccm, false),
    (Aead::Gcm, false),
    (Aead::Ccm8, true),
    (Aead::Ccm, true),
    (Aead::Gcm, true),
];

fn any_layer() -> impl Strategy<Value = (Aead, bool)> {
    prop::sample::select(&ALL[..])
}

#[test]
fn what_is_sealed_is_opened_once() {
    for (aead, ids) in ALL {
        let mut layer = layer(aead, ids);
        for number in [1, 5, 3, 70, 69, 1 << 40] {
            let bytes = record(aead, ids, number, APPLICATION_DATA, b"payload");
            let newest = ![3, 69].contains(&number);
            let expected = (APPLICATION_DATA, b"payload".to_vec(), ids && newest);
            assert_eq!(open(&mut layer, &bytes), Some(expected));
            assert_eq!(open(&mut layer, &bytes), None, "again");
        }
        // Behind the window, and the Finished of the handshake.
        for number in [0, 2, 71] {
            let bytes = record(aead, ids, number, APPLICATION_DATA, b"old");
            assert_eq!(open(&mut layer, &bytes), None);
        }
    }
}

#[test]
fn no_number_is_used_twice_and_none_beyond_the_last() {
    for (aead, ids) in ALL {
        let mut layer = layer(aead, ids);
        layer.next = NUMBERS - 2;
        let seen: Vec<_> = (0..2)
            .map(|_| {
                let bytes = layer.seal(APPLICATION_DATA, b"x", 0).unwrap();
                u64::from_be_bytes(bytes[3..11].try_into().unwrap())
            })
            .collect();
        assert_eq!(seen, [0x0001_ffff_ffff_fffe, 0x0001_ffff_ffff_ffff]);
        for _ in 0..3 {
            let over = layer.seal(APPLICATION_DATA, b"x", 0);
            assert_eq!(over, Err(SealError::Exhausted));
        }
    }
}

#[test]
fn a_move_needs_a_newest_record_with_payload_and_our_id() {
    let mut layer = layer(Aead::Ccm8, true);
    let mut take = |number, content_type, id: &[u8]| {
        let bytes = Aead::Ccm8
            .seal(&keys().client, number, id, content_type, b"\x01\x00", 0)
            .unwrap();
        open(&mut layer, &bytes).map(|(_, _, is_at_home)| is_at_home)
    };
    assert_eq!(take(9, ALERT, &OURS), Some(false));
    assert_eq!(take(10, HANDSHAKE, &OURS), Some(false));
    assert_eq!(take(8, APPLICATION_DATA, &OURS), Some(false));
    assert_eq!(
        take(11, APPLICATION_DATA, b"\x01\x02\x03\x04\x05\x06\x07\x09"),
        None
    );
    assert_eq!(take(11, APPLICATION_DATA, b""), None, "without an id");
    assert_eq!(take(11, APPLICATION_DATA, &OURS), Some(true));
}

#[test]
fn padding_is_cut_off_and_padding_alone_is_nothing() {
    // By content that is anything, also nothing but zeros.
    let padded = |content: &[u8]| {
        let (last, rest) = content.split_last().unwrap();
        record(Aead::Gcm, true, 1, *last, rest)
    };
    let opened = |content: &[u8]| open(&mut layer(Aead::Gcm, true), &padded(content));
    let expected = (APPLICATION_DATA, b"ab".to_vec(), true);
    assert_eq!(opened(b"ab\x17\0"), Some(expected.clone()));
    assert_eq!(opened(b"ab\x17\0\0\0\0\0\0"), Some(expected));
    assert_eq!(opened(b"ab\0\x17\0").unwrap().1, b"ab\0");
    assert_eq!(opened(b"\x17\0").unwrap().1, b"");
    assert_eq!(opened(b"\0"), None);
    assert_eq!(opened(b"\0\0\0\0"), None);
}

proptest! {
    #[test]
    fn a_changed_record_is_not_authentic(
        (aead, ids) in any_layer(),
        payload in proptest::collection::vec(any::<u8>(), 0..80),
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let mut bytes = record(aead, ids, 5, APPLICATION_DATA, &payload);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut layer = layer(aead, ids);
        if let Some((found, _)) = Record::split_any(&bytes) {
            let mut buffer = Vec::new();
            prop_assert_eq!(layer.open(&found, &mut buffer), None);
        }
        let whole = record(aead, ids, 5, APPLICATION_DATA, &payload);
        prop_assert!(open(&mut layer, &whole).is_some(), "a forgery uses no number up");
    }

    #[test]
    fn a_cut_record_is_not_authentic((aead, ids) in any_layer(), cut in 1usize..60) {
        let whole = record(aead, ids, 5, APPLICATION_DATA, &[7; 40]);
        let mut bytes = whole[..whole.len() - cut].to_vec();
        let at = if ids { 19 } else { 11 };
        if let Some(fragment) = bytes.len().checked_sub(at + 2) {
            bytes[at..at + 2].copy_from_slice(&(fragment as u16).to_be_bytes());
        }
        let mut layer = layer(aead, ids);
        if let Some((found, _)) = Record::split_any(&bytes) {
            prop_assert_eq!(layer.open(&found, &mut Vec::new()), None);
        }
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>, (aead, ids) in any_layer()) {
        let mut layer = layer(aead, ids);
        if let Some((found, _)) = Record::split_any(&bytes) {
            prop_assert_eq!(layer.open(&found, &mut Vec::new()), None);
        }
    }

    #[test]
    fn both_sides_agree(
        (aead, ids) in any_layer(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut layer = layer(aead, ids);
        let bytes = layer.seal(APPLICATION_DATA, &payload, 0).unwrap();
        let id = if ids { THEIRS } else { &[] };
        prop_assert_eq!(bytes[0], if ids { TLS12_CID } else { APPLICATION_DATA });
        // The device's side: its id may have any length.
        let head = 11 + id.len();
        let found = Record {
            content_type: bytes[0],
            epoch: 1,
            sequence: 1,
            id: &bytes[11..head],
            fragment: &bytes[head + 2..],
            bytes: &bytes,
        };
        prop_assert_eq!(found.id, id);
        let mut buffer = Vec::new();
        let plain = aead.open(&keys().server, &found, &mut buffer).unwrap();
        prop_assert_eq!(plain.content_type, APPLICATION_DATA);
        prop_assert_eq!(&buffer[..plain.length], &payload[..]);
    }
}

/// Computed by `tests/vectors/rfc9146.py`, which knows nothing of ours.
#[test]
fn vectors_of_rfc_9146() {
    let text = include_str!("../../../tests/vectors/rfc9146.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let hex = |value: &serde_json::Value| -> Vec<u8> {
        let text = value.as_str().unwrap().as_bytes();
        let digits = text.chunks(2).map(|two| std::str::from_utf8(two).unwrap());
        digits
            .map(|two| u8::from_str_radix(two, 16).unwrap())
            .collect()
    };
    let (key, salt) = (hex(&vectors["key"]), hex(&vectors["salt"]));
    let block = [&key[..], &key, &salt, &salt].concat();
    let keys = Keys::from_bytes(block.as_slice().try_into().unwrap()).unwrap();
    let records = vectors["records"].as_array().unwrap();
    assert!(records.len() > 100);
    for vector in records {
        let aead = match vector["suite"].as_str().unwrap() {
            "ccm8" => Aead::Ccm8,
            "ccm" => Aead::Ccm,
            _ => Aead::Gcm,
        };
        let (id, content, bytes) = (
            hex(&vector["id"]),
            hex(&vector["content"]),
            hex(&vector["record"]),
        );
        let (found, rest) = Record::split_any(&bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!(found.sequence, vector["number"].as_u64().unwrap());
        let mut buffer = Vec::new();
        let plain = aead.open(&keys.client, &found, &mut buffer).unwrap();
        assert_eq!(
            u64::from(plain.content_type),
            vector["type"].as_u64().unwrap()
        );
        assert_eq!(buffer[..plain.length], content);
        let padding = vector["padding"].as_u64().unwrap() as usize;
        let (number, content_type) = (found.sequence, plain.content_type);
        let made = aead.seal(&keys.client, number, &id, content_type, &content, padding);
        assert_eq!(made.unwrap(), bytes);
    }
}
