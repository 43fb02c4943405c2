//! Values of DTLS listeners about certificates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{ConfigError, ConfigWarning};
use super::listener::DtlsListener;
use super::value::{self, Parsed};
use crate::credentials::{EndpointPattern, Fingerprint, Key, Verify, check_identity};

/// Most pinned certificates, and most identities with endpoints.
const MAX_ENTRIES: usize = 100_000;

/// `pinned_certificates`: SHA-256 fingerprints, with or without colons.
pub(crate) fn pinned(value: &Value) -> Parsed<Vec<Fingerprint>> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        Value::String(_) => std::slice::from_ref(value),
        other => {
            return Err(format!(
                "expected a list of fingerprints, found {}",
                value::shown(other)
            ));
        }
    };
    if list.len() > MAX_ENTRIES {
        return Err(format!(
            "holds more than {MAX_ENTRIES} fingerprints, use cacertfile"
        ));
    }
    let mut pinned = list.iter().map(fingerprint).collect::<Parsed<Vec<_>>>()?;
    pinned.sort_unstable();
    pinned.dedup();
    Ok(pinned)
}

fn fingerprint(value: &Value) -> Parsed<Fingerprint> {
    let text = value::text(value)?;
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b':' && *byte != b' ')
        .collect();
    let wrong = || {
        format!(
            "{} is not a SHA-256 fingerprint: expected 64 hexadecimal digits, with or without colons \
             (openssl x509 -noout -fingerprint -sha256)",
            value::shown(value)
        )
    };
    if digits.len() != 64 {
        return Err(wrong());
    }
    let bytes = Key::from_hex(&digits).map_err(|_| wrong())?;
    bytes.as_bytes().try_into().map_err(|_| wrong())
}

/// `certificate_endpoints`: a table from identities to lists of endpoints.
pub(crate) fn endpoints(value: &Value) -> Parsed<BTreeMap<String, Vec<EndpointPattern>>> {
    let Value::Object(table) = value else {
        return Err(format!(
            "expected a table such as {{ \"sn1\" = [\"truck-*\"] }}, found {}",
            value::shown(value)
        ));
    };
    if table.len() > MAX_ENTRIES {
        return Err(format!("holds more than {MAX_ENTRIES} identities"));
    }
    let mut endpoints = BTreeMap::new();
    for (identity, list) in table {
        let wrong = |reason: &dyn std::fmt::Display| format!("{identity:?}: {reason}");
        check_identity(identity.as_bytes()).map_err(|reason| wrong(&reason))?;
        let list = match list {
            Value::String(list) => EndpointPattern::list(list),
            Value::Array(list) => list
                .iter()
                .map(|entry| EndpointPattern::new(entry.as_str().unwrap_or_default()))
                .collect(),
            _ => return Err(wrong(&"endpoints must be a list of strings")),
        };
        endpoints.insert(identity.clone(), list.map_err(|reason| wrong(&reason))?);
    }
    Ok(endpoints)
}

/// `password`: of a private key.
pub(crate) fn password(value: &Value) -> Parsed<Option<Key>> {
    let Value::String(text) = value else {
        return Err("expected a string".to_owned());
    };
    if text.is_empty() {
        return Ok(None);
    }
    Key::from_text(text.as_bytes())
        .map(Some)
        .map_err(|_| "is longer than 256 bytes".to_owned())
}

/// Keys that need or exclude each other.
pub(crate) fn check(
    name: &str,
    listener: &DtlsListener,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<ConfigWarning>,
) {
    let options = &listener.certificates;
    let path = |key: &str| format!("listeners.dtls.{name}.{key}");
    let mut error = |key: &str, message: &str| {
        errors.push(ConfigError {
            key: path(key),
            message: message.to_owned(),
        });
    };
    let mut warn = |key: &str, message: &str| {
        warnings.push(ConfigWarning {
            key: path(key),
            message: message.to_owned(),
        });
    };
    let suites = &listener.options.ciphers;
    let is_psk_only = !suites.iter().any(|suite| suite.has_certificates());
    if options.certfile.is_none() {
        for (key, is_given) in [
            ("dtls_options.keyfile", options.keyfile.is_some()),
            ("dtls_options.cacertfile", options.cacertfile.is_some()),
            ("dtls_options.crlfile", options.crlfile.is_some()),
            ("pinned_certificates", !options.pinned.is_empty()),
            ("certificate_endpoints", !options.endpoints.is_empty()),
        ] {
            if is_given {
                error(
                    key,
                    "needs dtls_options.certfile, the certificate of the gateway",
                );
            }
        }
        if suites.iter().all(|suite| suite.has_certificates()) {
            error(
                "dtls_options.ciphers",
                "holds only suites with certificates, which need dtls_options.certfile",
            );
        }
        return;
    }
    if options.verify == Verify::None {
        warn(
            "dtls_options.verify",
            "with verify_none, suites with certificates are not offered, because devices that show no certificate cannot be told apart; set verify_peer to use them",
        );
        return;
    }
    if is_psk_only {
        error(
            "dtls_options.ciphers",
            "holds no suite with certificates, so dtls_options.certfile has no use: add one such as ECDHE-ECDSA-AES128-CCM8",
        );
    }
    if options.cacertfile.is_none() && options.pinned.is_empty() {
        error(
            "dtls_options.certfile",
            "needs dtls_options.cacertfile or pinned_certificates, which say whose devices are accepted",
        );
    }
    if options.crlfile.is_some() && options.cacertfile.is_none() {
        error(
            "dtls_options.crlfile",
            "needs dtls_options.cacertfile, the CA that issued the list",
        );
    }
    if !options.fail_if_no_peer_cert {
        warn(
            "dtls_options.fail_if_no_peer_cert",
            "has no effect: a device with neither a certificate nor a pre-shared key is refused",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_of_fingerprints() {
        let digits = "0123456789abcdef".repeat(4);
        let colons: Vec<_> = digits.as_bytes().chunks(2).collect();
        let colons = colons
            .iter()
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase());
        let colons = colons.collect::<Vec<_>>().join(":");
        let one = pinned(&json!([digits, colons])).unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(one[0][..3], [0x01, 0x23, 0x45]);
        assert_eq!(pinned(&json!(colons)).unwrap(), one);
        for wrong in [
            json!([&digits[1..]]),
            json!(["g".repeat(64)]),
            json!(5),
            json!([5]),
        ] {
            assert!(pinned(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn forms_of_endpoints() {
        let table = endpoints(&json!({"a": ["x", "y-*"], "b": "z, w"})).unwrap();
        assert_eq!(table["a"].len(), 2);
        assert_eq!(table["b"][1].as_str(), "w");
        for (wrong, message) in [
            (json!([]), "expected a table"),
            (json!({"": ["x"]}), "the identity is empty"),
            (json!({"a": 5}), "\"a\": endpoints must be a list"),
            (json!({"a": ["x", ""]}), "\"a\": "),
        ] {
            let error = endpoints(&wrong).unwrap_err();
            assert!(error.contains(message), "{wrong}: {error}");
        }
    }
}
