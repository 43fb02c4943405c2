//! What a request shows of its sender: the header `Authorization`.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The header, of a scheme that is known here.
pub(super) enum Shown<'a> {
    /// RFC 6750 §2.1
    Token(&'a str),
    /// Name and password, RFC 7617 §2
    Password(String, Zeroizing<String>),
    /// Another scheme, or not written as it should be.
    Unknown,
    Nothing,
}

/// What a request shows.
pub(super) fn shown(headers: &HeaderMap) -> Shown<'_> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Shown::Nothing;
    };
    let value = value.to_str().unwrap_or_default();
    let Some((scheme, rest)) = value.split_once(' ') else {
        return Shown::Unknown;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return Shown::Token(rest.trim());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return password(rest.trim()).unwrap_or(Shown::Unknown);
    }
    Shown::Unknown
}

fn password(encoded: &str) -> Option<Shown<'static>> {
    let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let text = str::from_utf8(&bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    let password = Zeroizing::new(password.to_owned());
    Some(Shown::Password(name.to_owned(), password))
}

/// The token that a request shows.
pub(super) fn token_of(headers: &HeaderMap) -> Option<&str> {
    match shown(headers) {
        Shown::Token(token) => Some(token),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        match shown(&headers) {
            Shown::Token(token) => format!("token {token}"),
            Shown::Password(name, password) => format!("{name} {}", *password),
            Shown::Unknown => "unknown".to_owned(),
            Shown::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn schemes_are_read() {
        assert_eq!(of("Bearer abc"), "token abc");
        assert_eq!(of("bearer  abc "), "token abc");
        // ann:open sesame:1
        assert_eq!(of("Basic YW5uOm9wZW4gc2VzYW1lOjE="), "ann open sesame:1");
        for wrong in [
            "",
            "Bearer",
            "Basic !",
            "Basic YW5u",
            "Basic /w==",
            "Digest x",
        ] {
            assert_eq!(of(wrong), "unknown", "{wrong}");
        }
        assert!(matches!(shown(&HeaderMap::new()), Shown::Nothing));
    }
}
