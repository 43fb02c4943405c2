//! What people call content formats in configurations and commands.

use super::format::ContentFormat;

/// Names and numbers of the formats with a codec.
pub const NAMES: [(&str, ContentFormat); 10] = [
    ("text", ContentFormat::TEXT),
    ("opaque", ContentFormat::OPAQUE),
    ("cbor", ContentFormat::CBOR),
    ("senml-json", ContentFormat::SENML_JSON),
    ("senml-cbor", ContentFormat::SENML_CBOR),
    ("senml-etch-json", ContentFormat::SENML_ETCH_JSON),
    ("senml-etch-cbor", ContentFormat::SENML_ETCH_CBOR),
    ("tlv", ContentFormat::TLV),
    ("json", ContentFormat::JSON),
    ("lwm2m-cbor", ContentFormat::LWM2M_CBOR),
];

impl ContentFormat {
    /// A format by its name or its number: `senml-cbor` or `112`. Any number is a format, also
    /// one without a codec.
    pub fn from_name(text: &str) -> Option<Self> {
        let named = NAMES.iter().find(|(name, _)| *name == text);
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        named
            .map(|(_, format)| *format)
            .or_else(|| text.parse().ok().filter(|_| digits).map(Self))
    }

    /// Whether payloads of this format can be read.
    pub(super) fn has_codec(self) -> bool {
        let old = [Self::OLD_TEXT, Self::OLD_TLV, Self::OLD_JSON];
        self.name().is_some() || old.contains(&self)
    }

    /// Its name, when it has one.
    pub fn name(self) -> Option<&'static str> {
        let mut names = NAMES.iter();
        names
            .find(|(_, format)| *format == self)
            .map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, format) in NAMES {
            assert_eq!(ContentFormat::from_name(name), Some(format));
            assert_eq!(
                ContentFormat::from_name(&format.0.to_string()),
                Some(format)
            );
            assert_eq!(format.name(), Some(name));
        }
        assert_eq!(
            ContentFormat::from_name("65000"),
            Some(ContentFormat(65000))
        );
        for wrong in ["", "TLV", "+1", "-1", "65536", "1.0", "auto"] {
            assert_eq!(ContentFormat::from_name(wrong), None, "{wrong}");
        }
        assert_eq!(ContentFormat(65000).name(), None);
    }
}
