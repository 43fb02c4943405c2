//! What Leshan answers instead of what was asked for.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::error::ApiError;

/// What goes wrong: a status and a sentence, as Leshan answers.
#[derive(Debug)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

pub(super) type Reply = Result<Response, Refused>;

impl Refused {
    pub(super) fn invalid(detail: impl std::fmt::Display) -> Self {
        let detail = format!("Invalid request: {detail}");
        Self(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn unknown(endpoint: &str) -> Self {
        let detail = format!("no registered client with id '{endpoint}'");
        Self(StatusCode::BAD_REQUEST, detail)
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error.status, error.detail)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.0, kind, self.1).into_response()
    }
}
