//! Commands to devices: the JSON of MQTT in, its answer out.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::access::{Caller, Role};
use super::answers::{Outcome, Taken};
use super::body::read_body;
use super::devices::{bad_query, endpoint_of};
use super::error::{Answer, ApiError, json, json_text};
use super::hub::Waiter;
use super::state::Shared;

/// Seconds to wait for an answer unless the request says another number, and at most.
const USUAL: u64 = 30;
const MOST: u64 = 600;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CommandQuery {
    /// Seconds to wait for an answer; default 30, 0 does not wait.
    #[param(maximum = 600)]
    wait: Option<u64>,
}

/// How long the commands about the queue are waited for, whatever the request says: the gateway
/// answers them itself, and never queues them.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What of a command is looked at here.
#[derive(Debug, Deserialize)]
struct Head<'a> {
    /// `null` is one, too: it comes back as such.
    #[serde(rename = "reqID", borrow, default, deserialize_with = "as_it_is")]
    request_id: Option<&'a RawValue>,
    #[serde(rename = "msgType", borrow, default)]
    kind: Option<&'a RawValue>,
}

impl Head<'_> {
    fn is_about_the_queue(&self) -> bool {
        let kind = self.kind.map(RawValue::get);
        matches!(kind, Some("\"list-queue\"" | "\"cancel\""))
    }
}

fn as_it_is<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// A command, as over MQTT; see docs/mqtt.md.
#[derive(ToSchema)]
#[schema(as = Command)]
#[expect(dead_code, reason = "describes what the bridge reads")]
pub(super) struct Written {
    /// Returned in each answer, like every other member; generated if missing.
    #[schema(rename = "reqID")]
    request_id: Option<serde_json::Value>,
    /// The operation: `read`, `write`, `execute`, `observe` and so on.
    #[schema(rename = "msgType")]
    kind: String,
    /// The operation's arguments: `path`, `value` and so on.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// The answer, as over MQTT; see docs/mqtt.md.
#[derive(ToSchema)]
#[schema(as = Answer)]
#[expect(dead_code, reason = "describes what the bridge writes")]
pub(super) struct Told {
    /// That of the command.
    #[schema(rename = "reqID")]
    request_id: Option<serde_json::Value>,
    /// The command's `msgType`, or `coap_timeout` or `coap_reset`.
    #[schema(rename = "msgType")]
    kind: Option<String>,
    /// `code`, `codeMsg`, `content`, `reason` and so on.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// A command that waits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queued<'a> {
    /// Always `queued`.
    status: &'static str,
    /// Number that the gateway gave the command.
    id: String,
    /// That of the command.
    #[serde(rename = "reqID")]
    #[schema(value_type = serde_json::Value)]
    request_id: &'a RawValue,
}

/// The code of an answer, and whether the gateway gave it.
#[derive(Debug, Deserialize)]
struct Verdict {
    data: VerdictData,
}

#[derive(Debug, Deserialize)]
struct VerdictData {
    code: Option<String>,
    reason: Option<String>,
}

/// `POST /v1/devices/{ep}/commands`: a command to a device.
#[utoipa::path(
    post, path = "/v1/devices/{endpoint}/commands", tag = "devices",
    request_body = Written,
    params(("endpoint" = String, Path, description = "endpoint name"), CommandQuery),
    responses(
        (status = 200, body = Told, description = "the answer of the device, even if it is an error"),
        (status = 202, body = Queued<'_>, description = "the command waits: the device sleeps or has not answered yet"),
        (status = 400, body = serde_json::Value, description = "the command is malformed: an answer with `reason`, or an error"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 403, body = ApiError, description = "the caller's role does not allow this"),
        (status = 404, body = serde_json::Value, description = "the device is not registered"),
        (status = 408, body = ApiError, description = "the body arrived too slowly"),
        (status = 413, body = serde_json::Value, description = "the body or the command is too large"),
        (status = 503, body = serde_json::Value, description = "the gateway is stopping, or a queue is full"),
    )
)]
pub(super) async fn command(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    endpoint: Result<Path<String>, PathRejection>,
    query: Result<Query<CommandQuery>, QueryRejection>,
    body: Body,
) -> Answer {
    caller.needs(Role::Command)?;
    let endpoint = endpoint_of(endpoint)?;
    let Query(query) = query.map_err(|it| bad_query(&it.body_text()))?;
    let wait = query.wait.unwrap_or(USUAL);
    if wait > MOST {
        return Err(bad_query(&format!("wait must be at most {MOST} seconds")));
    }
    let body = read_body(&shared, body).await?;
    let waiter = shared.hub.wait().ok_or_else(ApiError::unavailable)?;
    let number = waiter.number;
    let (payload, request_id, is_about_the_queue) = with_request_id(&body, number)?;
    let mut wait = Duration::from_secs(wait);
    if is_about_the_queue {
        wait = wait.max(AT_ONCE);
    }
    match carry(&shared, &caller, &endpoint, waiter, payload, wait).await? {
        Carried::Answer(payload) => Ok(answered(payload)),
        Carried::Queued | Carried::Late => Ok(json(
            StatusCode::ACCEPTED,
            &Queued {
                status: "queued",
                id: format!("{number:016x}"),
                request_id: &request_id,
            },
        )),
    }
}

/// What came of a command.
pub(super) enum Carried {
    /// The JSON of its answer.
    Answer(Vec<u8>),
    /// The device sleeps, and the command waits for it.
    Queued,
    /// There was no answer in time; it may still come.
    Late,
}

/// Gives a command to its device, and waits for the answer.
pub(super) async fn carry(
    shared: &Shared,
    caller: &Caller,
    endpoint: &str,
    mut waiter: Waiter,
    payload: Vec<u8>,
    wait: Duration,
) -> Answer<Carried> {
    match shared.backend.command(endpoint, payload, waiter.number) {
        Taken::Yes => {}
        Taken::Unknown => return Err(ApiError::unknown_endpoint()),
        Taken::Answered(Some(answer)) => return Ok(Carried::Answer(answer.payload)),
        Taken::Answered(None) => return Err(ApiError::unavailable()),
    }
    info!(target: "audit", by = %caller.name, %endpoint, "command");
    match timeout(wait, &mut waiter.outcome).await {
        Ok(Ok(Outcome::Answer(payload))) => Ok(Carried::Answer(payload)),
        Ok(Ok(Outcome::Queued)) => Ok(Carried::Queued),
        // The shard has lost it.
        Ok(Err(_)) => Err(ApiError::unavailable()),
        Err(_) => Ok(Carried::Late),
    }
}

/// The command with a `reqID`, made where it has none, the JSON text of that, and whether the command
/// is about the queue.
fn with_request_id(body: &[u8], number: u64) -> Answer<(Vec<u8>, Box<RawValue>, bool)> {
    let wrong = |detail: String| ApiError::bad_request("bad_json", detail);
    let text = std::str::from_utf8(body).map_err(|error| wrong(error.to_string()))?;
    let start = text.trim_start();
    let Some(members) = start.strip_prefix('{') else {
        return Err(wrong("a command must be a JSON object".to_owned()));
    };
    let head: Head<'_> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if let Some(id) = head.request_id {
        return Ok((body.to_vec(), id.to_owned(), head.is_about_the_queue()));
    }
    let id = format!("\"http-{number:016x}\"");
    let comma = if members.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    let payload = format!("{{\"reqID\":{id}{comma}{members}");
    let id = RawValue::from_string(id).map_err(|error| wrong(error.to_string()))?;
    Ok((payload.into_bytes(), id, head.is_about_the_queue()))
}

/// The answer as it is, with the status that says whose fault it is: what a device says, whatever
/// it is, was brought to the one who asked.
fn answered(payload: Vec<u8>) -> axum::response::Response {
    let verdict = serde_json::from_slice::<Verdict>(&payload);
    let status = verdict.map_or(StatusCode::OK, |verdict| status_of(&verdict.data));
    json_text(status, payload)
}

fn status_of(verdict: &VerdictData) -> StatusCode {
    let Some(reason) = verdict.reason.as_deref() else {
        return StatusCode::OK;
    };
    match (reason, verdict.code.as_deref()) {
        ("not_registered" | "no_such_command", _) => StatusCode::NOT_FOUND,
        (_, Some("4.00")) => StatusCode::BAD_REQUEST,
        (_, Some("4.13")) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Some("5.03")) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_made_where_there_is_none() {
        let with = |text: &str| {
            let (payload, id, _) = with_request_id(text.as_bytes(), 255).unwrap();
            (String::from_utf8(payload).unwrap(), id.get().to_owned())
        };
        let made = "\"http-00000000000000ff\"".to_owned();
        assert_eq!(with("{}"), (format!("{{\"reqID\":{made}}}"), made.clone()));
        assert_eq!(
            with(" {\"a\":1.0}"),
            (format!("{{\"reqID\":{made},\"a\":1.0}}"), made)
        );
        let own = r#"{"reqID": 7 ,"a":1}"#;
        assert_eq!(with(own), (own.to_owned(), "7".to_owned()));
        let null = r#"{"reqID":null}"#;
        assert_eq!(with(null), (null.to_owned(), "null".to_owned()));
        for wrong in ["", "[]", "{", "{\"a\":}", "7", "{} {}"] {
            assert!(with_request_id(wrong.as_bytes(), 1).is_err(), "{wrong}");
        }
        assert!(with_request_id(b"{\"a\":\"\xff\"}", 1).is_err());
    }

    #[test]
    fn commands_about_the_queue_are_known() {
        for (text, is) in [
            (r#"{"msgType":"list-queue"}"#, true),
            (r#"{"reqID":1,"msgType": "cancel" ,"data":{}}"#, true),
            (r#"{"msgType":"read"}"#, false),
            (r#"{"msgType":["cancel"]}"#, false),
            ("{}", false),
        ] {
            assert_eq!(with_request_id(text.as_bytes(), 1).unwrap().2, is, "{text}");
        }
    }

    #[test]
    fn the_status_says_whose_fault_it_is() {
        let status = |text: &str| answered(text.as_bytes().to_vec()).status().as_u16();
        assert_eq!(
            status(r#"{"data":{"code":"4.00","codeMsg":"bad_request"}}"#),
            200
        );
        assert_eq!(
            status(r#"{"data":{"code":"4.00","reason":"missing_path"}}"#),
            400
        );
        assert_eq!(
            status(r#"{"data":{"code":"4.04","reason":"not_registered"}}"#),
            404
        );
        assert_eq!(
            status(r#"{"data":{"code":"5.03","reason":"queue_full"}}"#),
            503
        );
        assert_eq!(status(r#"{"data":{"reqPath":"/3"}}"#), 200);
    }
}
