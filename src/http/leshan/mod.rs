//! The paths and the JSON of Eclipse Leshan's demo server, for scripts and test suites that drive a
//! server by them: `http.leshan_api`. Everything goes through the commands and events of `/v1`.

mod answers;
mod clients;
mod events;
mod nodes;
mod refused;
mod requests;
mod security;
mod written;

use axum::Router;
use axum::routing::get;

use super::state::Shared;

/// What is served below `/api`.
pub(super) fn router() -> Router<Shared> {
    let delayed = requests::Delayed::default();
    Router::new()
        .route("/clients", get(clients::list))
        .route("/clients/", get(clients::list))
        .route("/clients/{endpoint}", get(clients::show))
        .route(
            "/clients/{endpoint}/{*path}",
            get(requests::get)
                .put(requests::put)
                .post(requests::post)
                .delete(requests::delete),
        )
        .route("/event", get(events::events))
        .route("/security/clients", get(security::list).put(security::put))
        .route("/security/clients/", get(security::list).put(security::put))
        .route(
            "/security/clients/{endpoint}",
            axum::routing::delete(security::remove),
        )
        .layer(axum::Extension(delayed))
}
