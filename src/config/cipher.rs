//! Names of cipher suites and groups.

/// A cipher suite with pre-shared keys or certificates, of those that a DTLS 1.2 server on OpenSSL
/// can offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherSuite {
    /// RFC 6655; the one that every LwM2M device has.
    PskAes128Ccm8,
    /// RFC 6655.
    PskAes128Ccm,
    /// RFC 5487.
    PskAes128GcmSha256,
    /// RFC 7905, with forward secrecy.
    EcdhePskChacha20Poly1305,
    /// RFC 5489, with forward secrecy.
    EcdhePskAes128CbcSha256,
    /// RFC 5487.
    PskAes128CbcSha256,
    /// RFC 7251; the one that every LwM2M device with a certificate has.
    EcdheEcdsaAes128Ccm8,
    /// RFC 5289.
    EcdheEcdsaAes128GcmSha256,
    /// RFC 5289, for a server certificate with an RSA key.
    EcdheRsaAes128GcmSha256,
}

impl CipherSuite {
    /// Every suite.
    pub const ALL: [Self; 9] = [
        Self::PskAes128Ccm8,
        Self::PskAes128Ccm,
        Self::PskAes128GcmSha256,
        Self::EcdhePskChacha20Poly1305,
        Self::EcdhePskAes128CbcSha256,
        Self::PskAes128CbcSha256,
        Self::EcdheEcdsaAes128Ccm8,
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheRsaAes128GcmSha256,
    ];

    /// What is offered when nothing is configured, in order of preference. LwM2M 1.1 asks servers for
    /// PSK-AES128-CBC-SHA256 as well (Transport §5.2.8.1), which has neither forward secrecy nor
    /// authenticated encryption. Those with certificates come last: a device that offers both has a
    /// pre-shared key, and perhaps no certificate.
    pub const DEFAULT: [Self; 9] = [
        Self::PskAes128Ccm8,
        Self::PskAes128Ccm,
        Self::PskAes128GcmSha256,
        Self::EcdhePskChacha20Poly1305,
        Self::EcdhePskAes128CbcSha256,
        Self::PskAes128CbcSha256,
        Self::EcdheEcdsaAes128Ccm8,
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheRsaAes128GcmSha256,
    ];

    /// Whether both sides show certificates, and no pre-shared key is used.
    pub const fn has_certificates(self) -> bool {
        match self {
            Self::EcdheEcdsaAes128Ccm8
            | Self::EcdheEcdsaAes128GcmSha256
            | Self::EcdheRsaAes128GcmSha256 => true,
            Self::PskAes128Ccm8
            | Self::PskAes128Ccm
            | Self::PskAes128GcmSha256
            | Self::EcdhePskChacha20Poly1305
            | Self::EcdhePskAes128CbcSha256
            | Self::PskAes128CbcSha256 => false,
        }
    }

    /// The number in IANA's registry, if the suite is one with certificates.
    pub(crate) fn of_certificates(number: u16) -> Option<Self> {
        match number {
            0xc0ae => Some(Self::EcdheEcdsaAes128Ccm8),
            0xc02b => Some(Self::EcdheEcdsaAes128GcmSha256),
            0xc02f => Some(Self::EcdheRsaAes128GcmSha256),
            _ => None,
        }
    }

    /// OpenSSL's name, also EMQX's.
    pub fn openssl_name(self) -> &'static str {
        match self {
            Self::PskAes128Ccm8 => "PSK-AES128-CCM8",
            Self::PskAes128Ccm => "PSK-AES128-CCM",
            Self::PskAes128GcmSha256 => "PSK-AES128-GCM-SHA256",
            Self::EcdhePskChacha20Poly1305 => "ECDHE-PSK-CHACHA20-POLY1305",
            Self::EcdhePskAes128CbcSha256 => "ECDHE-PSK-AES128-CBC-SHA256",
            Self::PskAes128CbcSha256 => "PSK-AES128-CBC-SHA256",
            Self::EcdheEcdsaAes128Ccm8 => "ECDHE-ECDSA-AES128-CCM8",
            Self::EcdheEcdsaAes128GcmSha256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            Self::EcdheRsaAes128GcmSha256 => "ECDHE-RSA-AES128-GCM-SHA256",
        }
    }

    /// The name in IANA's registry of cipher suites.
    pub fn iana_name(self) -> &'static str {
        match self {
            Self::PskAes128Ccm8 => "TLS_PSK_WITH_AES_128_CCM_8",
            Self::PskAes128Ccm => "TLS_PSK_WITH_AES_128_CCM",
            Self::PskAes128GcmSha256 => "TLS_PSK_WITH_AES_128_GCM_SHA256",
            Self::EcdhePskChacha20Poly1305 => "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
            Self::EcdhePskAes128CbcSha256 => "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256",
            Self::PskAes128CbcSha256 => "TLS_PSK_WITH_AES_128_CBC_SHA256",
            Self::EcdheEcdsaAes128Ccm8 => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
            Self::EcdheEcdsaAes128GcmSha256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Self::EcdheRsaAes128GcmSha256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        }
    }

    /// From either name, in letters of any size; `-` and `_` are the same, as in mbedTLS's
    /// spelling of the IANA names.
    pub fn from_name(name: &str) -> Option<Self> {
        let spelt = |name: &str| name.to_ascii_uppercase().replace('_', "-");
        let name = spelt(name);
        Self::ALL.into_iter().find(|suite| {
            [suite.openssl_name(), suite.iana_name()]
                .map(spelt)
                .contains(&name)
        })
    }
}

/// A group for the key exchange of suites with ECDHE (RFC 8422 section 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// RFC 7748; the cheapest.
    X25519,
    /// secp256r1, also P-256 or prime256v1; the one that every device with ECDHE has.
    Secp256r1,
    /// secp384r1, also P-384. Five times as much work for the server as X25519.
    Secp384r1,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 3] = [Self::X25519, Self::Secp256r1, Self::Secp384r1];

    /// What is offered when nothing is configured, in order of preference.
    pub const DEFAULT: [Self; 2] = [Self::X25519, Self::Secp256r1];

    /// The name in IANA's registry, in the letters that Erlang uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519 => "x25519",
            Self::Secp256r1 => "secp256r1",
            Self::Secp384r1 => "secp384r1",
        }
    }

    /// OpenSSL's name.
    pub const fn openssl_name(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::Secp256r1 => "P-256",
            Self::Secp384r1 => "P-384",
        }
    }

    /// From the name in IANA's registry, NIST's or OpenSSL's, in letters of any size.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "x25519" => Some(Self::X25519),
            "secp256r1" | "p-256" | "prime256v1" => Some(Self::Secp256r1),
            "secp384r1" | "p-384" => Some(Self::Secp384r1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for suite in CipherSuite::ALL {
            assert_eq!(CipherSuite::from_name(suite.openssl_name()), Some(suite));
            assert_eq!(CipherSuite::from_name(suite.iana_name()), Some(suite));
        }
        for name in ["psk-aes128-ccm8", "TLS-PSK-WITH-AES-128-CCM-8"] {
            let suite = CipherSuite::from_name(name);
            assert_eq!(suite, Some(CipherSuite::PskAes128Ccm8), "{name}");
        }
        for name in ["", "PSK", "PSK-AES128-CCM8 ", "RSA-PSK-AES128-CBC-SHA256"] {
            assert_eq!(CipherSuite::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_groups() {
        for group in Group::ALL {
            assert_eq!(Group::from_name(group.name()), Some(group));
        }
        assert_eq!(Group::from_name("P-256"), Some(Group::Secp256r1));
        assert_eq!(Group::from_name("X25519"), Some(Group::X25519));
        assert_eq!(Group::from_name("P-521"), None);
    }
}
