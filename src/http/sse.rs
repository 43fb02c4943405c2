//! Events as they happen: Server-Sent Events.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as HttpBody, Frame};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use utoipa::IntoParams;

use super::access::{Caller, Role};
use super::devices::{bad_query, check_pattern};
use super::error::{Answer, ApiError};
use super::events::{Event, Kind, Subscription, Wanted};
use super::state::Shared;

/// Between two comments that show that the connection is there.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Events put into one piece at most.
const IN_ONE: usize = 64;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Endpoint names: `*` is any text, `?` one character.
    #[param(max_length = 255)]
    endpoint: Option<String>,
    /// Kinds separated by commas: registered, updated, awake, asleep, gone, notify, send, answer,
    /// coap; default: all except `coap`.
    kinds: Option<String>,
}

/// `GET /v1/events`: events as they happen, as Server-Sent Events.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(EventsQuery),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "a stream of events"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn events(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer {
    caller.needs(Role::Read)?;
    let Query(query) = query.map_err(|it| bad_query(&it.body_text()))?;
    check_pattern(query.endpoint.as_deref())?;
    let kinds = kinds(query.kinds.as_deref())?;
    if kinds & Kind::Coap.bit() != 0 {
        // Messages show what is written to a device.
        caller.needs(Role::Command)?;
        let exact = |name: &String| !name.contains(['*', '?']);
        if !query.endpoint.as_ref().is_some_and(exact) {
            let detail = "coap events are for one device: give its endpoint, without * and ?";
            return Err(bad_query(detail));
        }
    }
    let wanted = Wanted {
        endpoint: query.endpoint,
        kinds,
    };
    let subscription = shared.hub.events.listen(wanted).ok_or_else(|| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        ApiError::new(
            status,
            "too_many_listeners",
            "too many clients listen to events",
        )
    })?;
    Ok(stream(subscription, shared, put))
}

/// Events as a body that comes by and by, each as `put` writes it.
pub(super) fn stream(
    subscription: Subscription,
    shared: Shared,
    put: impl FnMut(&mut Vec<u8>, &Event) + Send + 'static,
) -> Response {
    // What is not taken from here stays where it is dropped when it is too much.
    let (to, from) = mpsc::channel(1);
    tokio::spawn(pass_on(subscription, shared, to, put));
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::new(Pieces(from))).into_response()
}

/// The bits of the kinds that are named; all but `coap` when none is.
fn kinds(names: Option<&str>) -> Answer<u16> {
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        let all = Kind::ALL.iter().filter(|kind| **kind != Kind::Coap);
        return Ok(all.fold(0, |bits, kind| bits | kind.bit()));
    };
    let mut bits = 0;
    for name in names.split(',') {
        let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| {
            let all: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            bad_query(&format!("kinds must be from {}", all.join(", ")))
        })?;
        bits |= kind.bit();
    }
    Ok(bits)
}

/// Writes events until the client or the gateway is gone.
async fn pass_on(
    mut subscription: Subscription,
    shared: Shared,
    to: mpsc::Sender<Bytes>,
    mut put: impl FnMut(&mut Vec<u8>, &Event),
) {
    let mut stopping = shared.stopping.clone();
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut piece = Vec::new();
        tokio::select! {
            event = subscription.next() => match event {
                Some(event) => put(&mut piece, &event),
                None => return,
            },
            _ = heartbeat.tick() => piece.extend_from_slice(b":\n\n"),
            _ = stopping.wait_for(|it| *it) => return,
            () = to.closed() => return,
        }
        for _ in 0..IN_ONE {
            match subscription.ready() {
                Some(event) => put(&mut piece, &event),
                None => break,
            }
        }
        let lost = subscription.lost();
        if lost > 0 {
            let text = format!("event: lost\ndata: {{\"count\":{lost}}}\n\n");
            piece.extend_from_slice(text.as_bytes());
        }
        tokio::select! {
            sent = to.send(piece.into()) => if sent.is_err() { return },
            _ = stopping.wait_for(|it| *it) => return,
        }
    }
}

fn put(piece: &mut Vec<u8>, event: &Event) {
    let head = format!("event: {}\nid: {}\ndata: ", event.kind.name(), event.id);
    piece.extend_from_slice(head.as_bytes());
    piece.extend_from_slice(&event.data);
    piece.extend_from_slice(b"\n\n");
}

/// A body in pieces that come by and by.
pub(super) struct Pieces(pub(super) mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
