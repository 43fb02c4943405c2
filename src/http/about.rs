//! What is running here.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::access::{Caller, Role};
use super::error::{Answer, ApiError, json};
use super::state::Shared;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct About {
    version: &'static str,
    host: &'static str,
    listeners: Vec<Listener>,
    uptime_s: u64,
    features: Vec<&'static str>,
    role: Role,
}

#[derive(Debug, Serialize, ToSchema)]
struct Listener {
    name: String,
    bind: String,
    dtls: bool,
}

/// `GET /v1/about`: version, host, listeners, and what the caller may do.
#[utoipa::path(
    get, path = "/v1/about", tag = "gateway",
    responses(
        (status = 200, body = About, description = "version, host, listeners and role"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn about(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    caller.needs(Role::Read)?;
    let listeners = shared.backend.listeners().into_iter();
    let listeners = listeners.map(|(name, bind)| Listener {
        dtls: name.starts_with("dtls:"),
        bind: bind.to_string(),
        name,
    });
    let standalone = cfg!(feature = "standalone").then_some("standalone");
    let about = About {
        version: env!("CARGO_PKG_VERSION"),
        host: shared.backend.host(),
        listeners: listeners.collect(),
        uptime_s: shared.started.elapsed().as_secs(),
        features: standalone.into_iter().chain(["http"]).collect(),
        role: caller.role,
    };
    Ok(json(StatusCode::OK, &about))
}

/// `GET /v1/config`: the current configuration, without secrets.
#[utoipa::path(
    get, path = "/v1/config", tag = "gateway",
    responses(
        (status = 200, body = HashMap<String, serde_json::Value>, description = "every configuration key, secrets as stars"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn config(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    caller.needs(Role::Read)?;
    let config = shared.backend.config().ok_or_else(ApiError::unavailable)?;
    Ok(json(StatusCode::OK, &config))
}

/// `GET /healthz`: whether the process runs.
#[utoipa::path(
    get, path = "/healthz", tag = "gateway",
    security(()),
    responses(
        (status = 200, body = String, content_type = "text/plain; charset=utf-8", description = "the gateway runs"),
    )
)]
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether the gateway accepts devices and commands.
#[utoipa::path(
    get, path = "/readyz", tag = "gateway",
    security(()),
    responses(
        (status = 200, body = String, content_type = "text/plain; charset=utf-8", description = "the gateway accepts devices and commands"),
        (status = 503, body = String, content_type = "text/plain; charset=utf-8", description = "the gateway is stopping"),
    )
)]
pub(super) async fn ready(State(shared): State<Shared>) -> Response {
    if *shared.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ready\n".into_response()
}
