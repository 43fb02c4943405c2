//! Which content format: the numbers of the registry.

/// A CoAP Content-Format number (RFC 7252 §12.3 registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentFormat(pub u16);

impl ContentFormat {
    /// `text/plain; charset=utf-8`
    pub const TEXT: Self = Self(0);
    /// `application/link-format`
    pub const LINK: Self = Self(40);
    /// `application/octet-stream`
    pub const OPAQUE: Self = Self(42);
    /// `application/cbor`
    pub const CBOR: Self = Self(60);
    /// `application/senml+json`
    pub const SENML_JSON: Self = Self(110);
    /// `application/senml+cbor`
    pub const SENML_CBOR: Self = Self(112);
    /// `application/senml-etch+json`
    pub const SENML_ETCH_JSON: Self = Self(320);
    /// `application/senml-etch+cbor`
    pub const SENML_ETCH_CBOR: Self = Self(322);
    /// `application/vnd.oma.lwm2m+tlv`
    pub const TLV: Self = Self(11542);
    /// `application/vnd.oma.lwm2m+json`
    pub const JSON: Self = Self(11543);
    /// `application/vnd.oma.lwm2m+cbor`
    pub const LWM2M_CBOR: Self = Self(11544);
    /// Text as numbered before the registration of the OMA formats.
    pub const OLD_TEXT: Self = Self(1541);
    /// TLV, old number.
    pub const OLD_TLV: Self = Self(1542);
    /// JSON, old number.
    pub const OLD_JSON: Self = Self(1543);
}
