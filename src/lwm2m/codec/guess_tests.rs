use proptest::prelude::*;

use super::*;

/// Texts as devices have them in resources of their own, of 3 to 16 bytes.
const TEXTS: &[&str] = &[
    "Off",
    "off",
    "LTE",
    "dBm",
    "kWh",
    "m/s",
    "°C",
    "1.0",
    "yes",
    "N/A",
    "mA ",
    "Cel",
    "Open",
    "open",
    "OPEN",
    "IDLE",
    "Idle",
    "Cell",
    "Zone",
    "true",
    "none",
    "auto",
    "Auto",
    "Test",
    "GSM ",
    "A100",
    "v1.2",
    "V2.1",
    "1.25",
    "2024",
    "3.10",
    "12:3",
    "0x1f",
    "3fa9",
    "-1.5",
    "+48 ",
    "B-12",
    "Room",
    "ROOM",
    "Door",
    "Fan1",
    "Gate",
    "Heat",
    "Kiel",
    "Main",
    "Pump",
    "Grün",
    "null",
    "Error",
    "Alarm",
    "1.0.1",
    "+0100",
    "Berlin",
    "Online",
    "online",
    "GPRS-2",
    "ABC123",
    "0.9.12",
    "Wakaama",
    "NB-IoT.",
    "Europe/",
    "Actuator",
    "Building",
    "Corridor",
    "DISABLED",
    "20240115",
    "SN001234",
    "sensor-1",
    "1.0.0-rc",
    "Outdoor1",
    "12:30:45",
    "AB-12-CD",
    "Cellular",
    "Zürich 1",
    "temp/out",
    "Inclination",
    "2024-01-15",
    "35693803564",
    "Europe/Berlin",
    "v1.2.3-beta.4",
    "+48123456789",
    "urn:imei:3569380",
    "Lightweight M2M ",
    "0123456789abcdef",
    "Türkçe",
    "日本",
    "日本語",
    "Ελλάδα",
];

fn anew(bytes: &[u8]) -> Value<'_> {
    guess(bytes, None).0
}

/// A series of payloads of one resource, as numbers and texts.
fn series(payloads: &[&[u8]]) -> Vec<Value<'static>> {
    let mut known = None;
    let values = payloads.iter().map(|bytes| {
        let (value, shown) = guess(bytes, known);
        known = shown.or(known);
        value.into_owned()
    });
    values.collect()
}

/// Tenths from -1,000 to 10,000.
fn tenths() -> impl Iterator<Item = f64> {
    (-10_000..=100_000).map(|tenth| f64::from(tenth) / 10.0)
}

#[test]
fn b9_no_number_is_a_text() {
    for number in tenths() {
        let short = number as f32;
        let read = anew(&short.to_be_bytes()).into_owned();
        match read {
            Value::Integer(0) => assert_eq!(number, 0.0),
            read => assert_eq!(read, Value::Float(f64::from(short)), "{number} in 4 bytes"),
        }
        let read = anew(&number.to_be_bytes()).into_owned();
        match read {
            Value::Integer(0) => assert_eq!(number, 0.0),
            read => assert_eq!(read, Value::Float(number), "{number} in 8 bytes"),
        }
        // The same as a double made of a float.
        let widened = f64::from(short).to_be_bytes();
        assert!(!matches!(
            anew(&widened),
            Value::String(_) | Value::Opaque(_)
        ));
    }
    for number in -1000..=10_000_i64 {
        for width in [1, 2, 4, 8] {
            let bytes = number.to_be_bytes();
            let bytes = &bytes[8 - width..];
            if signed(bytes) == Some(number) {
                assert_eq!(
                    anew(bytes),
                    Value::Integer(number),
                    "{number} in {width} bytes"
                );
            }
        }
    }
}

#[test]
fn b9_readable_numbers_are_numbers() {
    for (bytes, value) in [
        (&b"@4333333"[..], Value::Float(20.2)),
        (b"@4ffffff", Value::Float(20.4)),
        (b"@5333333", Value::Float(21.2)),
        (b"A#33", Value::Float(f64::from(10.2_f32))),
        (b"AA", Value::Integer(16_705)),
        // A Unix time with readable bytes, which is no word.
        (b"g?5z", Value::Integer(0x673f_357a)),
    ] {
        assert_eq!(anew(bytes), value, "{bytes:?}");
    }
}

#[test]
fn a18_one_readable_byte_is_a_number() {
    assert_eq!(anew(b"\x37"), Value::Integer(55));
    assert_eq!(anew(b"A"), Value::Integer(65));
    assert_eq!(anew(b"\xff"), Value::Integer(-1));
}

#[test]
fn b9_texts_are_texts() {
    for text in TEXTS {
        assert!((3..=16).contains(&text.len()), "{text}");
        assert_eq!(anew(text.as_bytes()), Value::String((*text).into()));
    }
}

/// Texts of one and two bytes are numbers, since no number may be a text, unless the resource has
/// shown itself to be text.
#[test]
fn b9_short_texts_are_texts_where_the_resource_is() {
    for text in [
        "1", "A", "V", "%", "b", "on", "OK", "mV", "V1", "UQ", "10", "é",
    ] {
        assert!(matches!(anew(text.as_bytes()), Value::Integer(_)), "{text}");
        let known = guess(text.as_bytes(), Some(Guess::Text)).0;
        assert_eq!(known, Value::String(text.into()));
    }
}

#[test]
fn b9_the_type_of_a_resource_does_not_flip() {
    // Text that is once as long as no number stays text, however short.
    let text = series(&[b"off", b"on", b"A", b"ANff", b"off"]);
    assert!(
        text.iter().all(|value| matches!(value, Value::String(_))),
        "{text:?}"
    );
    // Floats, through zero and through whole numbers in their shortest form.
    let floats = series(&[
        &20.5_f32.to_be_bytes(),
        &0_f32.to_be_bytes(),
        b"Cell",
        &1e9_f32.to_be_bytes(),
        &[21],
        &300_i16.to_be_bytes(),
        &70_000_i32.to_be_bytes(),
        &1e-5_f64.to_be_bytes(),
    ]);
    assert!(
        floats.iter().all(|value| matches!(value, Value::Float(_))),
        "{floats:?}"
    );
    assert_eq!(floats[4..7], [21.0, 300.0, 70_000.0].map(Value::Float));
    // A counter of four bytes that passes where floats are.
    let counter = series(&[
        &5_i32.to_be_bytes(),
        &1_100_000_000_i32.to_be_bytes(),
        b"IDLE",
    ]);
    assert!(
        counter
            .iter()
            .all(|value| matches!(value, Value::Integer(_))),
        "{counter:?}"
    );
    // Times of four bytes, of which some are readable.
    let times = series(&[&0x6761_6200_i32.to_be_bytes(), b"gabc", b"gabd"]);
    assert_eq!(
        times,
        [0x6761_6200, 0x6761_6263, 0x6761_6264].map(Value::Integer)
    );
    // A whole number at first does not hide the fraction that comes.
    let late = series(&[&0_f32.to_be_bytes(), &20.5_f32.to_be_bytes(), b"ANff"]);
    assert_eq!(late[1], Value::Float(20.5));
    assert!(matches!(late[2], Value::Float(_)));
    // Numbers stay numbers where they could be read.
    let numbers = series(&[&[200, 1], b"on", b"FULL"]);
    assert!(
        numbers
            .iter()
            .all(|value| !matches!(value, Value::String(_))),
        "{numbers:?}"
    );
    let opaque = series(&[b"\x00\x01\x02", b"abc", b"\x00\x00\x00\x01"]);
    assert!(
        opaque.iter().all(|value| matches!(value, Value::Opaque(_))),
        "{opaque:?}"
    );
}

#[test]
fn what_cannot_be_of_the_known_type_is_guessed_anew() {
    assert_eq!(
        guess(b"\x00\x00\x00\x05", Some(Guess::Text)).0,
        Value::Integer(5)
    );
    assert_eq!(
        guess(b"abc", Some(Guess::Integer)),
        (Value::String("abc".into()), Some(Guess::Text))
    );
    assert_eq!(guess(b"", Some(Guess::Text)).0, Value::String("".into()));
    assert_eq!(guess(b"", None), (Value::Opaque(Cow::Borrowed(b"")), None));
}

proptest! {
    /// Once it has shown itself, a series of measured values has one type whatever its bytes look
    /// like, and so has a series of texts.
    #[test]
    fn b9_a_series_keeps_its_type(
        tenths in prop::collection::vec(-10_000..=100_000_i32, 1..30),
        double in any::<bool>(),
        texts in prop::collection::vec(prop::sample::select(TEXTS), 1..30),
    ) {
        let values: Vec<Vec<u8>> = tenths
            .iter()
            .map(|tenth| f64::from(*tenth) / 10.0)
            .map(|number| match double {
                true => number.to_be_bytes().to_vec(),
                false => (number as f32).to_be_bytes().to_vec(),
            })
            .collect();
        let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        for value in series(&values) {
            prop_assert!(matches!(value, Value::Float(_) | Value::Integer(0)));
        }
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        for value in series(&texts) {
            prop_assert!(matches!(value, Value::String(_)));
        }
    }

    /// Whatever was known, what is remembered next reads the same bytes in the same way.
    #[test]
    fn what_is_remembered_holds_for_what_showed_it(
        bytes in prop::collection::vec(any::<u8>(), 0..10),
        known in prop::sample::select(vec![
            None, Some(Guess::Number), Some(Guess::Integer), Some(Guess::Float),
            Some(Guess::Text), Some(Guess::Opaque),
        ]),
    ) {
        let (value, shown) = guess(&bytes, known);
        if shown.is_some() {
            let (again, still) = guess(&bytes, shown);
            prop_assert_eq!(format!("{again:?}"), format!("{value:?}"));
            prop_assert_eq!(still, shown);
        }
        if let Some(known) = known
            && let Some(shown) = shown
            && known == Guess::Opaque
        {
            prop_assert_eq!(shown, Guess::Opaque);
        }
    }
}
