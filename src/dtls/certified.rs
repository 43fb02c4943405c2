//! What is kept of the certificate of a device, to judge its session by when others are trusted.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::hash::MessageDigest;
use openssl::sha::Sha256;
use openssl::x509::{X509NameRef, X509Ref};
use serde::{Deserialize, Serialize};

use crate::credentials::{CertificateIdentity, Fingerprint};

/// What a device has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// The name of each certificate of its chain but the last, as revocation lists know them.
    pub(super) links: Box<[Link]>,
    /// The last certificate of its chain.
    pub(super) anchor: Fingerprint,
    /// When the first certificate of its chain ends, in seconds of Unix time.
    ends: i64,
    /// What its identity was taken from.
    pub(super) rule: CertificateIdentity,
}

/// SHA-256 of the issuer's name and the serial number.
pub(super) type Link = [u8; 32];

impl Certified {
    /// Of a chain that was verified, beginning with the device's certificate.
    pub(super) fn of<'a>(
        chain: impl Iterator<Item = &'a X509Ref>,
        rule: CertificateIdentity,
    ) -> Option<Self> {
        let chain: Vec<_> = chain.collect();
        let fingerprint_of = |it: Option<&&X509Ref>| it.copied().and_then(fingerprint);
        let links = chain.iter().map(|it| {
            let serial = it.serial_number().to_bn().ok()?.to_vec();
            Some(link(it.issuer_name(), &serial))
        });
        let links: Option<Vec<_>> = links.collect();
        let ends = chain.iter().map(|it| unix(it.not_after()));
        let ends: Option<Vec<_>> = ends.collect();
        Some(Self {
            fingerprint: fingerprint_of(chain.first())?,
            anchor: fingerprint_of(chain.last())?,
            links: links?.into(),
            ends: ends?.into_iter().min()?,
            rule,
        })
    }

    /// Whether a certificate of the chain has ended by now.
    pub(super) fn has_ended(&self) -> bool {
        let now = Asn1Time::days_from_now(0).ok();
        now.and_then(|now| unix(&now))
            .is_none_or(|now| self.ends < now)
    }
}

#[cfg(test)]
impl Certified {
    pub(crate) fn for_tests() -> Self {
        Self {
            fingerprint: [1; 32],
            links: [[2; 32]].into(),
            anchor: [3; 32],
            ends: 4,
            rule: CertificateIdentity::San,
        }
    }
}

fn unix(time: &Asn1TimeRef) -> Option<i64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

/// How revocation lists know a certificate.
pub(super) fn link(issuer: &X509NameRef, serial: &[u8]) -> Link {
    let mut hash = Sha256::new();
    hash.update(&issuer.to_der().unwrap_or_default());
    hash.update(serial);
    hash.finish()
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(of: &X509Ref) -> Option<Fingerprint> {
    let digest = of.digest(MessageDigest::sha256()).ok()?;
    digest.as_ref().try_into().ok()
}
