//! Every route with who may use it. One that does not stand here is not served.

use super::caller::Role;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Everybody: it tells nothing of the gateway, or only that it runs.
    Nothing,
    /// Who has this role, or one that includes it.
    Role(Role),
    /// `read`, unless `http.metrics_public`.
    Metrics,
}

const ANYBODY: Need = Need::Nothing;
const READ: Need = Need::Role(Role::Read);
const COMMAND: Need = Need::Role(Role::Command);
const ADMIN: Need = Need::Role(Role::Admin);

/// Method, path as the router has it, need. `HEAD` is like `GET`.
pub(super) const ROUTES: &[(&str, &str, Need)] = &[
    ("GET", "/", ANYBODY),
    ("GET", "/console/{file}", ANYBODY),
    ("GET", "/healthz", ANYBODY),
    ("GET", "/readyz", ANYBODY),
    ("GET", "/metrics", Need::Metrics),
    ("GET", "/api/clients", READ),
    ("GET", "/api/clients/", READ),
    ("GET", "/api/clients/{endpoint}", READ),
    ("GET", "/api/clients/{endpoint}/{*path}", COMMAND),
    ("PUT", "/api/clients/{endpoint}/{*path}", COMMAND),
    ("POST", "/api/clients/{endpoint}/{*path}", COMMAND),
    ("DELETE", "/api/clients/{endpoint}/{*path}", COMMAND),
    ("GET", "/api/event", READ),
    ("GET", "/api/security/clients", ADMIN),
    ("GET", "/api/security/clients/", ADMIN),
    ("PUT", "/api/security/clients", ADMIN),
    ("PUT", "/api/security/clients/", ADMIN),
    ("DELETE", "/api/security/clients/{endpoint}", ADMIN),
    ("GET", "/v1/about", READ),
    ("GET", "/v1/config", READ),
    ("GET", "/v1/devices", READ),
    ("GET", "/v1/devices/{endpoint}", READ),
    ("DELETE", "/v1/devices/{endpoint}", ADMIN),
    ("POST", "/v1/devices/{endpoint}/commands", COMMAND),
    ("GET", "/v1/events", READ),
    ("GET", "/v1/keys", ADMIN),
    ("POST", "/v1/keys", ADMIN),
    ("PUT", "/v1/keys/{identity}", ADMIN),
    ("DELETE", "/v1/keys/{identity}", ADMIN),
    ("GET", "/v1/log", ADMIN),
    ("GET", "/v1/log/events", ADMIN),
    ("GET", "/v1/objects", READ),
    ("GET", "/v1/objects/{id}", READ),
    ("GET", "/v1/openapi.json", READ),
    ("POST", "/v1/session", READ),
    ("DELETE", "/v1/session", READ),
    ("GET", "/v1/stats", READ),
];

/// What a route needs; `None` where there is none of this method.
pub(super) fn need(method: &str, path: &str) -> Option<Need> {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut routes = ROUTES.iter();
    let found = routes.find(|route| route.0 == method && route.1 == path);
    found.map(|route| route.2)
}

/// Whether the path is served by any method.
pub(super) fn is_path(path: &str) -> bool {
    ROUTES.iter().any(|route| route.1 == path)
}
