//! The end of the gateway's log: `/v1/log`.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::Level;
use utoipa::{IntoParams, ToSchema};

use super::devices::bad_query;
use super::error::{Answer, ApiError, json};
use super::sse::Pieces;
use super::state::Shared;
use crate::telemetry::{LogLine, ring};

/// Lines unless the request says another number, and at most.
const USUAL: usize = 200;
const MOST: usize = 2000;

/// How often a follower is told what is new, and of how many lines at a time.
const LOOK: Duration = Duration::from_millis(500);
const IN_ONE: usize = 200;

/// Looks between two comments that show that the connection is there.
const HEARTBEAT: u32 = 10;

/// Followers at a time.
pub(super) const FOLLOWERS: usize = 16;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Most lines to return; default 200.
    #[param(maximum = 2000)]
    lines: Option<usize>,
    /// Least severe level to return: error, warn, info, debug or trace.
    level: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowQuery {
    /// Number of the last line already received.
    after: Option<u64>,
    /// Least severe level to return: error, warn, info, debug or trace.
    level: Option<String>,
}

/// A line of the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(super) struct Line {
    /// Increases by one with each line.
    number: u64,
    /// Milliseconds since 1970.
    at: u64,
    level: &'static str,
    /// Part of the program that wrote the line.
    target: &'static str,
    text: String,
}

/// The last lines, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Log)]
pub(super) struct Lines {
    lines: Vec<Line>,
}

impl From<LogLine> for Line {
    fn from(line: LogLine) -> Self {
        Self {
            number: line.number,
            at: line.at,
            level: line.level.as_str(),
            target: line.target,
            text: line.text,
        }
    }
}

/// `GET /v1/log`: the last lines, oldest first.
#[utoipa::path(
    get, path = "/v1/log", tag = "gateway",
    params(LogQuery),
    responses(
        (status = 200, body = Lines, description = "the last lines"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn last(query: Result<Query<LogQuery>, QueryRejection>) -> Answer {
    let Query(query) = query.map_err(|it| bad_query(&it.body_text()))?;
    let most = query.lines.unwrap_or(USUAL);
    if most > MOST {
        return Err(bad_query(&format!("lines must be at most {MOST}")));
    }
    let lines = ring().last(most, level(query.level.as_deref())?);
    let lines = lines.into_iter().map(Line::from).collect();
    Ok(json(StatusCode::OK, &Lines { lines }))
}

/// `GET /v1/log/events`: new lines as they are written, beginning after line `after`.
#[utoipa::path(
    get, path = "/v1/log/events", tag = "events",
    params(FollowQuery),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "a stream of lines"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn follow(
    State(shared): State<Shared>,
    query: Result<Query<FollowQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|it| bad_query(&it.body_text()))?;
    let level = level(query.level.as_deref())?;
    let place = shared.log_followers.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        ApiError::new(
            status,
            "too_many_listeners",
            "too many clients follow the log",
        )
    })?;
    // Numbers begin at 1 again when the gateway does.
    let end = ring().number();
    let after = query.after.filter(|after| *after <= end).unwrap_or(end);
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        pass_on(after, level, shared, to).await;
        drop(place);
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::new(Pieces(from))).into_response())
}

/// Writes lines until the client or the gateway is gone.
async fn pass_on(mut after: u64, level: Level, shared: Shared, to: mpsc::Sender<Bytes>) {
    let mut stopping = shared.stopping.clone();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = HEARTBEAT;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            _ = stopping.wait_for(|it| *it) => return,
            () = to.closed() => return,
        }
        let (lines, lost) = ring().after(after, IN_ONE);
        let mut piece = String::new();
        if lost > 0 {
            piece.push_str(&format!("event: lost\ndata: {{\"count\":{lost}}}\n\n"));
        }
        for line in lines {
            after = line.number;
            if line.level > level {
                continue;
            }
            let data = serde_json::to_string(&Line::from(line)).unwrap_or_default();
            piece.push_str(&format!("event: line\nid: {after}\ndata: {data}\n\n"));
        }
        silent += 1;
        if piece.is_empty() && silent >= HEARTBEAT {
            piece.push_str(":\n\n");
        }
        if piece.is_empty() {
            continue;
        }
        silent = 0;
        tokio::select! {
            sent = to.send(piece.into()) => if sent.is_err() { return },
            _ = stopping.wait_for(|it| *it) => return,
        }
    }
}

fn level(name: Option<&str>) -> Answer<Level> {
    match name {
        None => Ok(Level::TRACE),
        Some("error") => Ok(Level::ERROR),
        Some("warn") => Ok(Level::WARN),
        Some("info") => Ok(Level::INFO),
        Some("debug") => Ok(Level::DEBUG),
        Some("trace") => Ok(Level::TRACE),
        Some(_) => Err(bad_query("level must be error, warn, info, debug or trace")),
    }
}
