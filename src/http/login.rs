//! Logging in and out: `/v1/session`.

use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::{Caller, Role};
use super::error::{Answer, ApiError, json};
use super::sessions::{LIFE, PREFIX};
use super::shown::token_of;
use super::state::Shared;

/// A login.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Login)]
pub(super) struct Opened {
    token: String,
    name: String,
    role: Role,
    expires_in_s: u64,
}

/// `POST /v1/session`: logs the caller in and returns a token.
#[utoipa::path(
    post, path = "/v1/session", tag = "gateway",
    responses(
        (status = 201, body = Opened, description = "the token of the login"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "a login cannot prolong itself"),
        (status = 429, body = ApiError, description = "too many wrong passwords from this address"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn open(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer {
    if token_of(&headers).is_some_and(|token| token.starts_with(PREFIX)) {
        // Whoever got hold of one shall not have it for ever.
        let detail = "a login cannot prolong itself: send a token or a password";
        return Err(ApiError::forbidden("session_token", detail));
    }
    let (name, role) = (caller.name.to_string(), caller.role);
    let token = shared.access.sessions.open(caller, Instant::now());
    let opened = Opened {
        token: token.map_err(|_| ApiError::unavailable())?,
        name,
        role,
        expires_in_s: LIFE.as_secs(),
    };
    Ok(json(StatusCode::CREATED, &opened))
}

/// `DELETE /v1/session`: ends the login whose token the request carries.
#[utoipa::path(
    delete, path = "/v1/session", tag = "gateway",
    responses(
        (status = 204, description = "the login has ended"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the request comes from a page of another site"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn close(State(shared): State<Shared>, headers: HeaderMap) -> Answer {
    if let Some(token) = token_of(&headers) {
        shared.access.sessions.close(token);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
