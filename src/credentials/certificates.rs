//! What a listener says of certificates, and the files that it names.

// Certificates and their key come from files of the system, read again when these change.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::file::Stamp;
use super::rules::WorldReadable;
use super::{EndpointPattern, Key};
use crate::system::open_to_everyone;

/// Largest file of certificates, keys or revocation lists in bytes.
const MAX_FILE: u64 = 16 << 20;

/// SHA-256 of a certificate as it is on the wire (DER).
pub type Fingerprint = [u8; 32];

/// What a listener says of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateOptions {
    /// `dtls_options.certfile`: the gateway's certificate and the chain behind it, PEM.
    pub certfile: Option<PathBuf>,
    /// `dtls_options.keyfile`: its private key, PEM.
    pub keyfile: Option<PathBuf>,
    /// `dtls_options.password`: of the private key.
    pub password: Option<Key>,
    /// `dtls_options.cacertfile`: whose certificates are taken, PEM.
    pub cacertfile: Option<PathBuf>,
    /// `dtls_options.crlfile`: what is revoked, PEM.
    pub crlfile: Option<PathBuf>,
    /// `dtls_options.verify`. Default `verify_peer`.
    pub verify: Verify,
    /// `dtls_options.fail_if_no_peer_cert`. Default true, and nothing else is done.
    pub fail_if_no_peer_cert: bool,
    /// `dtls_options.depth`: certificates between a device's and one of `cacertfile`. Default 10.
    pub depth: u32,
    /// `pinned_certificates`: certificates that are taken whoever issued them.
    pub pinned: Vec<Fingerprint>,
    /// `certificate_identity`. Default `cn`.
    pub identity: CertificateIdentity,
    /// `certificate_endpoints`: endpoints of identities, as a credential lists them.
    pub endpoints: BTreeMap<String, Vec<EndpointPattern>>,
}

/// Whether devices are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// `verify_peer`
    Peer,
    /// `verify_none`: no suite with certificates is offered, as nobody could tell devices apart.
    None,
}

/// What of a certificate is the identity of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum CertificateIdentity {
    /// `cn`: the common name of its subject.
    Cn,
    /// `san`: the alternative name that is a URI beginning with `urn:`, or else the DNS name.
    San,
    /// `fingerprint`: the SHA-256 of the certificate, in small hexadecimal digits.
    Fingerprint,
}

impl Default for CertificateOptions {
    fn default() -> Self {
        Self {
            certfile: None,
            keyfile: None,
            password: None,
            cacertfile: None,
            crlfile: None,
            verify: Verify::Peer,
            fail_if_no_peer_cert: true,
            depth: 10,
            pinned: Vec::new(),
            identity: CertificateIdentity::Cn,
            endpoints: BTreeMap::new(),
        }
    }
}

impl CertificateOptions {
    /// Whether suites with certificates are offered.
    pub fn is_on(&self) -> bool {
        self.certfile.is_some() && self.verify == Verify::Peer
    }
}

/// What stands in the files of a listener.
#[derive(Debug)]
pub struct CertificateTexts {
    /// Of `certfile`.
    pub certificates: Vec<u8>,
    /// Of `keyfile`, or of `certfile` where there is none.
    pub key: Zeroizing<Vec<u8>>,
    /// Of `cacertfile`.
    pub authorities: Option<Vec<u8>>,
    /// Of `crlfile`.
    pub revocations: Option<Vec<u8>>,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key} {}: {reason}", path.display())]
pub struct CertificateFileError {
    /// Name of its key, such as `keyfile`.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// The files of a listener, and their state when they were last read.
#[derive(Debug)]
pub struct CertificateFiles {
    options: CertificateOptions,
    world_readable: WorldReadable,
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Of the files as they were last read or tried.
    known: Vec<Option<Stamp>>,
    /// At the last look, when that was another.
    seen: Option<Vec<Option<Stamp>>>,
}

impl CertificateFiles {
    /// Reads the files that `options` names.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or everybody can read the private key and that is not allowed.
    pub fn open(
        options: &CertificateOptions,
        world_readable: WorldReadable,
    ) -> Result<(Self, CertificateTexts), CertificateFileError> {
        let files = Self {
            options: options.clone(),
            world_readable,
            watch: Mutex::default(),
        };
        let texts = files.read(&mut files.watch.lock())?;
        Ok((files, texts))
    }

    /// What they are read for.
    pub fn options(&self) -> &CertificateOptions {
        &self.options
    }

    /// Reads the files again if one has changed; to be called every second or so. A change is taken
    /// up when all look the same at two calls: certificate and key are two files.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), once for each change.
    pub fn poll(&self) -> Result<Option<CertificateTexts>, CertificateFileError> {
        let mut watch = self.watch.lock();
        let now = self.stamps();
        if now == watch.known {
            watch.seen = None;
            return Ok(None);
        }
        if watch.seen.as_ref() != Some(&now) {
            watch.seen = Some(now);
            return Ok(None);
        }
        self.read(&mut watch).map(Some)
    }

    fn read(&self, watch: &mut Watch) -> Result<CertificateTexts, CertificateFileError> {
        watch.seen = None;
        watch.known = self.stamps();
        let options = &self.options;
        let text =
            |key, path: &Option<PathBuf>| path.as_deref().map(|path| read(key, path)).transpose();
        let certificates = text("certfile", &options.certfile)?.unwrap_or_default();
        let (key, path) = match (&options.keyfile, &options.certfile) {
            (Some(path), _) => ("keyfile", path.as_path()),
            (None, Some(path)) => ("certfile", path.as_path()),
            (None, None) => ("certfile", Path::new("")),
        };
        let (secret, mode) = read_secret(key, path)?;
        if let Some(why) = open_to_everyone(mode)
            && self.world_readable == WorldReadable::Refuse
        {
            let file = path.display();
            let reason = format!(
                "holds a private key, but {why}: run chmod 640 {file}, or set world_readable_keys = \"allow\""
            );
            return Err(failed(key, path, reason));
        }
        Ok(CertificateTexts {
            certificates: certificates.to_vec(),
            key: secret,
            authorities: text("cacertfile", &options.cacertfile)?.map(|it| it.to_vec()),
            revocations: text("crlfile", &options.crlfile)?.map(|it| it.to_vec()),
        })
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let options = &self.options;
        [
            &options.certfile,
            &options.keyfile,
            &options.cacertfile,
            &options.crlfile,
        ]
        .into_iter()
        .flatten()
        .map(|path| fs::metadata(path).ok().map(|it| Stamp::of(&it)))
        .collect()
    }
}

fn failed(key: &'static str, path: &Path, reason: String) -> CertificateFileError {
    CertificateFileError {
        key,
        path: path.to_owned(),
        reason,
    }
}

fn read(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateFileError> {
    read_secret(key, path).map(|(text, _)| text)
}

/// The text of a file, zeroed when dropped, and the file's mode.
fn read_secret(
    key: &'static str,
    path: &Path,
) -> Result<(Zeroizing<Vec<u8>>, u32), CertificateFileError> {
    let wrong = |reason: &dyn ToString| failed(key, path, reason.to_string());
    // To open a pipe would wait for its writer.
    if !fs::metadata(path).map_err(|error| wrong(&error))?.is_file() {
        return Err(wrong(&"not a regular file"));
    }
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let metadata = file.metadata().map_err(|error| wrong(&error))?;
    // A vector that grows leaves copies behind.
    let size = usize::try_from(metadata.len().min(MAX_FILE)).unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(MAX_FILE.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(|error| wrong(&error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(wrong(&format_args!("larger than {MAX_FILE} bytes")));
    }
    Ok((text, metadata.mode()))
}
