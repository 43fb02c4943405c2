//! The cipher suites: those that LwM2M names (OMA-TS-LightweightM2M_Transport-V1_2 section 5.2.8)
//! and their relatives.

use std::fmt;
use std::str::FromStr;

/// A cipher suite with pre-shared keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `TLS_PSK_WITH_AES_128_CCM_8` (RFC 6655), which each LwM2M device has.
    PskAes128Ccm8,
    /// `TLS_PSK_WITH_AES_128_CCM` (RFC 6655).
    PskAes128Ccm,
    /// `TLS_PSK_WITH_AES_128_GCM_SHA256` (RFC 5487).
    PskAes128GcmSha256,
    /// `TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256` (RFC 7905), with forward secrecy.
    EcdhePskChacha20Poly1305,
    /// `TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256` (RFC 5489), with forward secrecy.
    EcdhePskAes128CbcSha256,
    /// `TLS_PSK_WITH_AES_128_CBC_SHA256` (RFC 5487), which LwM2M 1.0 asks for; off by default.
    PskAes128CbcSha256,
}

/// A name that is no supported suite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown cipher suite; known are {}", Suite::ALL.map(Suite::name).join(", "))]
pub struct UnknownSuite;

impl Suite {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::PskAes128Ccm8,
        Self::PskAes128Ccm,
        Self::PskAes128GcmSha256,
        Self::EcdhePskChacha20Poly1305,
        Self::EcdhePskAes128CbcSha256,
        Self::PskAes128CbcSha256,
    ];

    /// Those in use unless configured otherwise, the preferred one first.
    pub const DEFAULT: [Self; 5] = [
        Self::PskAes128Ccm8,
        Self::PskAes128Ccm,
        Self::PskAes128GcmSha256,
        Self::EcdhePskChacha20Poly1305,
        Self::EcdhePskAes128CbcSha256,
    ];

    /// The name in OpenSSL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PskAes128Ccm8 => "PSK-AES128-CCM8",
            Self::PskAes128Ccm => "PSK-AES128-CCM",
            Self::PskAes128GcmSha256 => "PSK-AES128-GCM-SHA256",
            Self::EcdhePskChacha20Poly1305 => "ECDHE-PSK-CHACHA20-POLY1305",
            Self::EcdhePskAes128CbcSha256 => "ECDHE-PSK-AES128-CBC-SHA256",
            Self::PskAes128CbcSha256 => "PSK-AES128-CBC-SHA256",
        }
    }

    /// Least bytes of an encrypted record, with an empty payload.
    pub(super) const fn overhead(self) -> usize {
        match self {
            // Explicit nonce and tag (RFC 6655 §3).
            Self::PskAes128Ccm8 => 8 + 8,
            Self::PskAes128Ccm | Self::PskAes128GcmSha256 => 8 + 16,
            // Tag (RFC 7905 §2).
            Self::EcdhePskChacha20Poly1305 => 16,
            // Initialization vector, and a MAC with its padding (RFC 5246 §6.2.3.2).
            Self::EcdhePskAes128CbcSha256 | Self::PskAes128CbcSha256 => 16 + 48,
        }
    }

    /// The name at IANA.
    pub const fn iana_name(self) -> &'static str {
        match self {
            Self::PskAes128Ccm8 => "TLS_PSK_WITH_AES_128_CCM_8",
            Self::PskAes128Ccm => "TLS_PSK_WITH_AES_128_CCM",
            Self::PskAes128GcmSha256 => "TLS_PSK_WITH_AES_128_GCM_SHA256",
            Self::EcdhePskChacha20Poly1305 => "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
            Self::EcdhePskAes128CbcSha256 => "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256",
            Self::PskAes128CbcSha256 => "TLS_PSK_WITH_AES_128_CBC_SHA256",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    /// The name in OpenSSL (also EMQX's) or at IANA, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        let text = text.trim();
        Self::ALL
            .into_iter()
            .find(|suite| {
                text.eq_ignore_ascii_case(suite.name())
                    || text.eq_ignore_ascii_case(suite.iana_name())
            })
            .ok_or(UnknownSuite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_kinds() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(suite));
            assert_eq!(suite.iana_name().to_lowercase().parse(), Ok(suite));
        }
        assert_eq!(
            "RSA-PSK-AES128-GCM-SHA256".parse::<Suite>(),
            Err(UnknownSuite)
        );
        assert!(!Suite::DEFAULT.contains(&Suite::PskAes128CbcSha256));
    }
}
