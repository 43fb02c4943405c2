//! The server's side of TLS, by rustls: TLS 1.2 and 1.3.

use std::sync::Arc;

use openssl::nid::Nid;
use openssl::x509::X509;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::super::super::common::BrokerError;
use super::super::super::tls::{certificates, setting, unreadable};
use crate::config::Mqtt;

/// With `mqtt.tls.cacertfile`, clients without a certificate of these authorities are refused.
pub(super) fn server_config(mqtt: &Mqtt) -> Result<Arc<ServerConfig>, BrokerError> {
    let tls = &mqtt.tls;
    let (Some(certfile), Some(keyfile)) = (&tls.certfile, &tls.keyfile) else {
        return Err(setting(
            "mqtt.tls.certfile",
            "is required, and so is mqtt.tls.keyfile",
        ));
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|reason| setting("mqtt.tls.certfile", reason))?;
    let builder = match &tls.cacertfile {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("mqtt.tls.cacertfile", file)? {
                roots
                    .add(certificate)
                    .map_err(|reason| setting("mqtt.tls.cacertfile", reason))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|reason| setting("mqtt.tls.cacertfile", reason))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("mqtt.tls.certfile", certfile)?;
    let key = PrivateKeyDer::from_pem_file(keyfile)
        .map_err(|reason| unreadable("mqtt.tls.keyfile", keyfile, &reason))?;
    let config = builder
        .with_single_cert(chain, key)
        .map_err(|reason| setting("mqtt.tls.certfile", reason))?;
    Ok(Arc::new(config))
}

/// The common name of the client's certificate, which has been verified.
pub(super) fn identity(connection: &ServerConnection) -> Option<String> {
    let certificate = connection.peer_certificates()?.first()?;
    let certificate = X509::from_der(certificate).ok()?;
    let mut names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let name = names.next()?.data().to_string().ok()?;
    // With two, it is not clear who is meant.
    (names.next().is_none() && !name.is_empty() && !name.contains('\0')).then_some(name)
}
