//! Answers of devices as Leshan's JSON.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::nodes::{by_path, found, node};
use super::refused::{Refused, Reply};
use crate::http::error;
use crate::lwm2m::model::ObjectModels;

/// What an answer is expected to have.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A code alone.
    Code,
    /// The node of one path.
    Node(Vec<u16>),
    /// The nodes of several paths, by path.
    Nodes(Vec<Vec<u16>>),
    /// Links.
    Links,
    /// The path of what was created.
    Location,
}

/// The response to an answer, which is JSON as it is published over MQTT.
pub(super) fn response(models: &ObjectModels, shape: &Shape, payload: &[u8]) -> Reply {
    let json = read(models, shape, payload)?;
    Ok(error::json(StatusCode::OK, &json) as Response)
}

/// The same as JSON.
pub(super) fn read(models: &ObjectModels, shape: &Shape, payload: &[u8]) -> Result<Value, Refused> {
    let unexpected = |detail: String| {
        let detail = format!("Unexpected exception: {detail}");
        Refused(StatusCode::INTERNAL_SERVER_ERROR, detail)
    };
    let answer: Value =
        serde_json::from_slice(payload).map_err(|error| unexpected(error.to_string()))?;
    let timeout = || Refused(StatusCode::GATEWAY_TIMEOUT, "Request timeout".to_owned());
    match answer.get("msgType").and_then(Value::as_str) {
        Some("coap_timeout") => return Err(timeout()),
        Some("coap_reset") => {
            let detail = "Request rejected: the device answered with a Reset".to_owned();
            return Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, detail));
        }
        _ => {}
    }
    let data = answer.get("data").cloned().unwrap_or_default();
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    let code = text("code").unwrap_or_default();
    if let Some(reason) = text("reason") {
        let detail = text("detail")
            .map_or_else(|| reason.to_owned(), |detail| format!("{reason}: {detail}"));
        return Err(match (reason, code) {
            ("undecodable" | "not what was asked for", _) => Refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("Invalid Response: {detail}"),
            ),
            ("no_such_observation", _) => Refused(StatusCode::NOT_FOUND, detail),
            (_, "5.04") => timeout(),
            (_, "4.00" | "4.04" | "4.13") => Refused::invalid(detail),
            (_, "5.03") => Refused(StatusCode::SERVICE_UNAVAILABLE, detail),
            _ => unexpected(detail),
        });
    }
    let number = code.replace('.', "");
    let success = code.starts_with("2.");
    let mut out = Map::new();
    out.insert(
        "status".into(),
        format!("{}({number})", name(&number)).into(),
    );
    out.insert("valid".into(), true.into());
    out.insert("success".into(), success.into());
    out.insert("failure".into(), (!success).into());
    if success {
        let values = found(data.get("content").unwrap_or(&Value::Null));
        match shape {
            Shape::Code => {}
            Shape::Node(path) => {
                let node = node(models, path, &values);
                out.extend(node.map(|node| ("content".to_owned(), node)));
            }
            Shape::Nodes(paths) => {
                let nodes = by_path(models, paths, &values);
                out.insert("content".into(), nodes.into());
            }
            Shape::Links => {
                let links = data.get("content").and_then(Value::as_array);
                let links = links.into_iter().flatten().filter_map(Value::as_str);
                let links: Vec<Value> = links.filter_map(link).collect();
                out.insert("objectLinks".into(), links.into());
            }
            Shape::Location => {
                let location = data.get("location").cloned();
                out.extend(location.map(|it| ("location".to_owned(), it)));
            }
        }
    } else if let Some(detail) = text("diagnostic").filter(|it| !it.is_empty()) {
        out.insert("errormessage".into(), detail.into());
    }
    Ok(out.into())
}

/// The name of a code of three digits.
fn name(code: &str) -> &'static str {
    match code {
        "201" => "CREATED",
        "202" => "DELETED",
        "204" => "CHANGED",
        "205" => "CONTENT",
        "400" => "BAD_REQUEST",
        "401" => "UNAUTHORIZED",
        "403" => "FORBIDDEN",
        "404" => "NOT_FOUND",
        "405" => "METHOD_NOT_ALLOWED",
        "406" => "NOT_ACCEPTABLE",
        "408" => "REQUEST_ENTITY_INCOMPLETE",
        "412" => "PRECONDITION_FAILED",
        "413" => "REQUEST_ENTITY_TOO_LARGE",
        "415" => "UNSUPPORTED_CONTENT_FORMAT",
        "500" => "INTERNAL_SERVER_ERROR",
        _ => "UNKNOWN",
    }
}

/// A link such as `</3/0/7>;pmin=5;title="a;b"` with its attributes.
pub(super) fn link(text: &str) -> Option<Value> {
    let (url, rest) = text.strip_prefix('<')?.split_once('>')?;
    let mut attributes = Map::new();
    let mut quoted = false;
    let parts = rest.split(move |c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    for part in parts.filter(|it| !it.is_empty()) {
        match part.split_once('=') {
            Some((name, value)) => attributes.insert(name.to_owned(), value.into()),
            None => attributes.insert(part.to_owned(), Value::Null),
        };
    }
    Some(json!({"url": url, "attributes": attributes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shape: &Shape, text: &str) -> Result<Value, (u16, String)> {
        let read = read(&ObjectModels::builtin(), shape, text.as_bytes());
        read.map_err(|Refused(status, text)| (status.as_u16(), text))
    }

    #[test]
    fn what_a_device_answers() {
        let shape = Shape::Node(vec![3, 0, 9]);
        let read = answer(
            &shape,
            r#"{"msgType":"read","data":{"reqPath":"/3/0/9","code":"2.05","codeMsg":"content",
                "content":[{"path":"/3/0/9","value":95}]}}"#,
        );
        assert_eq!(
            read.unwrap(),
            json!({"status": "CONTENT(205)", "valid": true, "success": true, "failure": false,
                "content": {"kind": "singleResource", "id": 9, "type": "INTEGER", "value": "95"}})
        );
        let refused = answer(
            &shape,
            r#"{"msgType":"read","data":{"code":"4.01","diagnostic":"no"}}"#,
        );
        assert_eq!(
            refused.unwrap(),
            json!({"status": "UNAUTHORIZED(401)", "valid": true, "success": false,
                "failure": true, "errormessage": "no"})
        );
        let made = r#"{"data":{"code":"2.01","location":"/16/1"}}"#;
        assert_eq!(answer(&Shape::Location, made).unwrap()["location"], "/16/1");
        let links =
            r#"{"data":{"code":"2.05","content":["</3>;ver=\"1.1;2\";pmin=5","</3/0>;x"]}}"#;
        assert_eq!(
            answer(&Shape::Links, links).unwrap()["objectLinks"],
            json!([
                {"url": "/3", "attributes": {"ver": "\"1.1;2\"", "pmin": "5"}},
                {"url": "/3/0", "attributes": {"x": null}},
            ])
        );
    }

    #[test]
    fn what_the_gateway_answers() {
        for (text, status) in [
            (r#"{"msgType":"coap_timeout","data":{}}"#, 504),
            (r#"{"msgType":"coap_reset","data":{}}"#, 500),
            (r#"{"data":{"code":"4.00","reason":"bad_value"}}"#, 400),
            (r#"{"data":{"code":"4.00","reason":"undecodable"}}"#, 500),
            (r#"{"data":{"code":"4.04","reason":"not_registered"}}"#, 400),
            (r#"{"data":{"code":"5.04","reason":"expired"}}"#, 504),
            (r#"{"data":{"code":"5.03","reason":"queue_full"}}"#, 503),
            ("no JSON", 500),
        ] {
            assert_eq!(answer(&Shape::Code, text).unwrap_err().0, status, "{text}");
        }
    }
}
