//! Messages, right and wrong.

#[test]
fn empty_messages_are_known_without_parsing() {
    for kind in [
        MessageType::Confirmable,
        MessageType::NonConfirmable,
        MessageType::Acknowledgement,
        MessageType::Reset,
    ] {
        assert_eq!(as_empty(&empty(kind, 0xabcd)), Some((kind, 0xabcd)));
    }
    for other in [
        &[0x41, 0, 0, 1][..],
        &[0x80, 0, 0, 1],
        &[0x40, 1, 0, 1],
        &[0x40, 0, 0, 1, 0],
        &[0x40, 0, 0],
        &[],
    ] {
        assert_eq!(as_empty(other), None);
    }
}

use super::*;
use proptest::prelude::*;

fn reason(datagram: &[u8]) -> &'static str {
    match Message::parse(datagram) {
        Err(MessageError::Format { reason, .. }) => reason,
        other => panic!("expected a format error, got {other:?}"),
    }
}

#[test]
fn refuses_malformed_messages() {
    assert_eq!(
        Message::parse(&[0x40, 1, 0]).unwrap_err(),
        MessageError::Header
    );
    assert_eq!(
        Message::parse(&[0x00, 1, 0, 1]).unwrap_err(),
        MessageError::Header
    );
    assert_eq!(
        Message::parse(&[0xc0, 1, 0, 1]).unwrap_err(),
        MessageError::Header
    );
    assert_eq!(
        reason(&[0x40, 1, 0, 1, 0xff]),
        "payload marker without payload"
    );
    assert_eq!(reason(&[0x41, 0, 0, 1, 7]), "Empty message with content");
    assert_eq!(
        reason(&[0x40, 0, 0, 1, 0xff, 1]),
        "Empty message with content"
    );
    assert_eq!(reason(&[0x40, 0x21, 0, 1]), "reserved code class");
    assert_eq!(
        reason(&[0x49, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        "token longer than 8 bytes"
    );
    assert_eq!(reason(&[0x40, 1, 0, 1, 0xb5, b'r']), "truncated option");
    assert_eq!(reason(&[0x40, 1, 0, 1, 0xf1, 0]), "bad option delta");
}

#[test]
fn keeps_codes_it_has_no_name_for() {
    let message = Message::parse(&[0x60, 0x95, 0x12, 0x34]).unwrap();
    assert_eq!((message.code(), message.mid()), (Code::new(4, 21), 0x1234));
}

#[test]
fn builds_shortest_uints() {
    let bytes = Builder::new(MessageType::Confirmable, Code::GET, 0x1234, &[])
        .uint(option::OBSERVE, 0)
        .option(option::URI_PATH, *b"3")
        .uint(option::ACCEPT, 11542)
        .build();
    assert_eq!(
        bytes,
        [0x40, 1, 0x12, 0x34, 0x60, 0x51, b'3', 0x62, 0x2d, 0x16]
    );
}

#[test]
fn long_uints_are_unrecognised() {
    let bytes = Builder::new(MessageType::Confirmable, Code::CONTENT, 1, &[])
        .option(option::CONTENT_FORMAT, [0, 0, 42])
        .build();
    assert_eq!(Message::parse(&bytes).unwrap().content_format(), None);
}

/// Every length and delta has the form that another implementation reads.
#[test]
fn option_lengths_and_deltas() {
    for size in [0, 12, 13, 268, 269, 300, 65_000] {
        let number = u16::try_from(size).unwrap();
        let bytes = Builder::new(MessageType::Confirmable, Code::GET, 1, &[])
            .option(number, vec![7; size])
            .build();
        let packet = Packet::from_bytes(&bytes).unwrap();
        let read: Vec<_> = packet.options().collect();
        assert_eq!(read.len(), 1);
        assert_eq!(*read[0].0, number);
        assert_eq!(read[0].1.front().map(Vec::len), Some(size));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.first_option(number).map(<[u8]>::len), Some(size));
    }
}

proptest! {
    #[test]
    fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn built_messages_parse(
        code in (0u8..8, 0u8..32).prop_filter("a class in use", |(c, d)| !matches!(c, 1 | 6 | 7) && (*c, *d) != (0, 0)),
        mid: u16,
        token in proptest::collection::vec(any::<u8>(), 0..=8),
        options in proptest::collection::vec((0u16..5000, proptest::collection::vec(any::<u8>(), 0..300)), 0..6),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut builder = Builder::new(MessageType::NonConfirmable, Code::new(code.0, code.1), mid, &token);
        for (number, value) in &options {
            builder = builder.option(*number, value.clone());
        }
        let bytes = builder.payload(payload.clone()).build();
        let packet = Packet::from_bytes(&bytes).unwrap();
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.code(), Code::new(code.0, code.1));
        prop_assert_eq!(message.mid(), mid);
        prop_assert_eq!(message.token(), &token[..]);
        prop_assert_eq!(message.payload(), &payload[..]);
        for (number, _) in &options {
            let expected: Vec<&[u8]> = options.iter().filter(|(n, _)| n == number).map(|(_, v)| v.as_slice()).collect();
            prop_assert_eq!(message.option_values(*number).collect::<Vec<_>>(), expected.clone());
            let known = packet.get_option((*number).into()).into_iter().flatten();
            prop_assert_eq!(known.map(Vec::as_slice).collect::<Vec<_>>(), expected);
        }
    }
}
