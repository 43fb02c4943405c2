//! Values as the tree of objects, instances and resources that Leshan shows.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::lwm2m::ResourceType;
use crate::lwm2m::model::ObjectModels;

/// One element of `content` of an answer.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: Vec<u16>,
    value: Value,
    /// The payload had no codec: `value` is its bytes in base64.
    raw: bool,
    time: f64,
}

/// The values of `content`; what is no such element is left out.
pub(super) fn found(content: &Value) -> Vec<Found> {
    let elements = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |element: &Value| {
        let path = numbers(element.get("path")?.as_str()?)?;
        let mut value = element.get("value")?.clone();
        if let Some(text) = element.get("nonFinite") {
            value = text.clone();
        }
        Some(Found {
            path,
            value,
            raw: element.get("contentFormat").is_some(),
            time: element.get("time").and_then(Value::as_f64).unwrap_or(0.0),
        })
    };
    elements.iter().filter_map(read).collect()
}

/// The ids of a path such as `/3/0/7`; `None` for what LwM2M does not know.
pub(super) fn numbers(path: &str) -> Option<Vec<u16>> {
    let segments = path.split('/').filter(|it| !it.is_empty());
    let ids: Option<Vec<u16>> = segments.map(|it| it.parse().ok()).collect();
    ids.filter(|ids| ids.len() <= 4)
}

/// A path as text.
pub(super) fn text_of(path: &[u16]) -> String {
    match path.is_empty() {
        true => "/".to_owned(),
        false => path.iter().map(|id| format!("/{id}")).collect(),
    }
}

/// The node at a path, of what was found there and below; `None` when that is nothing and it is a
/// resource.
pub(super) fn node(models: &ObjectModels, at: &[u16], found: &[Found]) -> Option<Value> {
    let mut below: Vec<&Found> = found.iter().filter(|it| it.path.starts_with(at)).collect();
    // Of several values of one resource the newest counts, which comes last.
    below.sort_by(|a, b| a.time.total_cmp(&b.time));
    let id = at.last().copied();
    match (at, id) {
        ([], _) | (_, None) => Some(json!({
            "kind": "root",
            "objects": children(models, at, &below),
        })),
        ([_], Some(id)) => Some(json!({
            "kind": "obj", "id": id,
            "instances": children(models, at, &below),
        })),
        ([_, _], Some(id)) => Some(json!({
            "kind": "instance", "id": id,
            "resources": children(models, at, &below),
        })),
        ([object, _, resource], Some(id)) => {
            let last = below.last()?;
            let kind = kind_of(models, *object, *resource, last);
            if below.iter().all(|it| it.path.len() < 4) {
                let value = shown(kind, last);
                return Some(json!({
                    "kind": "singleResource", "id": id, "type": name(kind), "value": value,
                }));
            }
            let mut values = Map::new();
            for it in below {
                if let Some(instance) = it.path.get(3) {
                    values.insert(instance.to_string(), shown(kind, it));
                }
            }
            Some(json!({
                "kind": "multiResource", "id": id, "type": name(kind), "values": values,
            }))
        }
        ([object, _, resource, ..], Some(id)) => {
            let last = below.last()?;
            let kind = kind_of(models, *object, *resource, last);
            Some(json!({
                "kind": "resourceInstance", "id": id, "type": name(kind),
                "value": shown(kind, last),
            }))
        }
    }
}

fn children(models: &ObjectModels, at: &[u16], below: &[&Found]) -> Vec<Value> {
    let mut parts: BTreeMap<u16, Vec<Found>> = BTreeMap::new();
    for it in below {
        if let Some(id) = it.path.get(at.len()) {
            parts.entry(*id).or_default().push((*it).clone());
        }
    }
    let child = |(id, part): (u16, Vec<Found>)| {
        let path: Vec<u16> = at.iter().copied().chain([id]).collect();
        node(models, &path, &part)
    };
    parts.into_iter().filter_map(child).collect()
}

/// Resources and what was found there, by path: what a Send carries.
pub(super) fn by_resource(models: &ObjectModels, found: &[Found]) -> Map<String, Value> {
    let mut parts: BTreeMap<&[u16], Vec<Found>> = BTreeMap::new();
    for it in found {
        let path = it.path.get(..3).unwrap_or(&it.path);
        parts.entry(path).or_default().push(it.clone());
    }
    let node =
        |(path, part): (&[u16], Vec<Found>)| Some((text_of(path), node(models, path, &part)?));
    parts.into_iter().filter_map(node).collect()
}

/// The nodes of a composite operation, by the paths that were asked for.
pub(super) fn by_path(
    models: &ObjectModels,
    paths: &[Vec<u16>],
    found: &[Found],
) -> Map<String, Value> {
    let there = |path: &&Vec<u16>| found.iter().any(|it| it.path.starts_with(path));
    let node = |path: &Vec<u16>| Some((text_of(path), node(models, path, found)?));
    paths.iter().filter(there).filter_map(node).collect()
}

/// The type of the definition, or that of the value where there is none.
fn kind_of(models: &ObjectModels, object: u16, resource: u16, found: &Found) -> ResourceType {
    let defined = models.lookup(object, None);
    let defined = defined.and_then(|it| it.resource(resource)?.kind);
    if let Some(kind) = defined {
        return kind;
    }
    match &found.value {
        _ if found.raw => ResourceType::Opaque,
        Value::Bool(_) => ResourceType::Boolean,
        Value::Number(it) if it.is_f64() => ResourceType::Float,
        Value::Number(_) => ResourceType::Integer,
        _ => ResourceType::String,
    }
}

/// As Leshan's enumeration has it.
const fn name(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::String => "STRING",
        ResourceType::Integer => "INTEGER",
        ResourceType::UnsignedInteger => "UNSIGNED_INTEGER",
        ResourceType::Float => "FLOAT",
        ResourceType::Boolean => "BOOLEAN",
        ResourceType::Opaque => "OPAQUE",
        ResourceType::Time => "TIME",
        ResourceType::ObjectLink => "OBJLNK",
        ResourceType::CoreLink => "CORELINK",
    }
}

/// A value as Leshan shows it: numbers as text, bytes in hexadecimal digits, times in milliseconds.
fn shown(kind: ResourceType, found: &Found) -> Value {
    let value = &found.value;
    match (kind, value) {
        (ResourceType::Float, Value::Number(it)) => {
            let number = it.as_f64().unwrap_or_default();
            Value::String(format!("{number:?}"))
        }
        (ResourceType::Integer | ResourceType::UnsignedInteger, Value::Number(it)) => {
            Value::String(it.to_string())
        }
        (ResourceType::Time, Value::Number(it)) => {
            let ms = it.as_i64().map(|it| it.saturating_mul(1000));
            ms.map_or_else(|| value.clone(), Value::from)
        }
        (ResourceType::Opaque, Value::String(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Value::String(bytes.iter().map(|it| format!("{it:02x}")).collect()),
            Err(_) => value.clone(),
        },
        (ResourceType::ObjectLink, Value::String(text)) => {
            let parts = text.split_once(':');
            let parts = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            parts.map_or_else(
                || value.clone(),
                |(object, instance): (u16, u16)| {
                    json!({"objectId": object, "objectInstanceId": instance})
                },
            )
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_at(at: &str, content: &Value) -> Value {
        let models = ObjectModels::builtin();
        node(&models, &numbers(at).unwrap(), &found(content)).unwrap_or_default()
    }

    #[test]
    fn single_values() {
        let content = json!([{"path": "/3/0/9", "value": 95}]);
        let single = json!({"kind": "singleResource", "id": 9, "type": "INTEGER", "value": "95"});
        assert_eq!(shown_at("/3/0/9", &content), single);
        assert_eq!(
            shown_at("/3/0", &content),
            json!({"kind": "instance", "id": 0, "resources": [single]})
        );
        assert_eq!(
            shown_at("/3", &content),
            json!({"kind": "obj", "id": 3, "instances": [
                {"kind": "instance", "id": 0, "resources": [single]}
            ]})
        );
        assert_eq!(shown_at("/3/0/1", &content), Value::Null);
        assert_eq!(
            shown_at("/16", &json!([])),
            json!({"kind": "obj", "id": 16, "instances": []})
        );
    }

    #[test]
    fn instances_of_resources() {
        let content = json!([
            {"path": "/3/0/11/0", "value": 0}, {"path": "/3/0/11/3", "value": 5},
        ]);
        assert_eq!(
            shown_at("/3/0/11", &content),
            json!({"kind": "multiResource", "id": 11, "type": "INTEGER",
                   "values": {"0": "0", "3": "5"}})
        );
        assert_eq!(
            shown_at("/3/0/11/3", &content),
            json!({"kind": "resourceInstance", "id": 3, "type": "INTEGER", "value": "5"})
        );
    }

    #[test]
    fn types() {
        let at = |path: &str, value: Value| {
            let node = shown_at(path, &json!([{"path": path, "value": value}]));
            (node["type"].clone(), node["value"].clone())
        };
        assert_eq!(
            at("/5/0/0", json!("AP8=")),
            (json!("OPAQUE"), json!("00ff"))
        );
        assert_eq!(at("/3/0/13", json!(7)), (json!("TIME"), json!(7000)));
        assert_eq!(at("/1/0/6", json!(true)), (json!("BOOLEAN"), json!(true)));
        assert_eq!(at("/30000/0/1", json!(2.5)), (json!("FLOAT"), json!("2.5")));
        assert_eq!(at("/30000/0/1", json!("a")), (json!("STRING"), json!("a")));
    }

    #[test]
    fn the_newest_of_several_counts() {
        let content = json!([
            {"path": "/3/0/9", "value": 2, "time": 20.0}, {"path": "/3/0/9", "value": 1, "time": 10.0},
        ]);
        assert_eq!(shown_at("/3/0/9", &content)["value"], "2");
    }

    #[test]
    fn composites_leave_out_what_is_not_there() {
        let models = ObjectModels::builtin();
        let found = found(&json!([{"path": "/3/0/11/0", "value": 0}]));
        let paths = ["/3/0/11/0", "/3353/0/6030"].map(|it| numbers(it).unwrap());
        let nodes = by_path(&models, &paths, &found);
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["/3/0/11/0"]);
        let nodes = by_resource(&models, &found);
        assert_eq!(nodes["/3/0/11"]["kind"], "multiResource");
    }
}
