//! Devices: a list, one of them, the end of a registration.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::access::{Caller, Role};
use super::error::{Answer, ApiError, json};
use super::merge;
use super::state::Shared;
use super::views::{Detail, Devices};
use crate::engine::DeviceFilter;

/// Devices of a page unless it says another number, and at most.
const USUAL: usize = 100;
const MOST: usize = 1000;

/// Longest pattern of endpoint names in bytes: as long as a name.
pub(super) const MAX_PATTERN: usize = 255;

/// Which devices to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Most devices in a page; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the previous page.
    cursor: Option<String>,
    /// Endpoint names: `*` is any text, `?` one character.
    #[param(max_length = 255)]
    endpoint: Option<String>,
    /// Devices that have this object.
    object: Option<u16>,
    /// Devices that are considered awake, or asleep.
    #[param(inline)]
    state: Option<DeviceStateName>,
    /// Devices of this listener, as in `dtls:default`.
    listener: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DeviceStateName {
    Online,
    Asleep,
}

/// `GET /v1/devices`: devices, page by page.
#[utoipa::path(
    get, path = "/v1/devices", tag = "devices",
    params(ListQuery),
    responses(
        (status = 200, body = Devices<'_>, description = "a page"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    caller.needs(Role::Read)?;
    let Query(query) = query.map_err(|it| bad_query(&it.body_text()))?;
    let limit = query.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(bad_query(&format!("limit must be 1 to {MOST}")));
    }
    check_pattern(query.endpoint.as_deref())?;
    let filter = DeviceFilter {
        endpoint: query.endpoint,
        object: query.object,
        awake: query.state.map(|state| state == DeviceStateName::Online),
        listener: query.listener,
    };
    let after = query.cursor.map(Arc::from);
    let (devices, next) = merge::page(&shared, filter, after, limit).await?;
    let page = Devices {
        devices: devices.into_iter().map(Into::into).collect(),
        next: next.as_deref().map(Into::into),
        total: shared.backend.registrations(),
    };
    Ok(json(StatusCode::OK, &page))
}

/// `GET /v1/devices/{ep}`: one device.
#[utoipa::path(
    get, path = "/v1/devices/{endpoint}", tag = "devices",
    params(("endpoint" = String, Path, description = "endpoint name")),
    responses(
        (status = 200, body = Detail, description = "the device"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 404, body = ApiError, description = "the device is not registered"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn show(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    endpoint: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Answer {
    caller.needs(Role::Read)?;
    let endpoint = endpoint_of(endpoint)?;
    let backend = &shared.backend;
    let detail = shared.ask(|to| backend.detail(&endpoint, to)).await?;
    let detail = detail.ok_or_else(ApiError::unknown_endpoint)?;
    let now = shared.unix_ms();
    Ok(json(StatusCode::OK, &Detail::new(now, detail)))
}

/// `DELETE /v1/devices/{ep}`: ends a registration, without telling the device.
#[utoipa::path(
    delete, path = "/v1/devices/{endpoint}", tag = "devices",
    params(("endpoint" = String, Path, description = "endpoint name")),
    responses(
        (status = 204, description = "the registration has ended"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 404, body = ApiError, description = "the device is not registered"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn kick(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    endpoint: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Answer {
    caller.needs(Role::Admin)?;
    let endpoint = endpoint_of(endpoint)?;
    if !shared.backend.kick(&endpoint) {
        return Err(ApiError::unknown_endpoint());
    }
    info!(target: "audit", by = %caller.name, %endpoint, "registration ended");
    Ok(StatusCode::NO_CONTENT.into_response() as Response)
}

/// The endpoint name of a path, decoded.
pub(super) fn endpoint_of(
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Answer<String> {
    path.map(|Path(endpoint)| endpoint)
        .map_err(|it| ApiError::bad_request("bad_path", it.body_text()))
}

pub(super) fn bad_query(detail: &str) -> ApiError {
    ApiError::bad_request("bad_query", detail)
}

/// A pattern that is not longer than a name may be.
pub(super) fn check_pattern(pattern: Option<&str>) -> Answer<()> {
    if pattern.is_some_and(|pattern| pattern.len() > MAX_PATTERN) {
        return Err(bad_query("endpoint is longer than an endpoint name may be"));
    }
    Ok(())
}
