//! The files of the console, which are in the library.

use std::sync::LazyLock;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::error::ApiError;
use super::state::Shared;
use crate::config::Http;

/// Name and bytes of each file of `src/http/console`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/console.rs"));

/// What pages may do: load from here, and nothing else. Who may show them in a frame is configured.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors";

/// `GET /`
pub(super) async fn index(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    serve("index.html", &headers, &shared.settings)
}

/// `GET /console/{file}`
pub(super) async fn file(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    serve(&name, &headers, &shared.settings)
}

fn serve(name: &str, headers: &HeaderMap, settings: &Http) -> Response {
    let Some(at) = FILES.iter().position(|(known, _)| *known == name) else {
        return ApiError::not_found().into_response();
    };
    let (Some((_, bytes)), Some(tag)) = (FILES.get(at), TAGS.get(at)) else {
        return ApiError::not_found().into_response();
    };
    let known = headers.get(header::IF_NONE_MATCH);
    let policy = policy(&settings.frame_ancestors);
    let common: [(HeaderName, &str); 3] = [
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    if known.is_some_and(|known| known == tag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let kind = [(header::CONTENT_TYPE, content_type(name))];
    (common, kind, *bytes).into_response()
}

fn policy(ancestors: &[String]) -> String {
    if ancestors.is_empty() {
        return format!("{POLICY} 'none'");
    }
    format!("{POLICY} {}", ancestors.join(" "))
}

static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |(_, bytes): &(&str, &[u8])| {
        let digest = Sha256::digest(bytes);
        let hex: String = digest
            .iter()
            .take(12)
            .map(|it| format!("{it:02x}"))
            .collect();
        format!("\"{hex}\"")
    };
    FILES.iter().map(tag).collect()
});

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "webmanifest") => "application/json",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}
