//! Forms of names, times and values that several formats share.

use crate::lwm2m::Value;

/// No path needs a name this long (bytes). It bounds what base names repeated in many records
/// cost.
pub(super) const MAX_NAME: usize = 256;

/// Times below 2^28 seconds are relative to now (RFC 8428 §4.5.3).
pub(super) const FIRST_ABSOLUTE_TIME: f64 = 268_435_456.0;

/// `object:instance`, as text formats write an object link; some devices end it like a string in
/// C.
pub(super) fn parse_object_link(text: &str) -> Option<Value<'static>> {
    let text = text.trim_end_matches('\0').trim();
    let (object, instance) = text.split_once(':')?;
    Some(Value::ObjectLink {
        object: object.parse().ok()?,
        instance: instance.parse().ok()?,
    })
}

/// An object link as its four bytes make a number, signed or not.
pub(super) fn object_link(number: i128) -> Option<Value<'static>> {
    let number = match i32::try_from(number) {
        Ok(signed) => signed.cast_unsigned(),
        Err(_) => u32::try_from(number).ok()?,
    };
    let [a, b, c, d] = number.to_be_bytes();
    Some(Value::ObjectLink {
        object: u16::from_be_bytes([a, b]),
        instance: u16::from_be_bytes([c, d]),
    })
}

/// Base64 in the standard or the URL alphabet, padded or not.
pub(super) fn parse_base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}
