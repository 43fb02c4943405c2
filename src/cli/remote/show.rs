//! `show`: one device.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::access::Access;
use super::client::Client;
use super::error::Failure;
use super::table::span;
use crate::cli::say;
use crate::printable::Printable;

/// Which device.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Its endpoint name
    endpoint: String,
    #[command(flatten)]
    access: Access,
}

pub(super) fn show(options: &Options) -> Result<(), Failure> {
    let client = Client::new(&options.access)?;
    let device = client.get_device(&options.endpoint)?;
    if client.json {
        say::json(&device);
        return Ok(());
    }
    let now = now();
    let ago = |name| span(now.saturating_sub(number(&device, name)) / 1000);
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            say::out(format_args!("{name:<14}{}", Printable(value)));
        }
    };
    line("endpoint", &text(&device, "endpoint"));
    line("state", &text(&device, "state"));
    line("address", &text(&device, "peer"));
    line("listener", &text(&device, "listener"));
    line("identity", &text(&device, "identity"));
    line("mountpoint", &text(&device, "mountpoint"));
    line("LwM2M", &text(&device, "version"));
    let queue_mode = device.get("queue_mode").and_then(Value::as_bool);
    line(
        "queue mode",
        if queue_mode == Some(true) {
            "yes"
        } else {
            "no"
        },
    );
    line("registered", &format!("{} ago", ago("registered_at")));
    line("last seen", &format!("{} ago", ago("last_seen")));
    let left = number(&device, "expires_at").saturating_sub(now) / 1000;
    let lifetime = span(number(&device, "lifetime"));
    line("lifetime", &format!("{lifetime}, {} left", span(left)));
    if let Some(dtls) = device.get("dtls").filter(|dtls| !dtls.is_null()) {
        line("DTLS", &protection(dtls, now));
    }
    line("objects", &list(&device, "objects").join(" "));
    let observed = device.get("observations_list").and_then(Value::as_array);
    for one in observed.into_iter().flatten() {
        line("observed", &observed_since(one, now));
    }
    let queue = device.get("queue").and_then(Value::as_array);
    for one in queue.into_iter().flatten() {
        line(
            "waits",
            &format!("{} {}", text(one, "msgType"), subject(one)),
        );
    }
    let answers = device.get("last_answers").and_then(Value::as_array);
    for one in answers.into_iter().flatten() {
        line("answered", &answered(one, now));
    }
    let counters = device.get("counters").and_then(Value::as_object);
    for (name, n) in counters.into_iter().flatten() {
        line(&name.replace('_', " "), &n.to_string());
    }
    Ok(())
}

fn protection(dtls: &Value, now: u64) -> String {
    let mut shown = text(dtls, "suite");
    if dtls.get("connection_id") == Some(&Value::Bool(true)) {
        shown.push_str(", connection id");
    }
    if dtls.get("certificate") == Some(&Value::Bool(true)) {
        shown.push_str(", certificate");
    }
    let since = number(dtls, "since");
    if since > 0 {
        shown.push_str(&format!(", for {}", span(now.saturating_sub(since) / 1000)));
    }
    shown
}

fn observed_since(one: &Value, now: u64) -> String {
    let mut shown = subject(one);
    if one.get("notifications").is_some() {
        let count = number(one, "notifications");
        shown.push_str(&format!("  {count} notifications"));
    }
    let last = number(one, "last_at");
    if last > 0 {
        let ago = span(now.saturating_sub(last) / 1000);
        shown.push_str(&format!(", the last {ago} ago"));
    }
    shown
}

fn answered(one: &Value, now: u64) -> String {
    let what = [text(one, "msgType"), subject(one)].join(" ");
    let verdict = [text(one, "code"), text(one, "failure")].join("");
    let took = number(one, "took_ms");
    let ago = span(now.saturating_sub(number(one, "at")) / 1000);
    format!("{what}  {verdict} after {took} ms, {ago} ago")
}

/// What a command or an observation is about: its path or paths.
pub(super) fn subject(one: &Value) -> String {
    match one.get("path").and_then(Value::as_str) {
        Some(path) => path.to_owned(),
        None => list(one, "paths").join(" "),
    }
}

fn list(of: &Value, name: &str) -> Vec<String> {
    let list = of.get(name).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// A member as text; nothing where there is none.
pub(super) fn text(of: &Value, name: &str) -> String {
    match of.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A member as a number; zero where there is none.
pub(super) fn number(of: &Value, name: &str) -> u64 {
    of.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
