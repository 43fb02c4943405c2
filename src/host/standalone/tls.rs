//! TLS towards a broker, by rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::common::BrokerError;
use crate::config::Mqtt;

pub(super) fn setting(key: &'static str, reason: impl ToString) -> BrokerError {
    BrokerError::Setting {
        key,
        reason: reason.to_string(),
    }
}

/// Settings for `mqtts://`: TLS 1.2 and 1.3, the system's authorities or `mqtt.cacertfile`, and a
/// client certificate when one is configured.
pub(super) fn client_config(mqtt: &Mqtt) -> Result<Arc<ClientConfig>, BrokerError> {
    let mut roots = RootCertStore::empty();
    match &mqtt.cacertfile {
        Some(file) => {
            for certificate in certificates("mqtt.cacertfile", file)? {
                roots
                    .add(certificate)
                    .map_err(|reason| setting("mqtt.cacertfile", reason))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(setting(
                    "mqtt.broker",
                    "the system has no trusted certificate authorities: set mqtt.cacertfile",
                ));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|reason| setting("mqtt.broker", reason))?
        .with_root_certificates(roots);
    let config = match (&mqtt.certfile, &mqtt.keyfile) {
        (Some(certfile), Some(keyfile)) => {
            let chain = certificates("mqtt.certfile", certfile)?;
            let key = PrivateKeyDer::from_pem_file(keyfile)
                .map_err(|reason| unreadable("mqtt.keyfile", keyfile, &reason))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|reason| setting("mqtt.certfile", reason))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

pub(super) fn unreadable(key: &'static str, file: &Path, reason: &impl ToString) -> BrokerError {
    setting(key, format!("{}: {}", file.display(), reason.to_string()))
}

pub(super) fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|reason| unreadable(key, file, &reason))?;
    if found.is_empty() {
        return Err(unreadable(key, file, &"holds no certificate"));
    }
    Ok(found)
}
