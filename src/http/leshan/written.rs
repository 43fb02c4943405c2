//! Nodes that are written: from Leshan's tree to the `content` of a command.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::nodes::text_of;
use super::refused::Refused;
use crate::lwm2m::ResourceType;

/// A node that was sent.
#[derive(Debug)]
pub(super) struct Written {
    /// What `id` says.
    pub(super) id: Option<u16>,
    pub(super) kind: Form,
    /// Elements with paths below the node: `/5` of an instance, `/0` of a resource with instances,
    /// none of a single value.
    pub(super) items: Vec<Item>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An object instance.
    Instance,
    /// A resource with instances.
    Multiple,
    /// One value: of a resource, or of an instance of a resource.
    Value,
}

/// One value.
#[derive(Debug, PartialEq)]
pub(super) struct Item {
    pub(super) below: Vec<u16>,
    kind: ResourceType,
    value: Value,
}

impl Item {
    /// As an element of `content`, at this path.
    pub(super) fn element(&self, base: &[u16]) -> Value {
        let path: Vec<u16> = base.iter().chain(&self.below).copied().collect();
        json!({"path": text_of(&path), "type": self.kind.name(), "value": self.value})
    }

    /// The members of a write of one value.
    pub(super) fn members(self) -> [(&'static str, Value); 2] {
        [("type", self.kind.name().into()), ("value", self.value)]
    }
}

/// Reads a node; `kind` may be missing, its members tell then.
pub(super) fn read(node: &Value) -> Result<Written, Refused> {
    let node = node
        .as_object()
        .ok_or_else(|| Refused::invalid("a node must be a JSON object"))?;
    let kind = node.get("kind").and_then(Value::as_str);
    let id = id_of(node)?;
    if kind == Some("instance") || node.contains_key("resources") {
        let resources = node.get("resources").and_then(Value::as_array);
        let mut items = Vec::new();
        for resource in resources.into_iter().flatten() {
            let resource = read(resource)?;
            let id = resource.id.ok_or_else(|| Refused::invalid("Missing id"))?;
            if resource.kind == Form::Instance {
                return Err(Refused::invalid("expected a resource, found an instance"));
            }
            items.extend(resource.items.into_iter().map(|item| Item {
                below: [id].into_iter().chain(item.below).collect(),
                ..item
            }));
        }
        return Ok(Written {
            id,
            kind: Form::Instance,
            items,
        });
    }
    if id.is_none() {
        return Err(Refused::invalid("Missing id"));
    }
    if kind == Some("multiResource") || node.contains_key("values") {
        let values = node.get("values").and_then(Value::as_object);
        let values = values.ok_or_else(|| Refused::invalid("values is not an object"))?;
        let mut items = Vec::new();
        for (instance, value) in values {
            let instance = instance.parse();
            let instance =
                instance.map_err(|_| Refused::invalid("the id of an instance must be a number"))?;
            items.push(item(node, vec![instance], value)?);
        }
        return Ok(Written {
            id,
            kind: Form::Multiple,
            items,
        });
    }
    let value = node.get("value");
    let value = value.ok_or_else(|| Refused::invalid("Invalid node element"))?;
    Ok(Written {
        id,
        kind: Form::Value,
        items: vec![item(node, Vec::new(), value)?],
    })
}

/// Numbers may be text, as keys of Python dictionaries are.
fn id_of(node: &Map<String, Value>) -> Result<Option<u16>, Refused> {
    let id = match node.get("id") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(id) => id.as_u64().and_then(|it| u16::try_from(it).ok()),
    };
    id.map(Some)
        .ok_or_else(|| Refused::invalid("id is not a number from 0 to 65535"))
}

fn item(node: &Map<String, Value>, below: Vec<u16>, value: &Value) -> Result<Item, Refused> {
    let name = node.get("type").and_then(Value::as_str);
    let name = name.ok_or_else(|| Refused::invalid("type is missing"))?;
    let kind: ResourceType = name.parse().map_err(Refused::invalid)?;
    let wrong = || Refused::invalid(format!("{value} is not a value of type {name}"));
    let value = match (kind, value) {
        (ResourceType::Opaque, Value::String(text)) => {
            let bytes = bytes(text).ok_or_else(wrong)?;
            STANDARD.encode(bytes).into()
        }
        (ResourceType::Time, Value::Number(ms)) => {
            let ms = ms.as_i64().ok_or_else(wrong)?;
            ms.div_euclid(1000).into()
        }
        (ResourceType::ObjectLink, Value::Object(link)) => {
            let part = |name: &str| link.get(name).and_then(Value::as_u64).ok_or_else(wrong);
            format!("{}:{}", part("objectId")?, part("objectInstanceId")?).into()
        }
        (_, Value::String(_) | Value::Number(_) | Value::Bool(_)) => value.clone(),
        _ => return Err(wrong()),
    };
    Ok(Item { below, kind, value })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|it| it.to_digit(16)).collect();
    let digits = digits.filter(|it| it.len() % 2 == 0)?;
    let pair = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(node: &Value, base: &[u16]) -> Vec<Value> {
        let written = read(node).unwrap();
        written.items.iter().map(|it| it.element(base)).collect()
    }

    #[test]
    fn nodes_of_each_kind() {
        let instance = json!({"kind": "instance", "id": 0, "resources": [
            {"id": "1", "kind": "singleResource", "value": 60, "type": "integer"},
            {"id": 0, "kind": "multiResource", "values": {"0": "a", "3": "b"}, "type": "string"},
        ]});
        assert_eq!(
            elements(&instance, &[16, 0]),
            [
                json!({"path": "/16/0/1", "type": "Integer", "value": 60}),
                json!({"path": "/16/0/0/0", "type": "String", "value": "a"}),
                json!({"path": "/16/0/0/3", "type": "String", "value": "b"}),
            ]
        );
        let single = json!({"id": 13, "value": 7999, "type": "time"});
        assert_eq!(
            elements(&single, &[3, 0, 13]),
            [json!({"path": "/3/0/13", "type": "Time", "value": 7})]
        );
        let opaque = json!({"id": 0, "value": "00fF", "type": "OPAQUE"});
        assert_eq!(elements(&opaque, &[5, 0, 0])[0]["value"], "AP8=");
        let link =
            json!({"id": 1, "value": {"objectId": 3, "objectInstanceId": 0}, "type": "objlnk"});
        assert_eq!(elements(&link, &[9, 0, 1])[0]["value"], "3:0");
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for wrong in [
            json!(7),
            json!({}),
            json!({"id": 1}),
            json!({"id": 1, "value": 7}),
            json!({"id": 1, "value": 7, "type": "decimal"}),
            json!({"id": 70000, "value": 7, "type": "integer"}),
            json!({"value": 7, "type": "integer"}),
            json!({"id": 1, "value": "0", "type": "opaque"}),
            json!({"id": 1, "value": "zz", "type": "opaque"}),
            json!({"id": 1, "value": null, "type": "string"}),
            json!({"id": 1, "values": {"a": 1}, "type": "integer"}),
            json!({"id": 0, "resources": [{"id": 0, "resources": []}]}),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
