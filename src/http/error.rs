//! What the API answers instead of what was asked for.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Error)]
pub(super) struct ApiError {
    #[serde(skip)]
    pub(super) status: StatusCode,
    /// Code, for programs.
    error: &'static str,
    /// Explanation, for people.
    pub(super) detail: String,
    /// Seconds after which it may be tried again.
    #[serde(skip)]
    retry: Option<u64>,
}

pub(super) type Answer<T = Response> = Result<T, ApiError>;

impl ApiError {
    pub(super) fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            error,
            detail: detail.into(),
            retry: None,
        }
    }

    /// Nothing was looked at: there were too many wrong passwords.
    pub(super) fn pause(seconds: u64) -> Self {
        let detail = format!("too many wrong passwords from this address: wait {seconds} seconds");
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut error = Self::new(status, "too_many_failures", detail);
        error.retry = Some(seconds);
        error
    }

    pub(super) fn bad_request(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, detail)
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path",
        )
    }

    pub(super) fn wrong_method() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(
            status,
            "method_not_allowed",
            "this path does not accept this method",
        )
    }

    pub(super) fn unknown_endpoint() -> Self {
        let detail = "no device with this name is registered";
        Self::new(StatusCode::NOT_FOUND, "unknown_endpoint", detail)
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send a token (Authorization: Bearer TOKEN), or a user and password";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(super) fn forbidden(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error, detail)
    }

    pub(super) fn unavailable() -> Self {
        let detail = "the gateway did not answer in time";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self);
        if let Some(seconds) = self.retry {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // Not `Basic`: browsers would ask by themselves, and send along with every request,
            // also one of a stranger's page, what they are told.
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A response of JSON.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => json_text(status, body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A response of text that is JSON already.
pub(super) fn json_text(status: StatusCode, body: Vec<u8>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body).into_response()
}
