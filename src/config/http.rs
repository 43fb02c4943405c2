//! The HTTP API.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `http.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `http.bind`: where the API and its console are served; `None`: nowhere, the default.
    pub bind: Option<SocketAddr>,
    /// `http.token_file`: file with the token that may do everything.
    pub token_file: Option<PathBuf>,
    /// `http.users_file`: file with users, their roles and the hashes of their passwords.
    pub users_file: Option<PathBuf>,
    /// `http.certfile`: PEM file of the server's certificate and those between it and its authority;
    /// `None`: HTTP without TLS.
    pub certfile: Option<PathBuf>,
    /// `http.keyfile`: PEM file of its private key.
    pub keyfile: Option<PathBuf>,
    /// `http.allowed_hosts`: names by which clients may call the API at a loopback address, beside
    /// `localhost` and addresses.
    pub allowed_hosts: Vec<String>,
    /// `http.frame_ancestors`: origins of pages that may show the console in a frame; none by default.
    pub frame_ancestors: Vec<String>,
    /// `http.max_body`: bytes of the body of a request. Default 64 kB.
    pub max_body: usize,
    /// `http.metrics_public`: whether `/metrics` needs no token. Default no.
    pub metrics_public: bool,
    /// `http.leshan_api`: whether Leshan's paths are served below `/api`. Default no.
    pub leshan_api: bool,
    /// `http.max_connections`: connections at a time. Default 256.
    pub max_connections: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            bind: None,
            token_file: None,
            users_file: None,
            certfile: None,
            keyfile: None,
            allowed_hosts: Vec::new(),
            frame_ancestors: Vec::new(),
            max_body: 64 << 10,
            metrics_public: false,
            leshan_api: false,
            max_connections: 256,
        }
    }
}
