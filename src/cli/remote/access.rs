//! Where the gateway is that is asked.

use std::path::PathBuf;

/// Where the gateway is, and how answers are written.
#[derive(Debug, clap::Args)]
pub(crate) struct Access {
    /// URL of the gateway's HTTP API: http:// or https://
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(super) url: String,
    /// File with the token [default: the environment variable LWM2M_GATEWAY_HTTP_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Log in with this user and a password instead of a token
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub(super) user: Option<String>,
    /// File with the password [default: the environment variable LWM2M_GATEWAY_HTTP_PASSWORD, or a
    /// prompt]
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(super) password_file: Option<PathBuf>,
    /// CAs (PEM) to trust for https:// [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub(super) cacert: Option<PathBuf>,
    /// Print JSON, for scripts: one document, or one per line if there are several
    #[arg(long)]
    pub(super) json: bool,
}
