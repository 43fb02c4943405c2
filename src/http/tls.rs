//! TLS of the API by rustls: TLS 1.2 and 1.3, without certificates of clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::access::Sources;
use crate::system::open_to_everyone;

/// Why there is no TLS.
#[derive(Debug, Error)]
#[error("{key}: {}: {reason}", file.display())]
pub(crate) struct TlsError {
    /// Of the configuration.
    key: &'static str,
    file: PathBuf,
    reason: String,
}

/// What TLS needs; `None` where the configuration has no certificate.
///
/// # Errors
/// A file cannot be read, or they do not belong together.
pub(super) fn load(sources: &Sources) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let http = &sources.http;
    let (Some(certfile), Some(keyfile)) = (&http.certfile, &http.keyfile) else {
        return Ok(None);
    };
    let of_certificate = |reason: String| wrong("http.certfile", certfile, reason);
    let of_key = |reason: String| wrong("http.keyfile", keyfile, reason);
    let chain = CertificateDer::pem_file_iter(certfile)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| of_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(of_certificate("holds no certificate".to_owned()));
    }
    let mode = sources.mode_of(keyfile);
    let mode = mode.map_err(|error| of_key(error.to_string()))?;
    if let Some(why) = open_to_everyone(mode).filter(|_| sources.refuses_readable) {
        let shown = keyfile.display();
        let hint = "or set world_readable_keys = \"allow\"";
        return Err(of_key(format!("{why}: run chmod 640 {shown}, {hint}")));
    }
    let key = PrivateKeyDer::from_pem_file(keyfile).map_err(|error| of_key(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| of_certificate(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| of_certificate(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn wrong(key: &'static str, file: &Path, reason: String) -> TlsError {
    TlsError {
        key,
        file: file.to_owned(),
        reason,
    }
}
