//! The certificates of a listener: read, judged, and read again when a file changes.

use super::error::StartError;
use crate::config::DtlsListener;
use crate::credentials::{CertificateFileError, CertificateFiles, CertificateTexts};
use crate::dtls::{CertificateError, Certificates};

/// The certificates of a listener, with warnings; `None` without any.
///
/// # Errors
///
/// When a file cannot be read or used, with its key below `listeners.dtls.NAME`.
pub(super) fn open(
    name: &str,
    listener: &DtlsListener,
) -> Result<Option<(CertificateFiles, Certificates, Vec<String>)>, StartError> {
    let options = &listener.certificates;
    if !options.is_on() {
        return Ok(None);
    }
    let path = |key: &str| format!("listeners.dtls.{name}.{key}");
    let opened = CertificateFiles::open(options, listener.world_readable);
    let (files, texts) = opened.map_err(|error| StartError::Certificates {
        key: path(&format!("dtls_options.{}", error.key)),
        reason: format!("{}: {}", error.path.display(), error.reason),
    })?;
    let made = Certificates::new(&texts, options);
    let (certificates, warnings) = made.map_err(|error| StartError::Certificates {
        key: path(error.key),
        reason: error.reason,
    })?;
    Ok(Some((files, certificates, warnings)))
}

/// Why changed files are not taken up.
#[derive(Debug, thiserror::Error)]
pub(super) enum RereadError {
    #[error(transparent)]
    File(#[from] CertificateFileError),
    #[error("{}: {}", .0.key, .0.reason)]
    Certificates(#[from] CertificateError),
}

/// The certificates in files that have changed, with warnings; `None` when none has.
///
/// # Errors
///
/// As [`open`]; what was read before stays in force.
pub(super) fn poll(
    files: &CertificateFiles,
) -> Result<Option<(Certificates, Vec<String>)>, RereadError> {
    let texts: Option<CertificateTexts> = files.poll()?;
    let Some(texts) = texts else {
        return Ok(None);
    };
    Ok(Some(Certificates::new(&texts, files.options())?))
}

/// What there is to say about the certificates of a listener: warnings, or why they cannot be used.
///
/// # Errors
///
/// One line with the key.
#[cfg(any(feature = "internals", feature = "standalone"))]
pub fn check(name: &str, listener: &DtlsListener) -> Result<Vec<String>, String> {
    match open(name, listener) {
        Ok(found) => Ok(found.map(|(_, _, warnings)| warnings).unwrap_or_default()),
        Err(error) => Err(error.to_string()),
    }
}
