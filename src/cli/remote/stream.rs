//! `observe`, `watch`, `trace`: what comes, a line each, until it is interrupted.

use serde_json::{Value, json};

use super::access::Access;
use super::client::{Client, encoded};
use super::command::{self, Waiting, content, value};
use super::error::Failure;
use super::show::{number, text};
use crate::cli::say;
use crate::printable::Printable;

/// How much of a stream is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Bounds {
    /// Stop after this many; 0 continues until interrupted
    #[arg(long, value_name = "N", default_value_t = 0)]
    count: u64,
}

/// What to observe.
#[derive(Debug, clap::Args)]
pub(crate) struct ObserveOptions {
    /// The device
    endpoint: String,
    /// Path of a resource, an instance or an object
    path: String,
    /// End the observation instead
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    access: Access,
}

/// What to watch.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchOptions {
    /// Endpoint names, with wildcards * and ? [default: all]
    pattern: Option<String>,
    /// Which events: registered, updated, awake, asleep, gone, notify, send, answer
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<String>,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    access: Access,
}

/// Whose messages to show.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceOptions {
    /// The device
    endpoint: String,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    access: Access,
}

const KINDS: &str = "registered,updated,awake,asleep,gone,notify,send,answer";

pub(super) fn observe(options: &ObserveOptions) -> Result<(), Failure> {
    let client = Client::new(&options.access)?;
    let endpoint = options.endpoint.as_str();
    let path = options.path.as_str();
    let wait = options.waiting.wait;
    if options.cancel {
        return command::send(
            &client,
            endpoint,
            "cancel-observe",
            json!({ "path": path }),
            wait,
        );
    }
    let kinds = "notify,answer,gone";
    let stream = format!("v1/events?endpoint={}&kinds={kinds}", encoded(endpoint));
    let mut left = options.bounds.count;
    let mut waits = false;
    client.events(&stream, |kind, event| {
        match kind {
            // The stream stands: no notification is missed.
            "open" => {
                match command::send(&client, endpoint, "observe", json!({ "path": path }), wait) {
                    // The answer of a device that sleeps comes as an event.
                    Err(Failure::Queued(text)) => {
                        waits = true;
                        if !text.is_empty() {
                            say::warning(text);
                        }
                    }
                    other => other?,
                }
                return Ok(true);
            }
            "answer" if !waits => return Ok(true),
            "gone" if text(event, "endpoint") == endpoint => {
                let said = format!("{endpoint:?} is not registered any more");
                return Err(Failure::Refused(said));
            }
            "lost" => {
                lost(event);
                return Ok(true);
            }
            _ => {}
        }
        let message = event.get("message").unwrap_or(&Value::Null);
        let data = message.get("data").unwrap_or(&Value::Null);
        if text(event, "endpoint") != endpoint || text(data, "reqPath") != path {
            return Ok(true);
        }
        waits = false;
        let code = text(data, "code");
        if client.json {
            say::json(message);
        } else if code.starts_with("2.") {
            content(data, &code);
        }
        if !code.starts_with("2.") {
            let said = format!(
                "the observation has ended: {code} {}",
                text(data, "codeMsg")
            );
            return Err(Failure::Refused(said));
        }
        Ok(goes_on(&mut left))
    })
}

pub(super) fn watch(options: &WatchOptions) -> Result<(), Failure> {
    let client = Client::new(&options.access)?;
    let kinds = match options.kinds.as_slice() {
        [] => KINDS.to_owned(),
        kinds => kinds.join(","),
    };
    let mut stream = format!("v1/events?kinds={}", encoded(&kinds));
    if let Some(pattern) = &options.pattern {
        stream.push_str(&format!("&endpoint={}", encoded(pattern)));
    }
    let mut left = options.bounds.count;
    client.events(&stream, |kind, event| {
        match kind {
            "open" => return Ok(true),
            "lost" => {
                lost(event);
                return Ok(true);
            }
            _ => {}
        }
        if client.json {
            let mut event = event.clone();
            if let Value::Object(members) = &mut event {
                members.insert("event".to_owned(), json!(kind));
            }
            say::json(&event);
        } else {
            say::out(Printable(&line(kind, event)));
        }
        Ok(goes_on(&mut left))
    })
}

pub(super) fn trace(options: &TraceOptions) -> Result<(), Failure> {
    let client = Client::new(&options.access)?;
    client.get_device(&options.endpoint)?;
    let endpoint = encoded(&options.endpoint);
    let stream = format!("v1/events?endpoint={endpoint}&kinds=coap");
    let mut left = options.bounds.count;
    client.events(&stream, |kind, event| {
        match kind {
            "open" => return Ok(true),
            "lost" => {
                lost(event);
                return Ok(true);
            }
            _ => {}
        }
        if client.json {
            say::json(event);
        } else {
            say::out(Printable(&message(event)));
        }
        Ok(goes_on(&mut left))
    })
}

/// Counts one; whether there shall be more.
fn goes_on(left: &mut u64) -> bool {
    if *left == 0 {
        return true;
    }
    *left -= 1;
    *left > 0
}

fn lost(event: &Value) {
    let n = number(event, "count");
    say::warning(format_args!("{n} events lost: this connection is too slow"));
}

/// An event in a line.
fn line(kind: &str, event: &Value) -> String {
    let mut line = format!(
        "{}  {kind:<10}  {}",
        clock(number(event, "at")),
        text(event, "endpoint")
    );
    let mut say = |more: String| {
        if !more.is_empty() {
            line.push_str("  ");
            line.push_str(&more);
        }
    };
    if let Some(device) = event.get("device") {
        say(text(device, "peer"));
    }
    say(text(event, "reason"));
    if let Some(data) = event.pointer("/message/data") {
        if kind == "answer" {
            let kind = event.pointer("/message/msgType").and_then(Value::as_str);
            say(kind.unwrap_or_default().to_owned());
            say(text(data, "reqPath"));
            say(text(data, "code"));
        }
        let content = data.get("content").and_then(Value::as_array);
        for item in content.into_iter().flatten() {
            say(match item.as_str() {
                Some(link) => link.to_owned(),
                None => format!("{}={}", text(item, "path"), value(item)),
            });
        }
    }
    line
}

/// A CoAP message in a line.
fn message(event: &Value) -> String {
    let arrow = if text(event, "direction") == "in" {
        "<-"
    } else {
        "->"
    };
    let mut line = format!(
        "{} {arrow} {:<3} {:<7} mid={} token={}",
        clock(number(event, "at")),
        text(event, "kind"),
        method(&text(event, "code")),
        text(event, "mid"),
        text(event, "token"),
    );
    let path = text(event, "path");
    if !path.is_empty() {
        line.push(' ');
        line.push_str(&path);
    }
    let options = event.get("options").and_then(Value::as_array);
    for option in options.into_iter().flatten() {
        let part = |at| option.get(at).and_then(Value::as_str).unwrap_or_default();
        if part(0) != "Uri-Path" {
            line.push_str(&format!(" {}={}", part(0), part(1)));
        }
    }
    let bytes = number(event, "payload_bytes");
    if bytes > 0 {
        line.push_str(&format!(" [{bytes}] {}", text(event, "payload_hex")));
    }
    line
}

fn method(code: &str) -> String {
    let name = match code {
        "0.00" => "empty",
        "0.01" => "GET",
        "0.02" => "POST",
        "0.03" => "PUT",
        "0.04" => "DELETE",
        "0.05" => "FETCH",
        "0.07" => "iPATCH",
        other => other,
    };
    name.to_owned()
}

/// The time of day, in UTC as everywhere in the log.
fn clock(ms: u64) -> String {
    let (seconds, ms) = (ms / 1000 % 86_400, ms % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{ms:03}Z", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line() {
        let event = json!({"at": 3_723_004, "direction": "out", "kind": "CON", "code": "0.01", "mid": 7,
            "token": "a1", "path": "/3/0", "options": [["Uri-Path", "3"], ["Accept", "112"]],
            "payload_bytes": 0, "payload_hex": ""});
        assert_eq!(
            message(&event),
            "01:02:03.004Z -> CON GET     mid=7 token=a1 /3/0 Accept=112"
        );
    }

    #[test]
    fn so_many_and_no_more() {
        let mut left = 0;
        assert!(goes_on(&mut left) && goes_on(&mut left));
        let mut left = 2;
        assert!(goes_on(&mut left));
        assert!(!goes_on(&mut left));
    }
}
