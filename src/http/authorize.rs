//! Who sends a request and whether such may; a line in the log for each that wants something changed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::info;

use super::caller::{Caller, Role, Sender};
use super::error::{Answer, ApiError};
use super::places::{Place, Working};
use super::roles::{self, Need};
use super::state::Shared;

/// Bytes of a path in the log.
const SHOWN: usize = 300;

/// Stands before every route.
pub(super) async fn authorize(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let Some(path) = path else {
        // Of no route.
        return next.run(request).await;
    };
    let Some(need) = roles::need(request.method().as_str(), path.as_str()) else {
        return match roles::is_path(path.as_str()) {
            true => ApiError::wrong_method().into_response(),
            false => ApiError::not_found().into_response(),
        };
    };
    if need == Need::Nothing || (need == Need::Metrics && shared.settings.metrics_public) {
        return next.run(request).await;
    }
    let mut audit = Audit::of(&request);
    let from = address(&request);
    let response = match admit(&shared, need, request.headers(), from).await {
        Ok(caller) => {
            if let Some(audit) = &mut audit {
                audit.by = Some(caller.clone());
            }
            // A stranger's request does not keep its place.
            let place = request.extensions().get::<Arc<Place>>();
            let work = place.map(Place::work);
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            response.map(|body| Body::new(Working::new(body, work)))
        }
        Err(error) => error.into_response(),
    };
    if let Some(audit) = &mut audit {
        audit.status = Some(response.status());
    }
    response
}

async fn admit(shared: &Shared, need: Need, headers: &HeaderMap, from: IpAddr) -> Answer<Caller> {
    if *shared.stopping.borrow() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err(ApiError::new(status, "stopping", "the gateway is stopping"));
    }
    check_site(headers)?;
    let caller = shared.access.caller(headers, from).await?;
    let role = match need {
        Need::Role(role) => role,
        Need::Nothing | Need::Metrics => Role::Read,
    };
    if let Err(error) = caller.needs(role) {
        info!(target: "audit", by = &*caller.name, %from, role = caller.role.name(), needs = role.name(), "refused");
        return Err(error);
    }
    Ok(caller)
}

/// Browsers say where a request comes from (Fetch Metadata): of a stranger's page none is answered,
/// whatever the browser knows of its user.
fn check_site(headers: &HeaderMap) -> Answer<()> {
    let site = headers.get("sec-fetch-site").map(|it| it.as_bytes());
    match site {
        Some(b"cross-site") => {
            let detail = "a page of another site may not send this request";
            Err(ApiError::forbidden("foreign_origin", detail))
        }
        _ => Ok(()),
    }
}

/// Whose connection it is.
fn address(request: &Request) -> IpAddr {
    let sender = request.extensions().get::<Sender>();
    sender.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |sender| sender.0)
}

/// The line of a request that wants something changed. It is written when the request has ended,
/// however it does: the sender may be gone before there is an answer.
struct Audit {
    from: IpAddr,
    method: Method,
    path: String,
    by: Option<Caller>,
    status: Option<StatusCode>,
}

impl Audit {
    fn of(request: &Request) -> Option<Self> {
        let method = request.method();
        if method == Method::GET || method == Method::HEAD {
            return None;
        }
        let path = request.uri().path();
        let end = path.floor_char_boundary(SHOWN);
        Some(Self {
            from: address(request),
            method: method.clone(),
            path: path.get(..end).unwrap_or_default().to_owned(),
            by: None,
            status: None,
        })
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // Who is not known is not worth a line: anybody can make those.
        let Some(by) = &self.by else {
            return;
        };
        info!(
            target: "audit",
            by = &*by.name,
            from = %self.from,
            method = %self.method,
            path = self.path,
            status = self.status.map(|it| it.as_u16()),
            "request"
        );
    }
}
