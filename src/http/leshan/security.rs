//! Pre-shared keys in Leshan's shape: `/api/security/clients`. Keys are written, never shown.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::refused::{Refused, Reply};
use crate::http::access::{Caller, Role};
use crate::http::body::read_body;
use crate::http::error;
use crate::http::keys;
use crate::http::state::Shared;

/// Members that mean nothing here are passed over, as Leshan does.
#[derive(Deserialize)]
struct Info {
    endpoint: String,
    tls: Option<Tls>,
}

#[derive(Deserialize)]
struct Tls {
    mode: String,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    identity: String,
    #[serde(deserialize_with = "secret")]
    key: Zeroizing<String>,
}

/// A text that is wiped when it is dropped.
fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// `GET /api/security/clients`
pub(super) async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Reply {
    caller.needs(Role::Admin)?;
    let mut infos: Vec<Value> = Vec::new();
    for key in keys::listed(&shared).await? {
        let alone = vec![key.identity.clone()];
        let endpoints = match key.endpoints.is_empty() {
            true => alone,
            false => key.endpoints,
        };
        infos.extend(endpoints.into_iter().map(|endpoint| {
            json!({
                "endpoint": endpoint,
                "tls": {"mode": "psk", "details": {"identity": key.identity}},
            })
        }));
    }
    Ok(error::json(StatusCode::OK, &infos))
}

/// `PUT /api/security/clients/`
pub(super) async fn put(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Reply {
    caller.needs(Role::Admin)?;
    let body = read_body(&shared, body).await?;
    let info: Info = serde_json::from_slice(&body).map_err(|error| {
        // Without what was written: it may be a key.
        let (line, column) = (error.line(), error.column());
        let detail =
            format!("Invalid request body: unexpected JSON at line {line}, column {column}");
        Refused(StatusCode::BAD_REQUEST, detail)
    })?;
    let psk = info.tls.filter(|tls| tls.mode.eq_ignore_ascii_case("psk"));
    let psk = psk.and_then(|tls| tls.details).ok_or_else(|| {
        let detail = "Invalid request body: expected tls with the mode psk and details";
        Refused(StatusCode::BAD_REQUEST, detail.to_owned())
    })?;
    keys::replace(&shared, &caller, psk.identity, info.endpoint, psk.key).await?;
    Ok(StatusCode::OK.into_response())
}

/// `DELETE /api/security/clients/{endpoint}`
pub(super) async fn remove(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
) -> Reply {
    caller.needs(Role::Admin)?;
    let keys = keys::listed(&shared).await?.into_iter();
    let of_endpoint = keys.filter(|key| match key.endpoints.as_slice() {
        [] => key.identity == endpoint,
        [only] => *only == endpoint,
        _ => false,
    });
    let identities: Vec<String> = of_endpoint.map(|key| key.identity).collect();
    let mut removed = false;
    for identity in identities {
        removed |= keys::erase(&shared, &caller, &identity).await?;
    }
    Ok(match removed {
        true => StatusCode::OK.into_response(),
        false => error::json(StatusCode::OK, &json!({"message": "not_found"})),
    })
}
