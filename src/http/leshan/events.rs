//! Events in Leshan's shape: `/api/event`.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answers;
use super::clients::registration;
use super::nodes::{by_path, by_resource, found, node, numbers, text_of};
use super::refused::{Refused, Reply};
use super::requests::{Delayed, decoded};
use crate::http::access::{Caller, Role};
use crate::http::devices::check_pattern;
use crate::http::events::{Event, Kind, Wanted};
use crate::http::sse;
use crate::http::state::Shared;
use crate::lwm2m::model::ObjectModels;

/// `GET /api/event?ep=…`: of one device, or of all. Zephyr's suite writes the name alone.
pub(super) async fn events(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(delayed): Extension<Delayed>,
    RawQuery(query): RawQuery,
) -> Reply {
    caller.needs(Role::Read)?;
    let mut endpoint = None;
    for item in query
        .unwrap_or_default()
        .split('&')
        .filter(|it| !it.is_empty())
    {
        match item.split_once('=') {
            None => endpoint = Some(decoded(item)?),
            Some(("ep", name)) => endpoint = Some(decoded(name)?),
            Some(_) => {}
        }
    }
    check_pattern(endpoint.as_deref())?;
    let all = Kind::ALL.iter().filter(|kind| **kind != Kind::Coap);
    let wanted = Wanted {
        endpoint,
        kinds: all.fold(0, |bits, kind| bits | kind.bit()),
    };
    let subscription = shared.hub.events.listen(wanted).ok_or_else(|| {
        let detail = "too many clients listen to events".to_owned();
        Refused(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let backend = shared.backend.clone();
    Ok(sse::stream(subscription, shared, move |piece, event| {
        let Some(models) = backend.models() else {
            return;
        };
        let told = translate(&models, &delayed, event);
        if let Some((name, data)) = told {
            piece.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
        }
    }))
}

/// The name and the data of an event; `None` for what Leshan does not tell.
fn translate(
    models: &ObjectModels,
    delayed: &Delayed,
    event: &Event,
) -> Option<(&'static str, Value)> {
    let data: Value = serde_json::from_slice(&event.data).ok()?;
    let endpoint = data.get("endpoint")?;
    let device = || Some(registration(data.get("device")?, &[]));
    Some(match event.kind {
        Kind::Registered => ("REGISTRATION", device()?),
        Kind::Updated => {
            let registration = device()?;
            let part = |name: &str| registration.get(name).cloned().unwrap_or_default();
            let update = json!({
                "registrationId": part("registrationId"), "address": part("address"),
                "lifetime": part("lifetime"), "objectLinks": part("objectLinks"),
                "secure": part("secure"),
            });
            (
                "UPDATED",
                json!({"registration": registration, "update": update}),
            )
        }
        Kind::Gone => ("DEREGISTRATION", json!({"endpoint": endpoint})),
        Kind::Awake => ("AWAKE", json!({"ep": endpoint})),
        Kind::Asleep => ("SLEEPING", json!({"ep": endpoint})),
        Kind::Notify => ("NOTIFICATION", notification(models, endpoint, &data)?),
        Kind::Send => {
            let content = data.pointer("/message/data/content")?;
            let values = by_resource(models, &found(content));
            ("SEND", json!({"ep": endpoint, "val": values}))
        }
        Kind::Answer => {
            let message = data.get("message")?;
            // That it comes later is no news here.
            if message.get("msgType")?.as_str()? == "ack" {
                return None;
            }
            let late = delayed.of(message.get("reqID")?.as_str()?)?;
            let text = message.to_string();
            let response = answers::read(models, &late.shape, text.as_bytes());
            let mut told = json!({"ep": endpoint, "requestId": late.id, "delayed": true});
            let members = told.as_object_mut()?;
            members.extend(late.path.map(|it| ("path".to_owned(), it.into())));
            members.extend(response.ok().map(|it| ("response".to_owned(), it)));
            ("REQUEST_RESPONSE", told)
        }
        Kind::Coap => return None,
    })
}

fn notification(models: &ObjectModels, endpoint: &Value, data: &Value) -> Option<Value> {
    let data = data.pointer("/message/data")?;
    let values = found(data.get("content")?);
    if let Some(path) = data.get("reqPath").and_then(Value::as_str) {
        let path = numbers(path)?;
        let node = node(models, &path, &values)?;
        return Some(json!({
            "ep": endpoint, "kind": "single", "res": text_of(&path), "val": node,
        }));
    }
    let paths = data.get("reqPaths")?.as_array()?;
    let paths: Vec<Vec<u16>> = (paths.iter().filter_map(Value::as_str))
        .filter_map(numbers)
        .collect();
    let texts: Vec<String> = paths.iter().map(|it| text_of(it)).collect();
    Some(json!({
        "ep": endpoint, "kind": "composite", "val": by_path(models, &paths, &values),
        "paths": texts,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, data: &Value) -> Option<(&'static str, Value)> {
        let event = Event {
            id: 1,
            kind,
            data: data.to_string().into(),
        };
        translate(&ObjectModels::builtin(), &Delayed::default(), &event)
    }

    #[test]
    fn notifications_and_sends() {
        let content = json!([{"path": "/3/0/9", "value": 95}]);
        let message = |data: Value| json!({"at": 1, "endpoint": "a", "message": {"msgType": "notify", "data": data}});
        let battery = json!({"kind": "singleResource", "id": 9, "type": "INTEGER", "value": "95"});
        let single = message(json!({"reqPath": "/3/0/9", "code": "2.05", "content": content}));
        assert_eq!(
            told(Kind::Notify, &single).unwrap(),
            (
                "NOTIFICATION",
                json!({"ep": "a", "kind": "single", "res": "/3/0/9", "val": battery})
            )
        );
        let several = message(json!({"reqPaths": ["/3/0/9", "/1/0/1"], "content": content}));
        assert_eq!(
            told(Kind::Notify, &several).unwrap().1,
            json!({"ep": "a", "kind": "composite", "val": {"/3/0/9": battery},
                "paths": ["/3/0/9", "/1/0/1"]})
        );
        let send = message(json!({"content": content}));
        assert_eq!(
            told(Kind::Send, &send).unwrap(),
            ("SEND", json!({"ep": "a", "val": {"/3/0/9": battery}}))
        );
        let ended = message(json!({"reqPath": "/3/0/9", "code": "4.04"}));
        assert_eq!(told(Kind::Notify, &ended), None);
    }

    #[test]
    fn answers_that_were_awaited_are_no_events() {
        let answer = json!({"at": 1, "endpoint": "a",
            "message": {"reqID": "leshan-1", "msgType": "read", "data": {"code": "2.05"}}});
        assert_eq!(told(Kind::Answer, &answer), None);
        assert_eq!(
            told(Kind::Asleep, &answer).unwrap(),
            ("SLEEPING", json!({"ep": "a"}))
        );
    }
}
