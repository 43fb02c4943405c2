//! Which request goes where, and what every request has to pass.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};

use super::authorize::authorize;
use super::error::{Answer, ApiError};
use super::state::Shared;
use super::{
    about, commands, console, devices, keys, leshan, log, login, numbers, objects, openapi, sse,
};

/// All of the API. Who may use a route stands in [`roles`](super::roles).
pub(super) fn router(shared: Shared) -> Router {
    let api = Router::new()
        .route("/about", get(about::about))
        .route("/devices", get(devices::list))
        .route(
            "/devices/{endpoint}",
            get(devices::show).delete(devices::kick),
        )
        .route("/devices/{endpoint}/commands", post(commands::command))
        .route("/events", get(sse::events))
        .route("/log", get(log::last))
        .route("/log/events", get(log::follow))
        .route("/objects", get(objects::list))
        .route("/objects/{id}", get(objects::show))
        .route("/stats", get(numbers::stats))
        .route("/openapi.json", get(openapi::document))
        .route("/config", get(about::config))
        .route("/keys", get(keys::list).post(keys::make))
        .route("/keys/{identity}", put(keys::set).delete(keys::remove))
        .route("/session", post(login::open).delete(login::close));
    let leshan = shared.settings.leshan_api.then(leshan::router);
    Router::new()
        .nest("/v1", api)
        .merge(leshan.map_or_else(Router::new, |paths| Router::new().nest("/api", paths)))
        .route("/metrics", get(numbers::metrics))
        .route("/healthz", get(about::health))
        .route("/readyz", get(about::ready))
        .route("/", get(console::index))
        .route("/console/{file}", get(console::file))
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .layer(middleware::from_fn_with_state(shared.clone(), authorize))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// What no request gets past: a name that leads here from a stranger's page, and a change that such
/// a page asks for.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|it| it.as_str());
    let checked = check_host(&shared, authority, request.headers())
        .and_then(|()| check_origin(request.method(), request.headers()));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let referrer = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, referrer);
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// At a loopback address a request has to name that, or a name of the configuration: the name of a
/// stranger's server may have been given this address meanwhile (DNS rebinding).
fn check_host(shared: &Shared, authority: Option<&str>, headers: &HeaderMap) -> Answer<()> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        // RFC 9112 §3.2
        return Err(ApiError::bad_request(
            "two_hosts",
            "there is more than one Host header",
        ));
    }
    let loopback = shared.settings.bind.is_some_and(|it| it.ip().is_loopback());
    if !loopback {
        return Ok(());
    }
    // One in the first line goes before Host (RFC 9112 §3.2.2).
    let host = authority.or_else(|| host.and_then(|it| it.to_str().ok()));
    let host = host.map(without_port).unwrap_or_default();
    let is_address = || {
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        bare.unwrap_or(host).parse::<std::net::IpAddr>().is_ok()
    };
    let mut allowed = shared.settings.allowed_hosts.iter();
    if host.eq_ignore_ascii_case("localhost")
        || is_address()
        || allowed.any(|it| it.eq_ignore_ascii_case(host))
    {
        return Ok(());
    }
    let detail = "this host name is not allowed (http.allowed_hosts)";
    Err(ApiError::forbidden("unknown_host", detail))
}

/// A change that a page of another origin asks for is refused; programs have no origin.
fn check_origin(method: &Method, headers: &HeaderMap) -> Answer<()> {
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let origin = origin.split_once("://").map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    if origin.is_some() && origin == host {
        return Ok(());
    }
    let detail = "a page of another origin may not send this request";
    Err(ApiError::forbidden("foreign_origin", detail))
}

fn without_port(host: &str) -> &str {
    let port = host.rsplit_once(':');
    match port {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    }
}
