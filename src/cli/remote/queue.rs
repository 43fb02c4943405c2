//! `queue`: what waits for a device, and that it waits no longer.

use serde_json::{Value, json};

use super::access::Access;
use super::client::Client;
use super::command;
use super::error::Failure;
use super::show::{now, number, subject, text};
use super::table::{Table, span};
use crate::cli::say;

/// Which queue.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The device
    endpoint: String,
    /// Cancel the commands with this reqID
    #[arg(long, value_name = "REQID", conflicts_with = "cancel_all")]
    cancel: Option<String>,
    /// Cancel all waiting commands
    #[arg(long)]
    cancel_all: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) fn queue(options: &Options) -> Result<(), Failure> {
    let client = Client::new(&options.access)?;
    let endpoint = options.endpoint.as_str();
    let device = client.get_device(endpoint)?;
    let waiting = device.get("queue").and_then(Value::as_array);
    let waiting = waiting.map(Vec::as_slice).unwrap_or_default();
    if options.cancel_all {
        return cancel(&client, endpoint, json!({ "all": true }));
    }
    if let Some(wanted) = &options.cancel {
        // A reqID is any JSON; it is given as it is shown.
        let known = waiting.iter().filter_map(|one| one.get("reqID"));
        let id = known
            .clone()
            .find(|id| shown_id(id) == *wanted)
            .cloned()
            .unwrap_or_else(|| json!(wanted));
        return cancel(&client, endpoint, json!({ "reqID": id }));
    }
    if client.json {
        say::json(&Value::Array(waiting.to_vec()));
        return Ok(());
    }
    if waiting.is_empty() {
        say::out("nothing waits");
        return Ok(());
    }
    let now = now();
    let mut table = Table::new(&["REQID", "COMMAND", "PATH", "STATE", "SINCE", "LEFT"]);
    for one in waiting {
        let sent = one.get("sent").and_then(Value::as_bool) == Some(true);
        let (since, until) = (number(one, "since"), number(one, "until"));
        let ago = format!("{} ago", span(now.saturating_sub(since) / 1000));
        table.row([
            one.get("reqID").map(shown_id).unwrap_or_default(),
            text(one, "msgType"),
            subject(one),
            if sent { "sent" } else { "waits" }.to_owned(),
            if since == 0 { "-".to_owned() } else { ago },
            if until == 0 {
                "-".to_owned()
            } else {
                span(until.saturating_sub(now) / 1000)
            },
        ]);
    }
    table.print();
    Ok(())
}

fn shown_id(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

fn cancel(client: &Client, endpoint: &str, what: Value) -> Result<(), Failure> {
    let command = json!({ "msgType": "cancel", "data": what });
    let answer = client.command(endpoint, &command, 30)?;
    let cancelled = answer.pointer("/data/cancelled");
    if !client.json
        && let Some(n) = cancelled
    {
        say::out(format_args!("{n} cancelled"));
        return Ok(());
    }
    command::shown(client, endpoint, &answer)
}
