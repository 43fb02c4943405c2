//! `read`, `write`, `execute`: a command to a device and its answer.

use serde_json::{Map, Value, json};

use super::access::Access;
use super::client::Client;
use super::error::Failure;
use super::show::text;
use super::table::Table;
use crate::cli::say;
use crate::printable::Printable;

/// How long an answer is waited for.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Seconds to wait for the answer; 0 does not wait
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=600))]
    pub(super) wait: u64,
}

/// What to read.
#[derive(Debug, clap::Args)]
pub(crate) struct ReadOptions {
    /// The device
    endpoint: String,
    /// Paths such as /3/0/9, /3303/0 or /3303; several are read in one message (LwM2M 1.1)
    #[arg(required = true)]
    paths: Vec<String>,
    /// Content format of the answer, by name or number: text, cbor, senml-json, senml-cbor, tlv, json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    access: Access,
}

/// What to write.
#[derive(Debug, clap::Args)]
pub(crate) struct WriteOptions {
    /// The device
    endpoint: String,
    /// Path of a resource, or of a resource instance
    path: String,
    /// The value; Opaque in base64, Time in seconds since 1970
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Type of the value: String, Integer, Float, Boolean, Opaque, Time, Objlnk [default: that of the
    /// object definition]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Content format to write in
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    access: Access,
}

/// What to execute.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecuteOptions {
    /// The device
    endpoint: String,
    /// Path of a resource
    path: String,
    /// Arguments: digits separated by commas, each with or without a text, such as 2,7 or 0='text'
    args: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    access: Access,
}

pub(super) fn read(options: &ReadOptions) -> Result<(), Failure> {
    let (kind, mut data) = match options.paths.as_slice() {
        [path] => ("read", json!({ "path": path })),
        paths => ("read-composite", json!({ "paths": paths })),
    };
    put(&mut data, "format", options.format.as_ref());
    let client = Client::new(&options.access)?;
    send(&client, &options.endpoint, kind, data, options.waiting.wait)
}

pub(super) fn write(options: &WriteOptions) -> Result<(), Failure> {
    let value = match &options.kind {
        Some(_) => Value::String(options.value.clone()),
        None => value_of(&options.value),
    };
    let mut data = json!({ "path": options.path, "value": value });
    put(&mut data, "type", options.kind.as_ref());
    put(&mut data, "format", options.format.as_ref());
    let client = Client::new(&options.access)?;
    send(
        &client,
        &options.endpoint,
        "write",
        data,
        options.waiting.wait,
    )
}

pub(super) fn execute(options: &ExecuteOptions) -> Result<(), Failure> {
    let mut data = json!({ "path": options.path });
    put(&mut data, "args", options.args.as_ref());
    let client = Client::new(&options.access)?;
    send(
        &client,
        &options.endpoint,
        "execute",
        data,
        options.waiting.wait,
    )
}

fn put(data: &mut Value, name: &str, value: Option<&String>) {
    if let (Value::Object(members), Some(value)) = (data, value) {
        members.insert(name.to_owned(), json!(value));
    }
}

/// The value as the object definition, or else JSON, will take it: numbers and booleans as they are,
/// all else as text.
fn value_of(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Sends a command and shows the answer.
pub(super) fn send(
    client: &Client,
    endpoint: &str,
    kind: &str,
    data: Value,
    wait: u64,
) -> Result<(), Failure> {
    let mut command = Map::new();
    command.insert("msgType".to_owned(), json!(kind));
    command.insert("data".to_owned(), data);
    let answer = client.command(endpoint, &Value::Object(command), wait)?;
    shown(client, endpoint, &answer)
}

/// Shows an answer, and says whether it is a success.
pub(super) fn shown(client: &Client, endpoint: &str, answer: &Value) -> Result<(), Failure> {
    if client.json {
        say::json(answer);
    }
    if text(answer, "status") == "queued" {
        let said = format!(
            "the command waits for {endpoint:?}, which sleeps or has not answered yet; see lwm2m-gateway queue"
        );
        return Err(Failure::Queued(if client.json {
            String::new()
        } else {
            said
        }));
    }
    let data = answer.get("data").unwrap_or(&Value::Null);
    let code = text(data, "code");
    if text(data, "reason") == "not_registered" {
        return Err(Failure::UnknownEndpoint {
            endpoint: endpoint.to_owned(),
            near: Vec::new(),
        });
    }
    if !code.starts_with("2.") {
        return Err(Failure::Refused(if client.json {
            String::new()
        } else {
            refusal(answer, data, &code)
        }));
    }
    if !client.json {
        content(data, &code);
    }
    Ok(())
}

/// Why a command did not succeed, in one line.
fn refusal(answer: &Value, data: &Value, code: &str) -> String {
    match text(answer, "msgType").as_str() {
        "coap_timeout" => return "the device did not answer in time".to_owned(),
        "coap_reset" => return "the device rejected the message".to_owned(),
        "ack" => return "the device has received the command and will answer later".to_owned(),
        _ => {}
    }
    let mut line = format!("{code} {}", text(data, "codeMsg").replace('_', " "));
    for name in ["reason", "detail", "diagnostic"] {
        let said = text(data, name);
        if !said.is_empty() {
            line.push_str(": ");
            line.push_str(&said);
        }
    }
    line.trim().to_owned()
}

/// The values of an answer, each with its path; the code where there are none.
pub(super) fn content(data: &Value, code: &str) {
    let content = data.get("content").and_then(Value::as_array);
    let content = content.map(Vec::as_slice).unwrap_or_default();
    if content.is_empty() {
        let location = text(data, "location");
        let said = format!("{code} {} {location}", text(data, "codeMsg"));
        say::out(Printable(said.trim()));
        return;
    }
    // One value alone is for use in a script.
    if let ([one], Some(path)) = (content, data.get("reqPath"))
        && one.get("path") == Some(path)
    {
        return say::out(Printable(&value(one)));
    }
    let mut table = Table::new(&["PATH", "VALUE"]);
    for item in content {
        match item.as_str() {
            Some(link) => table.row([link.to_owned(), String::new()]),
            None => table.row([text(item, "path"), value(item)]),
        }
    }
    table.print();
}

/// The value of an element of `content`.
pub(super) fn value(item: &Value) -> String {
    match item.get("value") {
        Some(Value::Null) | None => text(item, "nonFinite"),
        Some(_) => text(item, "value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_value() {
        assert_eq!(value_of("12"), json!(12));
        assert_eq!(value_of("-1.5"), json!(-1.5));
        assert_eq!(value_of("true"), json!(true));
        assert_eq!(value_of("+02:00"), json!("+02:00"));
        assert_eq!(value_of("null"), json!("null"));
        assert_eq!(value_of("[1]"), json!("[1]"));
    }

    #[test]
    fn a_refusal_is_one_line() {
        let answer = json!({"msgType": "write", "data": {"code": "4.05", "codeMsg": "method_not_allowed",
            "diagnostic": "no"}});
        let data = answer.get("data").unwrap();
        assert_eq!(
            refusal(&answer, data, "4.05"),
            "4.05 method not allowed: no"
        );
        let answer = json!({"msgType": "coap_timeout", "data": {}});
        assert_eq!(
            refusal(&answer, &json!({}), ""),
            "the device did not answer in time"
        );
    }
}
