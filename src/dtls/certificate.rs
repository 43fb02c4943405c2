//! What stands in the files about certificates: that of the gateway, whose devices are let in, and what
//! is revoked.

use std::collections::HashSet;
use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};
use openssl::ssl::{SslContextBuilder, SslMode, SslVerifyMode};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Crl, X509PurposeId, X509VerifyResult};

use super::certified::{Link, fingerprint, link};
use super::identity::Identity;
use super::openssl as ext;
use super::verifier::{Verifier, common_name, has_ended, subject, weakness};
use crate::credentials::{CertificateOptions, CertificateTexts};

/// Longest Certificate message of a device in bytes. A chain of three with elliptic curves has
/// about 2,000, one with RSA about 4,000.
pub(super) const MAX_CHAIN: usize = 16 << 10;

/// Signatures of handshakes: none with SHA-1.
const SIGNATURES: &str = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:RSA-PSS+SHA256:RSA-PSS+SHA384:\
                          RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512";

/// Days before the end of the gateway's certificate from which on a warning says so.
const SOON: u32 = 14;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct CertificateError {
    /// The key of the configuration that is wrong, below `listeners.dtls.NAME`.
    pub key: &'static str,
    /// Why.
    pub reason: String,
}

const CERTFILE: &str = "dtls_options.certfile";
const KEYFILE: &str = "dtls_options.keyfile";
const CACERTFILE: &str = "dtls_options.cacertfile";
const CRLFILE: &str = "dtls_options.crlfile";

fn wrong(key: &'static str, reason: impl Into<String>) -> CertificateError {
    CertificateError {
        key,
        reason: reason.into(),
    }
}

/// All that a listener needs for certificates.
pub struct Certificates {
    chain: Vec<X509>,
    key: PKey<Private>,
    authorities: Vec<X509>,
    revocations: Vec<X509Crl>,
    verifier: Arc<Verifier>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("authorities", &self.authorities.len())
            .field("revocations", &self.revocations.len())
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// From what stands in the files. With warnings.
    ///
    /// # Errors
    ///
    /// When the texts are no certificates, do not belong together, have expired or are too weak.
    pub fn new(
        texts: &CertificateTexts,
        options: &CertificateOptions,
    ) -> Result<(Self, Vec<String>), CertificateError> {
        let mut warnings = Vec::new();
        let chain = certificates(CERTFILE, &texts.certificates)?;
        let key = private_key(texts, options)?;
        check_own(&chain, &key, &mut warnings)?;
        let authorities = match &texts.authorities {
            Some(text) => certificates(CACERTFILE, text)?,
            None => Vec::new(),
        };
        for authority in &authorities {
            if has_ended(authority) {
                let name = subject(authority);
                warnings.push(format!(
                    "{CACERTFILE}: the certificate of {name} has expired"
                ));
            }
        }
        let revocations = match &texts.revocations {
            Some(text) => revocation_lists(text)?,
            None => Vec::new(),
        };
        let revoked = revoked(&revocations, &authorities, &mut warnings)?;
        let resumption = store(&authorities, &[]).map_err(|error| openssl(CACERTFILE, &error))?;
        let verifier = Arc::new(Verifier {
            rule: options.identity,
            pinned: options.pinned.iter().copied().collect(),
            anchors: authorities
                .iter()
                .filter_map(|it| fingerprint(it))
                .collect(),
            revoked,
            depth: options.depth,
            resumption,
        });
        let certificates = Self {
            chain,
            key,
            authorities,
            revocations,
            verifier,
        };
        Ok((certificates, warnings))
    }

    /// Makes a context show the gateway's certificate and ask for those of devices.
    pub(super) fn install(&self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let mut chain = self.chain.iter();
        if let Some(own) = chain.next() {
            builder.set_certificate(own)?;
        }
        for issuer in chain {
            builder.add_extra_chain_cert(issuer.clone())?;
        }
        builder.set_private_key(&self.key)?;
        builder.check_private_key()?;
        // Only what is in `certfile` is shown, not what OpenSSL finds among those of devices.
        builder.set_mode(SslMode::NO_AUTO_CHAIN);
        builder.set_cert_store(store(&self.authorities, &self.revocations)?);
        builder.set_verify_depth(self.verifier.depth);
        builder.set_sigalgs_list(SIGNATURES)?;
        ext::set_max_chain(builder, MAX_CHAIN);
        let verifier = self.verifier.clone();
        let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        builder.set_verify_callback(mode, move |is_well, store| verifier.judge(is_well, store));
        Ok(())
    }

    pub(super) fn verifier(&self) -> Arc<Verifier> {
        self.verifier.clone()
    }
}

fn openssl(key: &'static str, error: &ErrorStack) -> CertificateError {
    let first = error.errors().first().and_then(|error| error.reason());
    wrong(key, first.unwrap_or("OpenSSL refuses it"))
}

/// All certificates of a file.
fn certificates(key: &'static str, text: &[u8]) -> Result<Vec<X509>, CertificateError> {
    let found = X509::stack_from_pem(text);
    drop(ErrorStack::get());
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if holds(text, "PUBLIC KEY") => Err(wrong(key, RAW_KEYS)),
        Ok(_) if holds(text, "PRIVATE KEY") => {
            Err(wrong(key, "holds a private key but no certificate"))
        }
        Ok(_) => Err(wrong(key, "holds no certificate in PEM")),
        Err(error) => Err(wrong(
            key,
            format!("a certificate cannot be read: {}", openssl(key, &error)),
        )),
    }
}

/// OpenSSL knows raw public keys from 3.2 on, and for TLS and QUIC only tested clients have them.
const RAW_KEYS: &str = "holds a raw public key (RFC 7250), which is not supported: make a self-signed certificate of it and pin that";

/// Whether there is a PEM block whose label ends so.
fn holds(text: &[u8], label: &str) -> bool {
    let label = format!("{label}-----");
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.any(|line| {
        line.starts_with(b"-----BEGIN ") && line.trim_ascii().ends_with(label.as_bytes())
    })
}

fn private_key(
    texts: &CertificateTexts,
    options: &CertificateOptions,
) -> Result<PKey<Private>, CertificateError> {
    let place = if options.keyfile.is_some() {
        KEYFILE
    } else {
        CERTFILE
    };
    let mut is_asked = false;
    // Without the callback OpenSSL would ask the terminal.
    let key = PKey::private_key_from_pem_callback(&texts.key, |to| {
        is_asked = true;
        let password = options
            .password
            .as_ref()
            .map_or(&[][..], |it| it.as_bytes());
        let Some(to) = to.get_mut(..password.len()) else {
            return Ok(0);
        };
        to.copy_from_slice(password);
        Ok(password.len())
    });
    drop(ErrorStack::get());
    match (key, &options.password) {
        (Ok(key), _) => Ok(key),
        (Err(_), None) if is_asked => Err(wrong(
            place,
            "the private key is encrypted and needs dtls_options.password",
        )),
        (Err(_), Some(_)) if is_asked => Err(wrong(
            "dtls_options.password",
            "is not the password of the private key",
        )),
        (Err(_), _) if holds(&texts.key, "PRIVATE KEY") => {
            Err(wrong(place, "the private key cannot be read"))
        }
        (Err(_), _) => Err(wrong(place, "holds no private key in PEM")),
    }
}

/// Whether the gateway's certificate can be shown.
fn check_own(
    chain: &[X509],
    key: &PKey<Private>,
    warnings: &mut Vec<String>,
) -> Result<(), CertificateError> {
    let Some(own) = chain.first() else {
        return Err(wrong(CERTFILE, "holds no certificate in PEM"));
    };
    let public = own
        .public_key()
        .map_err(|error| openssl(CERTFILE, &error))?;
    if !matches!(public.id(), Id::EC | Id::RSA) {
        return Err(wrong(
            CERTFILE,
            "the key is neither an elliptic curve key nor an RSA key, and no cipher suite can use it",
        ));
    }
    if !public.public_eq(key) {
        return Err(wrong(
            KEYFILE,
            "the private key does not belong to the first certificate of dtls_options.certfile",
        ));
    }
    if let Some(reason) = weakness(own, 0, true) {
        return Err(wrong(CERTFILE, reason));
    }
    let day = |days| Asn1Time::days_from_now(days).map_err(|error| openssl(CERTFILE, &error));
    let now = day(0)?;
    for certificate in chain {
        let name = subject(certificate);
        if certificate.not_after() < now {
            let end = certificate.not_after();
            let reason = format!("the certificate of {name} has expired ({end})");
            return Err(wrong(CERTFILE, reason));
        }
        if certificate.not_before() > now {
            let begin = certificate.not_before();
            let reason = format!("the certificate of {name} is not valid yet (from {begin})");
            return Err(wrong(CERTFILE, reason));
        }
        if certificate.not_after() < day(SOON)? {
            let end = certificate.not_after();
            warnings.push(format!(
                "{CERTFILE}: the certificate of {name} expires soon ({end})"
            ));
        }
    }
    for [issued, issuer] in chain.array_windows() {
        if issuer.issued(issued) != X509VerifyResult::OK {
            warnings.push(format!(
                "{CERTFILE}: the chain is out of order: {} did not issue the certificate before it, {}",
                subject(issuer),
                subject(issued)
            ));
        }
    }
    Ok(())
}

/// All revocation lists of a file.
fn revocation_lists(text: &[u8]) -> Result<Vec<X509Crl>, CertificateError> {
    const END: &[u8] = b"-----END X509 CRL-----";
    let mut lists = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(END.len()).position(|window| window == END) {
        let (one, after) = rest
            .split_at_checked(at.saturating_add(END.len()))
            .unwrap_or((rest, &[]));
        let list = X509Crl::from_pem(one);
        drop(ErrorStack::get());
        lists.push(list.map_err(|_| wrong(CRLFILE, "a revocation list cannot be read"))?);
        rest = after;
    }
    if lists.is_empty() {
        return Err(wrong(CRLFILE, "holds no revocation list in PEM"));
    }
    Ok(lists)
}

/// What lists revoke. A list that none of the CAs at hand has signed is left alone by OpenSSL until
/// its issuer turns up in a chain; here it counts for sessions only when it is signed.
fn revoked(
    lists: &[X509Crl],
    authorities: &[X509],
    warnings: &mut Vec<String>,
) -> Result<HashSet<Link>, CertificateError> {
    let mut revoked = HashSet::new();
    let now = Asn1Time::days_from_now(0).map_err(|error| openssl(CRLFILE, &error))?;
    for list in lists {
        let name = Identity::new(common_name(list.issuer_name()).unwrap_or(b"-"));
        let issuer = authorities.iter().find(|it| {
            let is_same = it.subject_name().try_cmp(list.issuer_name());
            is_same.is_ok_and(std::cmp::Ordering::is_eq)
        });
        let is_signed = issuer.map(|issuer| {
            let key = issuer.public_key();
            key.is_ok_and(|key| list.verify(&key).unwrap_or(false))
        });
        drop(ErrorStack::get());
        if is_signed == Some(false) {
            let reason = format!("the list of {name} is not signed by the CA of that name");
            return Err(wrong(CRLFILE, reason));
        }
        if list.next_update().is_some_and(|next| next < now) {
            warnings.push(format!(
                "{CRLFILE}: the list of {name} is out of date, so devices of that CA are refused"
            ));
        }
        for entry in list.get_revoked().into_iter().flatten() {
            if let Ok(serial) = entry.serial_number().to_bn() {
                revoked.insert(link(list.issuer_name(), &serial.to_vec()));
            }
        }
    }
    Ok(revoked)
}

/// Whose certificates count, and what is revoked. A CA counts without its root.
fn store(authorities: &[X509], revocations: &[X509Crl]) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for authority in authorities {
        store.add_cert(authority.clone())?;
    }
    let mut flags = X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::TRUSTED_FIRST;
    if !revocations.is_empty() {
        flags |= X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
    }
    for list in revocations {
        ext::add_revocations(&mut store, list)?;
    }
    store.set_flags(flags)?;
    store.set_purpose(X509PurposeId::SSL_CLIENT)?;
    Ok(store.build())
}
