//! Which format is chosen, and that refusals come to an end.

use super::*;
use crate::bridge::{Dialect, command};
use crate::lwm2m::codec::names::NAMES;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn command(command: &Json) -> Command {
    let options = command::Options {
        max_size: 4096,
        check_arguments: true,
    };
    command::parse(command.to_string().as_bytes(), Dialect::Current, &options).unwrap()
}

fn read(path: &str) -> Command {
    command(&json!({"msgType": "read", "data": {"path": path}}))
}

fn write(path: &str) -> Command {
    command(&json!({"msgType": "write", "data": {"path": path, "value": 1}}))
}

fn write_instance() -> Command {
    command(
        &json!({"msgType": "write", "data": {"basePath": "/3/0", "content": [
        {"path": "14", "value": "x"}]}}),
    )
}

fn composite(name: &str) -> Command {
    command(&json!({"msgType": name, "data": {"paths": ["/3/0/9"]}}))
}

fn device(version: Version, declared: &[u16]) -> DeviceFormats<'_> {
    DeviceFormats {
        version,
        declared,
        refused: Refused::default(),
    }
}

/// The formats of the first try and of those after it, each refused by `code`.
fn tries(
    command: &Command,
    default: FormatDefault,
    device: &DeviceFormats<'_>,
    code: u8,
) -> Vec<(Option<u16>, u16)> {
    let number = |choice: FormatChoice| (choice.accept.map(|format| format.0), choice.write.0);
    let mut refused = device.refused;
    let mut choice = choose(command, default, device);
    let mut tries = vec![number(choice)];
    while let Some(next) = next(command, default, device, &mut refused, &choice, code) {
        choice = next;
        tries.push(number(next));
        assert!(tries.len() < 16);
    }
    tries
}

fn accepts(command: &Command, version: Version, declared: &[u16]) -> Vec<Option<u16>> {
    let device = device(version, declared);
    let tries = tries(command, FormatDefault::Auto, &device, code::NOT_ACCEPTABLE);
    tries.into_iter().map(|(accept, _)| accept).collect()
}

fn writes(command: &Command, version: Version, declared: &[u16]) -> Vec<u16> {
    let device = device(version, declared);
    let code = code::UNSUPPORTED_CONTENT_FORMAT;
    let tries = tries(command, FormatDefault::Auto, &device, code);
    tries.into_iter().map(|(_, write)| write).collect()
}

#[test]
fn devices_that_declare_nothing_are_asked_for_nothing() {
    // A13: some devices of LwM2M 1.0 want to be told all the same.
    assert_eq!(
        accepts(&read("/3/0"), Version::V1_0, &[112, 11542]),
        [None, Some(11542), Some(1542)]
    );
    assert_eq!(accepts(&read("/3/0"), Version::V1_1, &[]), [None]);
    assert_eq!(
        writes(&write_instance(), Version::V1_0, &[]),
        [11542, 1542, 11543]
    );
    assert_eq!(
        writes(&write("/3/0/13"), Version::V1_0, &[]),
        [11542, 1542, 11543, 0]
    );
    assert_eq!(
        writes(&write_instance(), Version::V1_1, &[]),
        [11542, 112, 110, 11544, 11543]
    );
}

#[test]
fn the_best_declared_format_comes_first() {
    for (declared, accept, written) in [
        (&[0, 60, 110, 112, 11542, 11543, 11544][..], Some(112), 112),
        (&[0, 110, 11542, 11543], Some(11542), 11542),
        (&[110, 11543], Some(110), 110),
        (&[11543], Some(11543), 11543),
        (&[11544, 0], Some(11544), 11544),
        // Neither can carry an instance.
        (&[60, 0, 42], None, 11542),
        (&[65000], None, 11542),
    ] {
        assert_eq!(
            accepts(&read("/3/0"), Version::V1_1, declared)[0],
            accept,
            "{declared:?}"
        );
        assert_eq!(
            writes(&write_instance(), Version::V1_1, declared)[0],
            written,
            "{declared:?}"
        );
    }
    assert_eq!(
        accepts(&read("/3/0/9"), Version::V1_1, &[0, 60]),
        [Some(60), Some(0), None]
    );
    assert_eq!(
        writes(&write("/3/0/13"), Version::V1_2, &[0, 60])[..2],
        [60, 0]
    );
}

#[test]
fn a_refused_format_makes_room_for_the_next() {
    assert_eq!(
        accepts(&read("/3/0"), Version::V1_2, &[112, 11542, 110]),
        [Some(112), Some(11542), Some(110), None]
    );
    assert_eq!(
        writes(&write_instance(), Version::V1_2, &[112, 110]),
        [112, 110, 11542, 11544, 11543]
    );
    // A device that does not know Accept at all.
    let modern = device(Version::V1_1, &[112, 11542]);
    let tried = tries(&read("/3"), FormatDefault::Auto, &modern, code::BAD_OPTION);
    let accepted: Vec<_> = tried.iter().map(|(accept, _)| *accept).collect();
    assert_eq!(accepted, [Some(112), None]);
    // Other errors are no question of formats.
    let tried = tries(&read("/3"), FormatDefault::Auto, &modern, code::NOT_FOUND);
    assert_eq!(tried.len(), 1);
    // Wakaama answers 4.06 to a payload it cannot read.
    let tried = tries(
        &write_instance(),
        FormatDefault::Auto,
        &modern,
        code::NOT_ACCEPTABLE,
    );
    let written: Vec<_> = tried.iter().map(|(_, write)| *write).collect();
    assert_eq!(written, [112, 11542, 110, 11544, 11543]);
}

#[test]
fn bytes_are_written_in_a_binary_format_first() {
    let write = command(
        &json!({"msgType": "write", "data": {"path": "/5/0/0", "type": "Opaque", "value": "AQID"}}),
    );
    let formats = |declared: &[u16], code| {
        let device = device(Version::V1_1, declared);
        let tried = tries(&write, FormatDefault::Auto, &device, code);
        tried.iter().map(|(_, write)| *write).collect::<Vec<_>>()
    };
    // B1: the bytes as they are, then what is declared, then what is not.
    let wakaama = formats(&[110], code::NOT_ACCEPTABLE);
    assert_eq!(wakaama.first_chunk(), Some(&[42, 110, 11542]));
    let anjay = formats(&[110, 112], code::UNSUPPORTED_CONTENT_FORMAT);
    assert_eq!(anjay.first_chunk(), Some(&[42, 112, 110, 11542]));
    assert_eq!(formats(&[], code::NOT_FOUND), [42]);
    let old = device(Version::V1_0, &[]);
    let tried = tries(&write, FormatDefault::Auto, &old, code::NOT_ACCEPTABLE);
    let tried: Vec<_> = tried.iter().map(|(_, write)| *write).collect();
    assert_eq!(tried, [11542, 42, 1542, 11543, 0]);
}

#[test]
fn what_was_refused_once_is_not_tried_first_again() {
    let known = device(Version::V1_1, &[112, 11542]);
    let mut refused = Refused::default();
    let (command, auto) = (write_instance(), FormatDefault::Auto);
    let first = choose(&command, auto, &known);
    let second = next(
        &command,
        auto,
        &known,
        &mut refused,
        &first,
        code::UNSUPPORTED_CONTENT_FORMAT,
    );
    let known = DeviceFormats { refused, ..known };
    assert_eq!(Some(choose(&command, auto, &known)), second);
    assert_eq!(
        choose(&read("/3"), auto, &known).accept,
        Some(ContentFormat(112))
    );
}

#[test]
fn composite_operations() {
    for name in [
        "read-composite",
        "observe-composite",
        "cancel-observe-composite",
    ] {
        for (declared, first) in [
            (&[][..], 112),
            (&[112, 11542], 112),
            (&[110, 11542], 110),
            (&[11544], 11544),
            (&[11542], 112),
        ] {
            let device = device(Version::V1_1, declared);
            let choice = choose(&composite(name), FormatDefault::Auto, &device);
            assert_eq!(choice.write, ContentFormat(first), "{declared:?}");
            assert_eq!(choice.accept, Some(ContentFormat(first)), "{declared:?}");
        }
    }
    assert_eq!(
        writes(&composite("read-composite"), Version::V1_1, &[110]),
        [110, 112, 11544, 322, 320]
    );
    assert_eq!(
        accepts(&composite("read-composite"), Version::V1_1, &[110]),
        [Some(110), Some(112), Some(11544), None]
    );
    let write = command(&json!({"msgType": "write-composite", "data": {"content": [
        {"path": "/3/0/14", "value": "x"}]}}));
    let choice = choose(&write, FormatDefault::Auto, &device(Version::V1_1, &[110]));
    assert_eq!((choice.accept, choice.write), (None, ContentFormat(110)));
}

#[test]
fn the_command_decides_before_the_listener_and_the_device() {
    let json = FormatDefault::Fixed(ContentFormat::JSON);
    let modern = device(Version::V1_1, &[112]);
    let asked = command(&json!({"msgType": "read", "data": {"path": "/3", "format": "tlv"}}));
    for code in [code::NOT_ACCEPTABLE, code::UNSUPPORTED_CONTENT_FORMAT] {
        assert_eq!(tries(&asked, json, &modern, code), [(Some(11542), 11542)]);
    }
    let asked = command(&json!({"msgType": "read-composite",
        "data": {"paths": ["/3"], "format": 322}}));
    assert_eq!(
        tries(&asked, json, &modern, code::NOT_ACCEPTABLE),
        [(Some(112), 322)]
    );

    let tried = tries(&read("/3"), json, &modern, code::NOT_ACCEPTABLE);
    let accepted: Vec<_> = tried.iter().map(|(accept, _)| *accept).collect();
    assert_eq!(accepted, [Some(11543), Some(112), None]);
    // A default that cannot carry the answer does not count.
    let text = FormatDefault::Fixed(ContentFormat::TEXT);
    assert_eq!(
        choose(&read("/3"), text, &modern).accept,
        Some(ContentFormat(112))
    );
    assert_eq!(
        choose(&read("/3/0/9"), text, &modern).accept,
        Some(ContentFormat::TEXT)
    );
    assert_eq!(
        choose(&composite("read-composite"), json, &modern).write,
        ContentFormat(112)
    );
    assert_eq!(
        choose(&write_instance(), json, &modern).write,
        ContentFormat::JSON
    );
    assert_eq!(
        choose(&read("/3"), json, &DeviceFormats::default()).accept,
        Some(ContentFormat::JSON)
    );
}

proptest! {
    #[test]
    fn every_row_of_refusals_ends_and_repeats_nothing(
        shape in 0..5,
        minor in 0_u8..3,
        declared in proptest::collection::vec(
            proptest::sample::select(vec![0_u16, 42, 60, 110, 112, 11542, 11543, 11544, 65000]), 0..6
        ),
        default in proptest::option::of(proptest::sample::select(NAMES.to_vec())),
        codes in proptest::collection::vec(
            proptest::sample::select(vec![0x82_u8, 0x84, 0x86, 0x86, 0x8f, 0x8f]), 32
        ),
    ) {
        let command = match shape {
            0 => read("/3/0/9"),
            1 => read("/3"),
            2 => write("/3/0/13"),
            3 => write_instance(),
            _ => composite("observe-composite"),
        };
        let default = default.map_or(FormatDefault::Auto, |(_, format)| FormatDefault::Fixed(format));
        let device = device(Version { major: 1, minor }, &declared);
        let mut refused = Refused::default();
        let mut choice = choose(&command, default, &device);
        let mut seen = vec![choice];
        let mut ended = false;
        for code in codes {
            let Some(other) = next(&command, default, &device, &mut refused, &choice, code) else {
                ended = true;
                break;
            };
            prop_assert!(!seen.contains(&other));
            seen.push(other);
            choice = other;
        }
        prop_assert!(ended);
    }
}
