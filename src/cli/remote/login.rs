//! What is shown to the gateway, and which gateway is trusted.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use super::access::Access;
use super::error::Failure;

/// The variables with the token, and with the password of `--user`.
const TOKEN: &str = "LWM2M_GATEWAY_HTTP_TOKEN";
const PASSWORD: &str = "LWM2M_GATEWAY_HTTP_PASSWORD";

/// Bytes of a file with a token or a password, at most.
const LARGEST_FILE: u64 = 64 << 10;

/// What to do when nothing is shown.
pub(super) const NOTHING: &str = "the gateway requires a token or a user: give --token-file, LWM2M_GATEWAY_HTTP_TOKEN in the environment, or --user";

/// The value of the header `Authorization`, if there is anything to show.
pub(super) fn authorization(access: &Access) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(user) = &access.user {
        if user.contains(':') {
            let text =
                "--user: give only the name, without a colon; the command asks for the password"
                    .to_owned();
            return Err(Failure::Token(text));
        }
        let password = password(access)?;
        let shown = Zeroizing::new(format!("{user}:{}", *password));
        let encoded = Zeroizing::new(STANDARD.encode(shown.as_bytes()));
        return Ok(Some(Zeroizing::new(format!("Basic {}", *encoded))));
    }
    let token = match &access.token_file {
        Some(file) => first_line(file)?,
        None => env::var(TOKEN).ok().map(Zeroizing::new),
    };
    let token = token.filter(|token| !token.is_empty());
    Ok(token.map(|token| Zeroizing::new(format!("Bearer {}", *token))))
}

fn password(access: &Access) -> Result<Zeroizing<String>, Failure> {
    if let Some(file) = &access.password_file {
        return Ok(first_line(file)?.unwrap_or_default());
    }
    if let Ok(password) = env::var(PASSWORD) {
        return Ok(Zeroizing::new(password));
    }
    if !io::stdin().is_terminal() {
        let text = format!(
            "--user: without a terminal, give the password with --password-file or {PASSWORD}"
        );
        return Err(Failure::Token(text));
    }
    let typed = rpassword::prompt_password("Password: ");
    let typed = typed.map_err(|error| Failure::Token(format!("password: {error}")))?;
    Ok(Zeroizing::new(typed))
}

/// As in the gateway's own file: the first line that is not a comment.
fn first_line(file: &Path) -> Result<Option<Zeroizing<String>>, Failure> {
    let wrong = |why: String| Failure::Token(format!("{}: {why}", file.display()));
    let mut text = Zeroizing::new(String::new());
    let read = File::open(file).and_then(|it| it.take(LARGEST_FILE).read_to_string(&mut text));
    let read = read.map_err(|error| wrong(error.to_string()))?;
    if read as u64 == LARGEST_FILE {
        return Err(wrong("is too large for a token or a password".to_owned()));
    }
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(line.map(|line| Zeroizing::new(line.to_owned())))
}

/// Trust in the authorities of the file, or in those of the system.
pub(super) fn tls(cacert: Option<&Path>) -> Result<TlsConfig, Failure> {
    let certificates = match cacert {
        Some(file) => of_file(file)?,
        None => {
            let found = rustls_native_certs::load_native_certs();
            let certificates = found.certs.iter();
            certificates
                .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned())
                .collect()
        }
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn of_file(file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let wrong = |why: String| Failure::Other(format!("--cacert {}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        match item.map_err(|error| wrong(error.to_string()))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            _ => return Err(wrong("holds something other than certificates".to_owned())),
        }
    }
    match certificates.is_empty() {
        true => Err(wrong("holds no certificate".to_owned())),
        false => Ok(certificates),
    }
}
