//! What comes with a request.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use super::error::{Answer, ApiError};
use super::state::Shared;

/// How long the body of a request may take.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The body of a request, of bounded size and time.
pub(super) async fn read_body(shared: &Shared, body: Body) -> Answer<Bytes> {
    let most = shared.settings.max_body;
    let body = Limited::new(body, most).collect();
    match timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is larger than {most} bytes (http.max_body)");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Err(ApiError::new(status, "too_large", detail))
        }
        Ok(Err(error)) => Err(ApiError::bad_request("bad_body", error.to_string())),
        Err(_) => {
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(ApiError::new(
                status,
                "too_slow",
                "the body came too slowly",
            ))
        }
    }
}
