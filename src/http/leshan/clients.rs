//! Registrations: `/api/clients`.

use std::collections::{BTreeMap, BTreeSet};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::nodes::numbers;
use super::refused::{Refused, Reply};
use crate::engine::{DeviceFilter, DeviceState};
use crate::http::access::{Caller, Role};
use crate::http::error;
use crate::http::merge;
use crate::http::sse::Pieces;
use crate::http::state::Shared;
use crate::http::views::Device;

/// Devices asked for at a time.
const PAGE: usize = 500;

/// `GET /api/clients`: all registrations, page by page into one body.
pub(super) async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Reply {
    caller.needs(Role::Read)?;
    let (to, from) = mpsc::channel(1);
    tokio::spawn(pages(shared, to));
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, Body::new(Pieces(from))).into_response())
}

async fn pages(shared: Shared, to: mpsc::Sender<Bytes>) {
    let mut after = None;
    let mut piece = b"[".to_vec();
    let mut first = true;
    loop {
        let filter = DeviceFilter::default();
        let page = merge::page(&shared, filter, after, PAGE).await;
        // Without its end the body shows that something is missing.
        let Ok((devices, next)) = page else {
            return;
        };
        for device in devices {
            if !std::mem::take(&mut first) {
                piece.push(b',');
            }
            let text = serde_json::to_vec(&of_state(device));
            piece.extend_from_slice(&text.unwrap_or_default());
        }
        let ended = next.is_none();
        if ended {
            piece.push(b']');
        }
        if to.send(std::mem::take(&mut piece).into()).await.is_err() || ended {
            return;
        }
        after = next;
    }
}

/// `GET /api/clients/{endpoint}`
pub(super) async fn show(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
) -> Reply {
    caller.needs(Role::Read)?;
    let backend = &shared.backend;
    let detail = shared.ask(|to| backend.detail(&endpoint, to)).await?;
    let detail = detail.ok_or_else(|| Refused::unknown(&endpoint))?;
    Ok(error::json(StatusCode::OK, &of_state(detail.detail.state)))
}

fn of_state(state: DeviceState) -> Value {
    let (device, query) = Device::with_query(state);
    let device = serde_json::to_value(device).unwrap_or_default();
    registration(&device, &query)
}

/// A registration as Leshan shows it, of a device as `/v1` shows it.
pub(super) fn registration(device: &Value, query: &[(String, String)]) -> Value {
    let get = |name: &str| device.get(name).cloned().unwrap_or_default();
    let text = |name: &str| device.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| device.get(name).and_then(Value::as_u64).unwrap_or_default();
    let root = text("alternate_path");
    let objects = device.get("objects").and_then(Value::as_array);
    let objects = objects.map(Vec::as_slice).unwrap_or_default();
    let objects = objects.iter().filter_map(Value::as_str);
    let mut links = vec![json!({"url": root, "attributes": {"rt": "\"oma.lwm2m\""}})];
    links.extend(
        objects
            .clone()
            .map(|url| json!({"url": url, "attributes": {}})),
    );
    let mut instances: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    for path in objects {
        if let Some([object, instance, ..]) = numbers(path).as_deref() {
            instances.entry(*object).or_default().insert(*instance);
        }
    }
    let instances: Map<String, Value> = instances
        .into_iter()
        .map(|(object, instances)| (object.to_string(), json!(instances)))
        .collect();
    let own = ["ep", "lt", "lwm2m", "b", "Q", "sms"];
    let additional: Map<String, Value> = query
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    let binding = query.iter().rfind(|(name, _)| name == "b");
    let binding = binding.map_or("U", |(_, value)| value);
    let queue_mode = device.get("queue_mode") == Some(&Value::Bool(true));
    let lifetime = number("lifetime");
    let updated = number("expires_at").saturating_sub(lifetime.saturating_mul(1000));
    let mut out = json!({
        "endpoint": get("endpoint"),
        "registrationId": id(text("endpoint"), number("registered_at")),
        "registrationDate": get("registered_at"),
        "lastUpdate": updated.max(number("registered_at")),
        "address": get("peer"),
        "lwM2mVersion": get("version"),
        "lifetime": lifetime,
        "bindingMode": binding,
        "rootPath": root,
        "objectLinks": links,
        "secure": text("listener").starts_with("dtls:"),
        "additionalRegistrationAttributes": additional,
        "queuemode": queue_mode,
        "availableInstances": instances,
    });
    if queue_mode && let Some(out) = out.as_object_mut() {
        let sleeping = text("state") == "asleep";
        out.insert("sleeping".into(), sleeping.into());
    }
    out
}

/// Another one for each registration. Locations stay between the gateway and the device.
fn id(endpoint: &str, registered_at: u64) -> String {
    let text = format!("{registered_at}/{endpoint}");
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(5)
        .map(|it| format!("{it:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration() {
        let device = json!({
            "endpoint": "a", "state": "asleep", "listener": "dtls:default", "peer": "192.0.2.1:7",
            "lifetime": 300, "version": "1.1", "queue_mode": true, "registered_at": 1_000,
            "expires_at": 400_000, "alternate_path": "/", "objects": ["/1/0", "/3303/0", "/3303/1", "/5"],
        });
        let query = [("b", "U"), ("lt", "300"), ("imei", "7")];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let shown = registration(&device, &query);
        assert_eq!(shown["lastUpdate"], 100_000);
        assert_eq!(shown["secure"], true);
        assert_eq!(shown["sleeping"], true);
        assert_eq!(
            shown["availableInstances"],
            json!({"1": [0], "3303": [0, 1]})
        );
        assert_eq!(
            shown["additionalRegistrationAttributes"],
            json!({"imei": "7"})
        );
        assert_eq!(
            shown["objectLinks"][1],
            json!({"url": "/1/0", "attributes": {}})
        );
        assert_eq!(shown["registrationId"].as_str().unwrap().len(), 10);
    }
}
