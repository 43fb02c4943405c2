//! Who is let in by a certificate, and as whom.
//!
//! OpenSSL builds and verifies the chain of a device (RFC 5280); what it leaves open is decided
//! here: pinned certificates, the strength of keys and signatures, and the identity. All of it
//! happens before the gateway's Finished, so that a device that is refused is told so by an alert.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::store::X509Store;
use openssl::x509::{
    X509NameRef, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult,
};

use super::certified::{Certified, Link, fingerprint};
use super::identity::Identity;
use super::psk;
use crate::credentials::{CertificateIdentity, Fingerprint, check_identity};

/// Least strength of keys in bits: RSA with 2048 bits, elliptic curves with 224.
const LEAST_STRENGTH: u32 = 112;

/// Who is let in.
pub(super) struct Verifier {
    pub rule: CertificateIdentity,
    pub pinned: BTreeSet<Fingerprint>,
    pub anchors: BTreeSet<Fingerprint>,
    pub revoked: HashSet<Link>,
    pub depth: u32,
    /// For chains that were verified before, without revocation lists: sessions cannot be resumed
    /// after those have changed.
    pub resumption: X509Store,
}

impl Verifier {
    /// OpenSSL asks about each certificate of a chain, from its end to the device's, and about each
    /// thing that is wrong with one.
    pub(super) fn judge(&self, is_well: bool, store: &mut X509StoreContextRef) -> bool {
        let refusal = match self.refusal(is_well, store) {
            None => {
                // What was wrong does not matter; the session must not remember it.
                store.set_error(X509VerifyResult::OK);
                None
            }
            Some(reason) => {
                if is_well {
                    store.set_error(X509VerifyResult::APPLICATION_VERIFICATION);
                }
                Some(reason)
            }
        };
        let depth = store.error_depth();
        let chain = store.chain();
        let Some(own) = chain.and_then(|chain| chain.get(0)) else {
            return false;
        };
        let Ok(Some(ssl)) = X509StoreContext::ssl_idx().map(|index| store.ex_data(index)) else {
            return false;
        };
        if let Some(reason) = refusal {
            let of = match store.current_cert().filter(|_| depth > 0) {
                Some(issuer) => {
                    format!("{reason}: {}, issuer of {}", subject(issuer), subject(own))
                }
                None => format!("{reason}: {}", subject(own)),
            };
            psk::set_refusal(ssl, of);
            return false;
        }
        if depth == 0 && is_well {
            let facts = chain.and_then(|chain| Certified::of(chain.iter(), self.rule));
            if let (Ok(identity), Some(facts)) = (self.identity(own), facts) {
                psk::set_certified(ssl, identity, facts);
            }
        }
        // What is left there would count as an error of the handshake.
        drop(ErrorStack::get());
        true
    }

    /// Why the certificate that OpenSSL looks at is refused.
    fn refusal(&self, is_well: bool, store: &X509StoreContextRef) -> Option<String> {
        let depth = store.error_depth();
        let own = store.chain().and_then(|chain| chain.get(0));
        let is_pinned = own
            .and_then(fingerprint)
            .is_some_and(|it| self.pinned.contains(&it));
        if !is_well {
            let error = store.error();
            // Who issued a pinned certificate does not matter, only itself.
            if is_pinned && (depth > 0 || IS_ABOUT_ISSUERS.contains(&error.as_raw())) {
                return None;
            }
            // Lists of intermediate CAs are looked at where there are any.
            if depth > 0 && error.as_raw() == UNABLE_TO_GET_CRL {
                return None;
            }
            return Some(error.error_string().to_owned());
        }
        let it = store.current_cert()?;
        if is_pinned && depth > 0 {
            return None;
        }
        if let Some(reason) = weakness(it, depth, is_pinned || self.is_anchor(it)) {
            return Some(reason);
        }
        (depth == 0).then(|| self.identity(it).err()).flatten()
    }

    fn is_anchor(&self, it: &X509Ref) -> bool {
        fingerprint(it).is_some_and(|it| self.anchors.contains(&it))
    }

    /// The identity by a certificate, or why there is none.
    pub(super) fn identity(&self, of: &X509Ref) -> Result<Identity, String> {
        match self.rule {
            CertificateIdentity::Cn => usable(common_name(of.subject_name())?),
            CertificateIdentity::San => usable(&alternative_name(of)?),
            CertificateIdentity::Fingerprint => {
                let fingerprint = fingerprint(of).ok_or("no fingerprint")?;
                Ok(Identity::new(hex(&fingerprint).as_bytes()))
            }
        }
    }

    /// Who resumes a session: the chain of before is verified again. `None`: it would be refused
    /// now.
    pub(super) fn resumed(&self, ssl: &SslRef) -> Option<(Identity, Certified)> {
        let own = ssl.peer_certificate()?;
        let identity = self.identity(&own).ok()?;
        if self.pinned.contains(&fingerprint(&own)?) {
            return (!has_ended(&own))
                .then(|| Certified::of([&*own].into_iter(), self.rule))?
                .map(|facts| (identity, facts));
        }
        let mut others = Stack::new().ok()?;
        for sent in ssl.peer_cert_chain().into_iter().flatten() {
            others.push(sent.to_owned()).ok()?;
        }
        let mut context = X509StoreContext::new().ok()?;
        let facts = context.init(&self.resumption, &own, &others, |context| {
            let is_well = context.verify_cert()?;
            let chain = context.chain().filter(|_| is_well);
            Ok(chain.and_then(|chain| Certified::of(chain.iter(), self.rule)))
        });
        drop(ErrorStack::get());
        Some((identity, facts.ok()??))
    }

    /// Whether a device that is here would be let in now, as far as its chain goes.
    pub(super) fn trusts(&self, certified: &Certified) -> bool {
        let is_trusted = self.pinned.contains(&certified.fingerprint)
            || self.anchors.contains(&certified.anchor);
        is_trusted
            && certified.rule == self.rule
            && !certified.links.iter().any(|it| self.revoked.contains(it))
    }
}

const UNABLE_TO_GET_CRL: i32 = 3;

/// Errors of OpenSSL (x509_vfy.h) that are about who issued a certificate: no or an untrusted
/// issuer, self-signed, a chain that is too long, no revocation list.
const IS_ABOUT_ISSUERS: [i32; 8] = [2, UNABLE_TO_GET_CRL, 18, 19, 20, 21, 22, 27];

/// The common name, as its bytes are.
pub(super) fn common_name(of: &X509NameRef) -> Result<&[u8], String> {
    let mut names = of.entries_by_nid(Nid::COMMONNAME);
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.data().as_slice()),
        (None, _) => Err("no common name".to_owned()),
        (Some(_), Some(_)) => Err("more than one common name".to_owned()),
    }
}

/// The one `urn:` URI, or without any the one DNS name.
fn alternative_name(of: &X509Ref) -> Result<Vec<u8>, String> {
    let names = of.subject_alt_names().ok_or("no alternative name")?;
    let urns: Vec<_> = names
        .iter()
        .filter_map(|name| name.uri())
        .filter(|uri| {
            uri.get(..4)
                .is_some_and(|it| it.eq_ignore_ascii_case("urn:"))
        })
        .collect();
    let hosts: Vec<_> = names.iter().filter_map(|name| name.dnsname()).collect();
    match (&urns[..], &hosts[..]) {
        ([urn], _) => Ok(urn.as_bytes().to_vec()),
        ([], [host]) => Ok(host.as_bytes().to_vec()),
        ([], []) => Err("no alternative name that is a urn or a DNS name".to_owned()),
        _ => Err("more than one alternative name".to_owned()),
    }
}

/// A name that can be an identity: text of at most 256 bytes, of one device. What topics make of it
/// is looked at where topics are made.
fn usable(name: &[u8]) -> Result<Identity, String> {
    check_identity(name).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(name).map_err(|_| "the name is not UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("the name holds control characters".to_owned());
    }
    if text.contains('*') {
        return Err("the name holds a wildcard and so does not name one device".to_owned());
    }
    Ok(Identity::new(name))
}

/// Whether a certificate has too weak a key, or, unless it is trusted as it is, too weak a signature.
pub(super) fn weakness(it: &X509Ref, depth: u32, is_trusted: bool) -> Option<String> {
    let of = if depth == 0 { "" } else { " of an issuer" };
    let Ok(key) = it.public_key() else {
        return Some(format!("the key{of} cannot be read"));
    };
    if key.security_bits() < LEAST_STRENGTH {
        return Some(format!("the key{of} is too weak"));
    }
    let algorithm = it.signature_algorithm().object().nid();
    let digest = algorithm.signature_algorithms().map(|it| it.digest);
    let is_weak = matches!(digest, Some(Nid::MD5 | Nid::SHA1 | Nid::MD2));
    (is_weak && !is_trusted).then(|| format!("the signature{of} is too weak"))
}

/// The subject of a certificate, for people; what is not printable is escaped, and it is short.
pub(super) fn subject(of: &X509Ref) -> String {
    let mut text = String::new();
    for entry in of.subject_name().entries() {
        let name = entry.object().nid().short_name().unwrap_or("?");
        let separator = if text.is_empty() { "" } else { ", " };
        let value = Identity::new(entry.data().as_slice());
        let _ = write!(text, "{separator}{name}={value}");
        if text.len() > 200 {
            let end = text
                .char_indices()
                .nth(200)
                .map_or(text.len(), |(at, _)| at);
            text.truncate(end);
            text.push('…');
            break;
        }
    }
    if text.is_empty() {
        let fingerprint = fingerprint(of).map(|it| hex(&it));
        return format!("sha256 {}", fingerprint.unwrap_or_default());
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn has_ended(certificate: &X509Ref) -> bool {
    Asn1Time::days_from_now(0).is_ok_and(|now| certificate.not_after() < now)
}
