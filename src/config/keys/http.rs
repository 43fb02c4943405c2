//! The HTTP API.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::key::{Key, MB, key};
use crate::config::schema::Config;
use crate::config::value::{self, Parsed};

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "http.bind",
        http.bind,
        text_by(
            || "address".to_owned(),
            |from| value::address(from, IpAddr::V4(Ipv4Addr::LOCALHOST)).map(Some),
            |it| it.map_or_else(|| "none".to_owned(), |it| value::quoted(&it))
        ),
        "Address of the HTTP API and its console; a port alone means 127.0.0.1. Without it they are off. See [http.md](http.md)."
    ),
    key!(
        "http.token_file",
        http.token_file,
        optional_text,
        "File that contains only the token for the API (`Authorization: Bearer …`). Its role is `admin`: it may do everything. The environment variable `LWM2M_GATEWAY_HTTP_TOKEN` does the same. Without a token or users, `http.bind` must be a loopback address, and anyone who can reach it may do everything."
    ),
    key!(
        "http.users_file",
        http.users_file,
        optional_text,
        "File of users of the API, one per line: `name:role:hash`, created by `lwm2m-gateway http-user`. Roles: `read` sees everything except secrets, `command` may also send commands to devices, `admin` may also change keys, end registrations and read the log. The hash is an argon2 hash."
    ),
    key!(
        "http.certfile",
        http.certfile,
        optional_text,
        "PEM file with the certificate of the API and its chain. The API then accepts only HTTPS (TLS 1.2 and 1.3). Reloaded when it changes."
    ),
    key!(
        "http.keyfile",
        http.keyfile,
        optional_text,
        "PEM file of its private key."
    ),
    key!(
        "http.allowed_hosts",
        http.allowed_hosts,
        by(
            || "list of strings".to_owned(),
            hosts,
            |_| "none".to_owned()
        ),
        "Host names that requests to a loopback address may use, in addition to `localhost` and IP addresses; needed for a proxy on this machine that passes its own name on. Others are refused to prevent DNS rebinding."
    ),
    key!(
        "http.frame_ancestors",
        http.frame_ancestors,
        by(
            || "list of origins".to_owned(),
            origins,
            |_| "none".to_owned()
        ),
        "Origins of web pages that may show the console in a frame, such as `https://emqx.example.org:18084`. A page that frames the console can trick its user into clicking there, so list only pages that you trust. See [emqx.md](emqx.md#in-emqxs-dashboard)."
    ),
    key!(
        "http.max_body",
        http.max_body,
        size(1 << 10, 64 * MB),
        "Largest body of a request to the API. A firmware image in a command needs more than the default."
    ),
    key!(
        "http.metrics_public",
        http.metrics_public,
        flag,
        "Whether `/metrics` needs no token or login."
    ),
    key!(
        "http.leshan_api",
        http.leshan_api,
        flag,
        "Whether to serve the paths and JSON of Eclipse Leshan's demo server below `/api`, for scripts and test suites written for it. See [http.md](http.md#leshans-paths)."
    ),
    key!(
        "http.max_connections",
        http.max_connections,
        integer(1, 100_000),
        "Most connections to the API at the same time. A further one replaces the one that has been idle longest; it is closed when all others have requests under way."
    ),
];

fn hosts(from: &Value) -> Parsed<Vec<String>> {
    let Value::Array(list) = from else {
        return Err("expected a list of strings".to_owned());
    };
    list.iter().map(value::filled_text).collect()
}

/// So many origins, since each answer of the console names them.
const MAX_ORIGINS: usize = 16;

/// Only what a header can carry and a browser compares: no wildcards, no paths.
fn origins(from: &Value) -> Parsed<Vec<String>> {
    let list = hosts(from)?;
    if list.len() > MAX_ORIGINS {
        return Err(format!("at most {MAX_ORIGINS} origins are possible"));
    }
    match list.iter().find(|it| !is_origin(it)) {
        None => Ok(list),
        Some(other) => Err(format!(
            "{other:?} is not an origin such as https://emqx.example.org:18084"
        )),
    }
}

fn is_origin(text: &str) -> bool {
    let Some(authority) = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
    else {
        return false;
    };
    let (host, port) = authority
        .split_once(':')
        .map_or((authority, None), |(host, port)| (host, Some(port)));
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-');
    let digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    (1..=253).contains(&host.len())
        && host.chars().all(plain)
        && port.is_none_or(|it| digits(it) && it.parse::<u16>().is_ok_and(|it| it > 0))
}
