//! `devices`: who is registered.

use serde_json::Value;

use super::access::Access;
use super::client::{Client, encoded};
use super::error::Failure;
use super::show::{now, number, text};
use super::table::{Table, span};
use crate::cli::say;

/// Which devices.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Endpoint names, with wildcards * and ?, or a part of a name
    pattern: Option<String>,
    /// Only devices with this object or object instance (3303 or /3303/0)
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// Only devices that are awake, or asleep
    #[arg(long, value_name = "STATE", value_parser = ["online", "asleep"])]
    state: Option<String>,
    /// Only devices of this listener, such as udp:default
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Show at most this many; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    access: Access,
}

pub(super) fn list(options: &Options) -> Result<(), Failure> {
    let client = Client::new(&options.access)?;
    let most = match options.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let mut table = Table::new(&[
        "ENDPOINT", "STATE", "ADDRESS", "OBJECTS", "QUEUED", "SEEN", "ENDS IN",
    ]);
    let mut shown = 0;
    let mut cursor: Option<String> = None;
    let now = now();
    loop {
        let path = path(options, most - shown, cursor.as_deref());
        let page: Value = client.get(&path)?;
        let devices = page.get("devices").and_then(Value::as_array);
        for device in devices.into_iter().flatten() {
            if client.json {
                say::json(device);
            } else {
                table.row(row(device, now));
            }
            shown += 1;
        }
        cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() || shown >= most {
            break;
        }
    }
    if client.json {
        return Ok(());
    }
    if shown == 0 {
        say::out("no registered device matches");
        return Ok(());
    }
    table.print();
    if cursor.is_some() {
        say::out(format_args!("… and more: --limit 0 shows all"));
    }
    Ok(())
}

fn path(options: &Options, limit: usize, cursor: Option<&str>) -> String {
    let mut path = format!("v1/devices?limit={}", limit.min(1000));
    let pattern = options.pattern.as_deref().map(|pattern| {
        if pattern.contains(['*', '?']) {
            pattern.to_owned()
        } else {
            format!("*{pattern}*")
        }
    });
    let object = options.object.as_deref();
    for (name, value) in [
        ("endpoint", pattern.as_deref()),
        (
            "object",
            object.map(|object| object.trim_start_matches('/')),
        ),
        ("state", options.state.as_deref()),
        ("listener", options.listener.as_deref()),
        ("cursor", cursor),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    path
}

fn row(device: &Value, now: u64) -> [String; 7] {
    let objects = device.get("objects").and_then(Value::as_array);
    let mut ids: Vec<&str> = objects
        .into_iter()
        .flatten()
        .filter_map(|object| object.as_str()?.split('/').nth(1))
        .collect();
    ids.dedup();
    let queued = number(device, "queued");
    [
        text(device, "endpoint"),
        text(device, "state"),
        text(device, "peer"),
        ids.join(","),
        if queued == 0 {
            "-".to_owned()
        } else {
            queued.to_string()
        },
        format!(
            "{} ago",
            span(now.saturating_sub(number(device, "last_seen")) / 1000)
        ),
        span(number(device, "expires_at").saturating_sub(now) / 1000),
    ]
}
