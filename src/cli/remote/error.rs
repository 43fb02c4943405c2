//! Why a command that asks the gateway did not succeed, for people and as an exit code.

use std::process::ExitCode;

/// Why there is no success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody answers at the URL.
    #[error(
        "no gateway answers at {url}: {why}\nIs it running with --http or http.bind? Use --url for another address"
    )]
    Unreachable { url: String, why: String },
    /// The gateway wants a token, or another one.
    #[error("{0}")]
    Token(String),
    /// No device of this name.
    #[error("no device {endpoint:?} is registered{}", names(.near))]
    UnknownEndpoint { endpoint: String, near: Vec<String> },
    /// The device or the gateway refused a command; it has been shown already.
    #[error("{0}")]
    Refused(String),
    /// The command waits for a sleeping device; that has been shown already.
    #[error("{0}")]
    Queued(String),
    /// All else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// What to say of it on standard error.
    pub(super) fn text(&self) -> Option<String> {
        let text = self.to_string();
        (!text.is_empty()).then_some(text)
    }

    /// What the process ends with; documented in the help and in `docs/console.md`.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Other(_) => 1,
            Self::Unreachable { .. } => 3,
            Self::Token(_) => 4,
            Self::UnknownEndpoint { .. } => 5,
            Self::Refused(_) => 6,
            Self::Queued(_) => 7,
        })
    }
}

fn names(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(", ")),
    }
}
