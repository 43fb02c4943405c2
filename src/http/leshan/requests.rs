//! Requests to one device: `/api/clients/{endpoint}/…`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::answers::{Shape, response};
use super::nodes::{numbers, text_of};
use super::refused::{Refused, Reply};
use super::written::{self, Form, Written};
use crate::http::access::{Caller, Role};
use crate::http::body::read_body;
use crate::http::commands::{Carried, carry};
use crate::http::error::{self, ApiError};
use crate::http::state::Shared;

/// Seconds for an answer unless `timeout` says another number, and at most.
const USUAL: u64 = 5;
const MOST: u64 = 600;

/// Late answers that are remembered.
const MOST_DELAYED: usize = 4096;

/// The commands whose answers come as events: their device sleeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Delayed(Arc<Mutex<VecDeque<Late>>>);

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Late {
    pub(super) id: String,
    pub(super) path: Option<String>,
    pub(super) shape: Shape,
}

impl Delayed {
    fn add(&self, late: Late) {
        let mut known = self.0.lock();
        if known.len() >= MOST_DELAYED {
            known.pop_front();
        }
        known.push_back(late);
    }

    /// The command of this `reqID`.
    pub(super) fn of(&self, id: &str) -> Option<Late> {
        self.0.lock().iter().rev().find(|it| it.id == id).cloned()
    }
}

/// What a request is about, behind the endpoint.
enum Place {
    Composite,
    ObserveComposite,
    Discover(Vec<u16>),
    Observe(Vec<u16>),
    Attributes(Vec<u16>),
    Node(Vec<u16>),
}

impl Place {
    fn read(path: &str) -> Result<Self, Refused> {
        let path = path.trim_matches('/');
        let ids = |path: &str| numbers(path).ok_or_else(|| Refused::invalid("invalid path"));
        if path == "composite" {
            return Ok(Self::Composite);
        }
        if path == "composite/observe" {
            return Ok(Self::ObserveComposite);
        }
        Ok(match path.rsplit_once('/') {
            Some((path, "discover")) => Self::Discover(ids(path)?),
            Some((path, "observe")) => Self::Observe(ids(path)?),
            Some((path, "attributes")) => Self::Attributes(ids(path)?),
            _ => Self::Node(ids(path)?),
        })
    }
}

/// The members of a command about several paths, and these.
type Several = (Map<String, Value>, Vec<Vec<u16>>);

/// The query of a request, in its order.
struct Query(Vec<(String, Option<String>)>);

impl Query {
    fn read(text: Option<&str>) -> Result<Self, Refused> {
        let mut pairs = Vec::new();
        for item in text
            .unwrap_or_default()
            .split('&')
            .filter(|it| !it.is_empty())
        {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name, Some(decoded(value)?)),
                None => (item, None),
            };
            pairs.push((decoded(name)?, value));
        }
        Ok(Self(pairs))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(known, _)| known == name);
        pair.and_then(|(_, value)| value.as_deref())
    }

    fn timeout(&self) -> Duration {
        let seconds = self.get("timeout").and_then(|it| it.parse().ok());
        Duration::from_secs(seconds.unwrap_or(USUAL).min(MOST))
    }

    /// The content format of a parameter, by the name that commands have for it.
    fn format(&self, parameter: &str) -> Option<Value> {
        let name = self.get(parameter)?;
        Some(name.to_ascii_lowercase().replace('_', "-").into())
    }

    fn paths(&self) -> Result<Vec<Vec<u16>>, Refused> {
        let paths = self.get("paths").unwrap_or_default();
        let paths = paths.split(',').filter(|it| !it.is_empty());
        let paths: Option<Vec<_>> = paths.map(numbers).collect();
        let paths = paths.filter(|it| !it.is_empty());
        paths.ok_or_else(|| Refused::invalid("paths is missing or empty"))
    }
}

/// Percent-encoding undone, `+` is a blank.
pub(super) fn decoded(text: &str) -> Result<String, Refused> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|it| char::from(it).to_digit(16));
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high << 4 | low).unwrap_or(b'?'),
                _ => {
                    return Err(Refused::invalid(
                        "the query has an invalid percent-encoding",
                    ));
                }
            },
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| Refused::invalid("the query is not UTF-8"))
}

/// What every request has.
struct Asked {
    shared: Shared,
    caller: Caller,
    delayed: Delayed,
    endpoint: String,
    query: Query,
}

impl Asked {
    /// Sends a command, and gives its answer in Leshan's form.
    async fn send(&self, kind: &str, data: Map<String, Value>, shape: Shape) -> Reply {
        let Self { shared, caller, .. } = self;
        caller.needs(Role::Command)?;
        let waiter = shared.hub.wait().ok_or_else(ApiError::unavailable)?;
        let id = format!("leshan-{:016x}", waiter.number);
        let path = data.get("path").or_else(|| data.get("basePath"));
        let path = path.and_then(Value::as_str).map(str::to_owned);
        let command = json!({"reqID": id, "msgType": kind, "data": data});
        let payload = command.to_string().into_bytes();
        let wait = self.query.timeout();
        let carried = carry(shared, caller, &self.endpoint, waiter, payload, wait).await;
        match carried {
            Ok(Carried::Answer(payload)) => {
                let models = shared.backend.models();
                let models = models.ok_or_else(ApiError::unavailable)?;
                response(&models, &shape, &payload)
            }
            Ok(Carried::Queued) => {
                let mut answer = json!({
                    "ep": self.endpoint, "requestId": id, "delayed": true,
                });
                if let (Some(path), Some(answer)) = (&path, answer.as_object_mut()) {
                    answer.insert("path".into(), path.clone().into());
                }
                self.delayed.add(Late { id, path, shape });
                Ok(error::json(StatusCode::OK, &answer))
            }
            Ok(Carried::Late) => Err(Refused(
                StatusCode::GATEWAY_TIMEOUT,
                "Request timeout".to_owned(),
            )),
            Err(error) if error.status == StatusCode::NOT_FOUND => {
                Err(Refused::unknown(&self.endpoint))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The members of a command about one path, in the format that the request names.
    fn of(&self, path: &[u16]) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("path".into(), text_of(path).into());
        let format = self.query.format("format");
        data.extend(format.map(|it| ("format".to_owned(), it)));
        data
    }

    /// The same about several.
    fn of_several(&self) -> Result<Several, Refused> {
        let paths = self.query.paths()?;
        let texts: Vec<Value> = paths.iter().map(|it| text_of(it).into()).collect();
        let mut data = Map::new();
        data.insert("paths".into(), texts.into());
        let format = self.query.format("nodeformat");
        data.extend(format.map(|it| ("format".to_owned(), it)));
        Ok((data, paths))
    }

    async fn cancel(&self, kind: &str, mut data: Map<String, Value>, shape: Shape) -> Reply {
        if self.query.has("active") {
            return self.send(kind, data, shape).await;
        }
        data.insert("mode".into(), "passive".into());
        match self.send(kind, data, Shape::Code).await {
            // Leshan says nothing of what there is, nor of what there is not.
            Ok(_) => Ok(StatusCode::OK.into_response()),
            Err(Refused(StatusCode::NOT_FOUND, _)) => Ok(StatusCode::OK.into_response()),
            Err(error) => Err(error),
        }
    }
}

type Parts = (
    State<Shared>,
    Extension<Caller>,
    Extension<Delayed>,
    Path<(String, String)>,
    RawQuery,
);

fn asked(parts: Parts) -> Result<(Asked, Place), Refused> {
    let (State(shared), Extension(caller), Extension(delayed), Path((endpoint, path)), query) =
        parts;
    let asked = Asked {
        shared,
        caller,
        delayed,
        endpoint,
        query: Query::read(query.0.as_deref())?,
    };
    Ok((asked, Place::read(&path)?))
}

/// Read, Discover, Read-Composite.
pub(super) async fn get(parts: Parts) -> Reply {
    let (asked, place) = asked(parts)?;
    match place {
        Place::Composite => {
            let (data, paths) = asked.of_several()?;
            asked
                .send("read-composite", data, Shape::Nodes(paths))
                .await
        }
        Place::Discover(path) => {
            let mut data = asked.of(&path);
            data.remove("format");
            asked.send("discover", data, Shape::Links).await
        }
        Place::Node(path) => {
            let data = asked.of(&path);
            asked.send("read", data, Shape::Node(path)).await
        }
        _ => Err(Refused::invalid("this path does not accept this method")),
    }
}

/// Write, Write-Composite, Write-Attributes.
pub(super) async fn put(parts: Parts, headers: HeaderMap, body: Body) -> Reply {
    let (asked, place) = asked(parts)?;
    match place {
        Place::Attributes(path) => {
            let mut data = Map::new();
            data.insert("path".into(), text_of(&path).into());
            for (name, value) in &asked.query.0 {
                data.insert(name.clone(), value.clone().unwrap_or_default().into());
            }
            asked.send("write-attr", data, Shape::Code).await
        }
        Place::Composite => {
            let body = read_body(&asked.shared, body).await?;
            let nodes: Map<String, Value> =
                serde_json::from_slice(&body).map_err(Refused::invalid)?;
            let mut content = Vec::new();
            for (path, node) in &nodes {
                let path = numbers(path).ok_or_else(|| Refused::invalid("invalid path"))?;
                let written = written::read(node)?;
                content.extend(written.items.iter().map(|item| item.element(&path)));
            }
            let mut data = Map::new();
            data.insert("content".into(), content.into());
            let format = asked.query.format("nodeformat");
            data.extend(format.map(|it| ("format".to_owned(), it)));
            asked.send("write-composite", data, Shape::Code).await
        }
        Place::Node(path) if path.len() >= 2 => {
            let written = read_node(&asked.shared, &headers, body).await?;
            let mut data = asked.of(&path);
            let wanted = match written.kind {
                Form::Instance => path.len() == 2,
                Form::Multiple => path.len() == 3,
                Form::Value => path.len() >= 3,
            };
            if !wanted {
                return Err(Refused::invalid("the node does not fit this path"));
            }
            // Leshan replaces unless it is told to update.
            let replace = asked.query.get("replace").is_none_or(|it| it == "true");
            let mode = if replace { "replace" } else { "update" };
            data.insert("mode".into(), mode.into());
            write(&mut data, &path, written);
            asked.send("write", data, Shape::Code).await
        }
        _ => Err(Refused::invalid("invalid path")),
    }
}

/// Execute, Create, Observe, Observe-Composite.
pub(super) async fn post(parts: Parts, headers: HeaderMap, body: Body) -> Reply {
    let (asked, place) = asked(parts)?;
    match place {
        Place::ObserveComposite => {
            let (data, paths) = asked.of_several()?;
            let shape = Shape::Nodes(paths);
            asked.send("observe-composite", data, shape).await
        }
        Place::Observe(path) => {
            let data = asked.of(&path);
            asked.send("observe", data, Shape::Node(path)).await
        }
        Place::Node(path) if path.len() == 3 => {
            let body = read_body(&asked.shared, body).await?;
            let arguments = std::str::from_utf8(&body).map_err(Refused::invalid)?;
            let mut data = Map::new();
            data.insert("path".into(), text_of(&path).into());
            data.insert("args".into(), arguments.into());
            asked.send("execute", data, Shape::Code).await
        }
        Place::Node(path) if matches!(path.len(), 1 | 2) => {
            let written = read_node(&asked.shared, &headers, body).await?;
            if written.kind != Form::Instance {
                let detail = "payload must contain an object instance";
                return Err(Refused::invalid(detail));
            }
            let mut data = asked.of(&path);
            data.remove("path");
            data.insert("basePath".into(), text_of(&path).into());
            // An instance with an id is created as that one, others by a number of the device's.
            let id = written.id.filter(|_| path.len() == 1);
            let base: Vec<u16> = path.iter().copied().chain(id).collect();
            let content = written.items.iter().map(|item| item.element(&base));
            data.insert("content".into(), content.collect::<Vec<_>>().into());
            asked.send("create", data, Shape::Location).await
        }
        _ => Err(Refused::invalid("invalid path")),
    }
}

/// Delete, and the end of observations.
pub(super) async fn delete(parts: Parts) -> Reply {
    let (asked, place) = asked(parts)?;
    match place {
        Place::ObserveComposite => {
            let (data, paths) = asked.of_several()?;
            let shape = Shape::Nodes(paths);
            asked.cancel("cancel-observe-composite", data, shape).await
        }
        Place::Observe(path) => {
            let data = asked.of(&path);
            asked
                .cancel("cancel-observe", data, Shape::Node(path))
                .await
        }
        Place::Node(path) => {
            let mut data = asked.of(&path);
            data.remove("format");
            asked.send("delete", data, Shape::Code).await
        }
        _ => Err(Refused::invalid("this path does not accept this method")),
    }
}

/// The node in a body: JSON, or a text that is the value of a resource.
async fn read_node(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Written, Refused> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
    let body = read_body(shared, body).await?;
    match kind.as_str() {
        "application/json" => {
            let node: Value = serde_json::from_slice(&body).map_err(Refused::invalid)?;
            written::read(&node)
        }
        "text/plain" => {
            let text = std::str::from_utf8(&body).map_err(Refused::invalid)?;
            written::read(&json!({"id": 0, "type": "string", "value": text}))
        }
        _ => Err(Refused::invalid(format!(
            "content type {kind} not supported"
        ))),
    }
}

/// The members of a write.
fn write(data: &mut Map<String, Value>, path: &[u16], written: Written) {
    if written.kind == Form::Value {
        let items = written.items.into_iter();
        let members = items.flat_map(written::Item::members);
        data.extend(members.map(|(name, value)| (name.to_owned(), value)));
        return;
    }
    data.remove("path");
    data.insert("basePath".into(), text_of(path).into());
    let content = written.items.iter().map(|item| item.element(path));
    data.insert("content".into(), content.collect::<Vec<_>>().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query::read(Some(
            "timeout=7&format=SENML_CBOR&pmin=5&gt&paths=%2F3,/1/0",
        ))
        .unwrap();
        assert_eq!(query.timeout(), Duration::from_secs(7));
        assert_eq!(query.format("format").unwrap(), "senml-cbor");
        assert!(query.has("gt") && query.get("gt").is_none());
        assert_eq!(query.paths().unwrap(), [vec![3], vec![1, 0]]);
        assert!(Query::read(Some("a=%zz")).is_err());
        assert!(Query::read(Some("paths=/3/a")).unwrap().paths().is_err());
        assert!(Query::read(None).unwrap().paths().is_err());
    }
}
