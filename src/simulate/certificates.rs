//! Certificates of the simulated devices.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use super::error::Error;

/// What a device shows, and its private key.
pub(super) struct Certificate {
    pub(super) own: X509,
    /// Who issued it, and so on.
    pub(super) chain: Vec<X509>,
    pub(super) key: PKey<Private>,
}

/// Those of all devices: `{}` in the names of the files stands for the number of a device. Without it
/// they are read once, and all devices show the same.
///
/// # Errors
///
/// When a file cannot be read, or is no such thing.
pub(super) fn read_all(
    certificates: &Path,
    keys: &Path,
    count: usize,
) -> Result<Vec<Arc<Certificate>>, Error> {
    let has_number = |path: &Path| path.to_string_lossy().contains("{}");
    if !has_number(certificates) && !has_number(keys) {
        let one = Arc::new(read(certificates, keys)?);
        return Ok(vec![one; count]);
    }
    (0..count)
        .map(|number| {
            let numbered = |path: &Path| -> PathBuf {
                let path = path.to_string_lossy();
                path.replace("{}", &number.to_string()).into()
            };
            read(&numbered(certificates), &numbered(keys)).map(Arc::new)
        })
        .collect()
}

/// Whether a file holds certificates.
///
/// # Errors
///
/// When it cannot be read, or holds none.
pub(super) fn check_authorities(file: &Path) -> Result<(), Error> {
    let wrong = |reason: String| Error::Certificate {
        file: file.to_owned(),
        reason,
    };
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    match X509::stack_from_pem(&text) {
        Ok(found) if !found.is_empty() => Ok(()),
        _ => Err(wrong("holds no certificate in PEM".to_owned())),
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Certificate, Error> {
    let wrong = |file: &Path, reason: &dyn ToString| Error::Certificate {
        file: file.to_owned(),
        reason: reason.to_string(),
    };
    let text = |file: &Path| std::fs::read(file).map_err(|error| wrong(file, &error));
    let found = X509::stack_from_pem(&text(certificate)?);
    let mut found = found
        .map_err(|_| wrong(certificate, &"holds a certificate that cannot be read"))?
        .into_iter();
    let own = found
        .next()
        .ok_or_else(|| wrong(certificate, &"holds no certificate in PEM"))?;
    // Without the callback OpenSSL would ask the terminal for a password.
    let private = PKey::private_key_from_pem_callback(&text(key)?, |_| Ok(0))
        .map_err(|_| wrong(key, &"holds no private key in PEM, or an encrypted one"))?;
    let fits = own.public_key().is_ok_and(|it| it.public_eq(&private));
    if !fits {
        return Err(wrong(key, &"does not belong to the certificate"));
    }
    Ok(Certificate {
        own,
        chain: found.collect(),
        key: private,
    })
}
