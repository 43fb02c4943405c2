//! Pre-shared keys of the PSK files: a list without secrets, changes in one step.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::task::spawn_blocking;
use tracing::info;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::access::{Caller, Role};
use super::body::read_body;
use super::devices::endpoint_of;
use super::error::{Answer, ApiError, json};
use super::state::Shared;
use crate::credentials::edit::{self, EditError};
use crate::credentials::{
    ChangeError, EndpointPattern, Key, KeyEncoding, Lines, change, read_file,
};

/// Bytes of an identity that is made here, in hexadecimal digits.
const RANDOM: usize = 16;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<Listed>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct Listed {
    pub(super) identity: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) endpoints: Vec<String>,
    listener: String,
    source: &'static str,
    /// Length of the key in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<usize>,
}

/// A key to write.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey)]
pub(super) struct Wanted {
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = Option<String>)]
    key: Option<Zeroizing<String>>,
    endpoints: Option<Vec<String>>,
    endpoint: Option<String>,
    identity: Option<String>,
    listener: Option<String>,
}

/// A text that is wiped when it is dropped.
fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.map(Zeroizing::new))
}

#[derive(Serialize, ToSchema)]
#[schema(as = MadeKey)]
pub(super) struct Made<'a> {
    identity: &'a str,
    key: &'a str,
    listener: &'a str,
}

/// `GET /v1/keys`: all keys, without their secrets.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys",
    responses(
        (status = 200, body = Keys, description = "keys"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 500, body = ApiError, description = "the psk_file cannot be read or written"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    caller.needs(Role::Admin)?;
    let keys = listed(&shared).await?;
    Ok(json(StatusCode::OK, &Keys { keys }))
}

/// All keys, without their secrets.
pub(super) async fn listed(shared: &Shared) -> Answer<Vec<Listed>> {
    let files = shared.backend.key_files();
    blocking(move || {
        let mut keys = Vec::new();
        for file in files {
            keys.extend(file.configured.iter().map(|(identity, endpoints)| Listed {
                identity: String::from_utf8_lossy(identity).into_owned(),
                endpoints: endpoints.clone(),
                listener: file.listener.clone(),
                source: "config",
                length: None,
            }));
            let Some(path) = &file.path else {
                continue;
            };
            let (text, _) = read_file(path).map_err(|error| failed(&error.to_string()))?;
            let lines = Lines::read(&text, file.encoding);
            keys.extend(lines.credentials.iter().map(|(_, it)| {
                Listed {
                    identity: String::from_utf8_lossy(&it.identity).into_owned(),
                    endpoints: it
                        .endpoints
                        .iter()
                        .map(|it| it.as_str().to_owned())
                        .collect(),
                    listener: file.listener.clone(),
                    source: "file",
                    length: Some(it.key.as_bytes().len()),
                }
            }));
        }
        Ok(keys)
    })
    .await
}

/// `POST /v1/keys`: creates a key. A missing key or identity is generated; the key is shown only in this answer.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys",
    request_body = Option<Wanted>,
    responses(
        (status = 201, body = Made<'_>, description = "the key"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 408, body = ApiError, description = "the body arrived too slowly"),
        (status = 409, body = ApiError, description = "the identity already exists, or no listener has a psk_file"),
        (status = 413, body = ApiError, description = "the body is too large"),
        (status = 500, body = ApiError, description = "the psk_file cannot be read or written"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn make(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer {
    caller.needs(Role::Admin)?;
    let wanted = read(&shared, body).await?;
    let identity = match (wanted.identity.clone(), &wanted.endpoint) {
        (Some(identity), _) => identity,
        (None, Some(endpoint)) => endpoint.clone(),
        (None, None) => random()?.to_string(),
    };
    let made = write(&shared, &caller, identity.clone(), wanted, false).await?;
    let shown = Made {
        identity: &identity,
        key: &made.0,
        listener: &made.1,
    };
    Ok(json(StatusCode::CREATED, &shown))
}

/// `PUT /v1/keys/{identity}`: writes a key, replacing an existing one.
#[utoipa::path(
    put, path = "/v1/keys/{identity}", tag = "keys",
    request_body = Wanted,
    params(("identity" = String, Path, description = "PSK identity")),
    responses(
        (status = 204, description = "the key has been written"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 408, body = ApiError, description = "the body arrived too slowly"),
        (status = 409, body = ApiError, description = "the identity already exists, or no listener has a psk_file"),
        (status = 413, body = ApiError, description = "the body is too large"),
        (status = 500, body = ApiError, description = "the psk_file cannot be read or written"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn set(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    identity: Result<Path<String>, PathRejection>,
    body: Body,
) -> Answer {
    caller.needs(Role::Admin)?;
    let identity = endpoint_of(identity)?;
    let wanted = read(&shared, body).await?;
    if wanted.key.is_none() {
        return Err(ApiError::bad_request("bad_json", "key is missing"));
    }
    if wanted.identity.as_ref().is_some_and(|it| *it != identity) {
        return Err(ApiError::bad_request(
            "bad_json",
            "the path names another identity",
        ));
    }
    write(&shared, &caller, identity, wanted, true).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE /v1/keys/{identity}`: removes a key from every file that has it.
#[utoipa::path(
    delete, path = "/v1/keys/{identity}", tag = "keys",
    params(("identity" = String, Path, description = "PSK identity")),
    responses(
        (status = 204, description = "the key has been removed"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 404, body = ApiError, description = "no psk_file has this identity"),
        (status = 409, body = ApiError, description = "the identity already exists, or no listener has a psk_file"),
        (status = 500, body = ApiError, description = "the psk_file cannot be read or written"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn remove(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    identity: Result<Path<String>, PathRejection>,
) -> Answer {
    caller.needs(Role::Admin)?;
    let identity = endpoint_of(identity)?;
    if !erase(&shared, &caller, &identity).await? {
        let detail = "no psk_file has this identity";
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "unknown_identity",
            detail,
        ));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Removes a key from every file that has it; false when none has.
pub(super) async fn erase(shared: &Shared, caller: &Caller, identity: &str) -> Answer<bool> {
    let files = shared.backend.key_files();
    let name = identity.to_owned();
    let removed = blocking(move || {
        let (mut any, mut removed) = (false, false);
        for file in files {
            let Some(path) = file.path else {
                continue;
            };
            any = true;
            let edit = |text: &[u8]| edit::remove(text, file.encoding, name.as_bytes());
            match change(&path, false, edit) {
                Ok(()) => removed = true,
                Err(ChangeError::Edit(EditError::Missing)) => {}
                Err(error) => return Err(failed(&error.to_string())),
            }
        }
        if any { Ok(removed) } else { Err(no_file()) }
    });
    if !removed.await? {
        return Ok(false);
    }
    let backend = shared.backend.clone();
    blocking(move || {
        backend.read_key_files();
        Ok(())
    })
    .await?;
    info!(target: "audit", by = %caller.name, %identity, "key removed");
    Ok(true)
}

/// Writes the key of an identity for one endpoint, in the place of an older one.
pub(super) async fn replace(
    shared: &Shared,
    caller: &Caller,
    identity: String,
    endpoint: String,
    key: Zeroizing<String>,
) -> Answer<()> {
    let wanted = Wanted {
        key: Some(key),
        endpoints: Some(vec![endpoint]),
        endpoint: None,
        identity: None,
        listener: None,
    };
    write(shared, caller, identity, wanted, true).await?;
    Ok(())
}

async fn read(shared: &Shared, body: Body) -> Answer<Wanted> {
    let body = read_body(shared, body).await?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(body).map_err(|error| {
        // Without what was written: it may be a key.
        let (line, column) = (error.line(), error.column());
        let detail = format!("unexpected JSON at line {line}, column {column}");
        ApiError::bad_request("bad_json", detail)
    })
}

/// Writes a key; returns it in hexadecimal digits, and its listener.
async fn write(
    shared: &Shared,
    caller: &Caller,
    identity: String,
    wanted: Wanted,
    replace: bool,
) -> Answer<(Zeroizing<String>, String)> {
    let wrong = |detail: String| ApiError::bad_request("bad_key", detail);
    if identity.is_empty() || identity.len() > 1024 {
        return Err(wrong("an identity must have 1 to 1024 bytes".to_owned()));
    }
    let mut files = shared.backend.key_files().into_iter();
    let file = files.find(|file| {
        let listener = wanted.listener.as_ref();
        file.path.is_some() && listener.is_none_or(|it| *it == file.listener)
    });
    let file = file.ok_or_else(no_file)?;
    let path = file.path.ok_or_else(no_file)?;
    let text = match wanted.key {
        Some(key) => key,
        None => random()?,
    };
    let key = match file.encoding {
        KeyEncoding::Hex => Key::parse(&text),
        KeyEncoding::Text => Key::from_text(text.as_bytes()),
    };
    let key = key.map_err(|error| wrong(error.to_string()))?;
    let endpoints = wanted
        .endpoints
        .or_else(|| wanted.endpoint.map(|it| vec![it]));
    let endpoints = endpoints.filter(|list| *list != [identity.as_str()]);
    let endpoints = endpoints.map(|list| match list.is_empty() {
        true => Ok(Vec::new()),
        false => EndpointPattern::list(&list.join(",")),
    });
    let endpoints = endpoints
        .transpose()
        .map_err(|error| wrong(error.to_string()))?;
    let (name, encoding) = (identity.clone(), file.encoding);
    blocking(move || {
        let edit = |old: &[u8]| edit::set(old, encoding, name.as_bytes(), &key, endpoints, replace);
        change(&path, true, edit).map_err(|error| match error {
            ChangeError::Edit(error @ EditError::Exists(_)) => {
                ApiError::new(StatusCode::CONFLICT, "identity_exists", error.to_string())
            }
            ChangeError::Edit(error) => ApiError::bad_request("bad_key", error.to_string()),
            error => failed(&error.to_string()),
        })
    })
    .await?;
    let backend = shared.backend.clone();
    blocking(move || {
        backend.read_key_files();
        Ok(())
    })
    .await?;
    info!(target: "audit", by = %caller.name, %identity, "key written");
    Ok((text, file.listener))
}

fn no_file() -> ApiError {
    let detail = "no DTLS listener has a psk_file";
    ApiError::new(StatusCode::CONFLICT, "no_psk_file", detail)
}

fn failed(detail: &str) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "psk_file", detail)
}

/// Random bytes in hexadecimal digits.
fn random() -> Answer<Zeroizing<String>> {
    let mut bytes = vec![0; RANDOM];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::unavailable())?;
    Ok(Key::new(bytes).to_hex())
}

/// Runs what waits for files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::unavailable()))
}
