//! The description of the API in OpenAPI 3.1, made from the handlers of requests and from the types
//! that they answer with.

use std::sync::LazyLock;

use axum::Extension;
use axum::http::StatusCode;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::access::{Caller, Role};
use super::error::{Answer, json_text};
use super::{about, commands, devices, keys, log, login, numbers, objects, sse};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "lwm2m-gateway",
        description = "LwM2M devices of a gateway. Times are milliseconds since 1970.",
        license(name = "MIT OR Apache-2.0"),
    ),
    paths(
        about::about,
        about::config,
        about::health,
        about::ready,
        devices::list,
        devices::show,
        devices::kick,
        commands::command,
        sse::events,
        objects::list,
        objects::show,
        numbers::stats,
        numbers::metrics,
        keys::list,
        keys::make,
        keys::set,
        keys::remove,
        log::last,
        log::follow,
        login::open,
        login::close,
        document,
    ),
    security(("token" = []), ("user" = [])),
    modifiers(&Token),
)]
struct Description;

/// How requests show who they come from.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
        components.add_security_scheme("user", SecurityScheme::Http(scheme));
    }
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let text = Description::openapi().to_pretty_json();
    text.unwrap_or_else(|_| "{}".to_owned()) + "\n"
});

/// `GET /v1/openapi.json`: this description.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "gateway",
    responses(
        (status = 200, body = HashMap<String, serde_json::Value>, description = "OpenAPI 3.1"),
        (status = 401, body = super::error::ApiError, description = "the token or password is missing or wrong"),
        (status = 503, body = super::error::ApiError, description = "the gateway is stopping"),
    )
)]
pub(super) async fn document(Extension(caller): Extension<Caller>) -> Answer {
    caller.needs(Role::Read)?;
    Ok(json_text(StatusCode::OK, TEXT.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1 cargo test --lib http::openapi` rewrites the file.
    #[test]
    fn the_committed_description_is_that_of_the_code() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, TEXT.as_bytes()).unwrap();
        }
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            committed == *TEXT,
            "docs/openapi.json is not what the code says: UPDATE_DOCS=1 cargo test --lib http::openapi"
        );
    }

    /// A path that is served and not described would be missed by nobody else.
    #[test]
    fn every_path_of_v1_is_described() {
        let description = Description::openapi();
        let routes = include_str!("routes.rs");
        let (_, routes) = routes.split_once("let api = Router::new()").unwrap();
        let (routes, _) = routes.split_once(';').unwrap();
        let paths: Vec<&str> = routes.split('"').filter(|it| it.starts_with('/')).collect();
        assert!(paths.len() > 10);
        for path in paths {
            let described = description.paths.paths.contains_key(&format!("/v1{path}"));
            assert!(described, "/v1{path}");
        }
    }
}
