//! What the server writes to a device: values, attributes and new instances.

use std::collections::BTreeMap;

use super::cbor::{self, Item};
use super::content::{self, Raw};
use super::context::{Clock, Context};
use super::forms::is_modern;
use super::image::is_package;
use super::objects::{Content, Value};
use super::resources::{Resources, answer};
use super::senml;
use super::wire::{Message, code, format, option};
use crate::lwm2m::Path;

/// A value that came in.
#[derive(Debug, Clone, PartialEq)]
enum Written {
    /// The bytes, or the text, of one value.
    Plain { bytes: Vec<u8>, text: bool },
    /// From TLV.
    Raw(Raw),
    /// From a format that says what is a number and what a text.
    Typed(Content),
}

impl Resources {
    pub(super) fn write(
        &mut self,
        ctx: &mut Context<'_>,
        endpoint: &str,
        path: &Path,
        message: &Message,
    ) -> Message {
        if path.depth() > 0 && !self.objects.exists(path) {
            return answer(code::NOT_FOUND);
        }
        let form = message.uint(option::CONTENT_FORMAT).unwrap_or(0);
        let writes = match u16::try_from(form) {
            Ok(format::TEXT | format::OCTETS) if path.depth() >= 3 => {
                let written = Written::Plain {
                    bytes: message.payload.clone(),
                    text: form == u32::from(format::TEXT),
                };
                Some(vec![(path.truncated(3), written)])
            }
            Ok(format::TLV | format::OLD_TLV) if path.depth() > 0 => {
                tlv_writes(path, &message.payload)
            }
            Ok(format::CBOR) if is_modern(&ctx.profile.version) && path.depth() == 3 => {
                match cbor::read(&message.payload) {
                    Some(Item::Value(value)) => {
                        let written = Written::Typed(Content::One(value));
                        Some(vec![(path.clone(), written)])
                    }
                    _ => None,
                }
            }
            Ok(form @ (format::SENML_JSON | format::SENML_CBOR))
                if is_modern(&ctx.profile.version) =>
            {
                senml_writes(path, form, &message.payload)
            }
            _ => return answer(code::UNSUPPORTED_FORMAT),
        };
        let Some(writes) = writes else {
            return answer(code::BAD_REQUEST);
        };
        // All or nothing: every value is checked before the first is taken.
        let mut checked = Vec::with_capacity(writes.len());
        for (path, written) in writes {
            match self.check(&path, written) {
                Ok(content) => checked.push((path, content)),
                Err(code) => return answer(code),
            }
        }
        for (path, content) in checked {
            match (path.ids(), content) {
                (_, Content::One(Value::Opaque(image))) if is_package(&path) => {
                    self.take_image(ctx, endpoint, &image);
                }
                ([5, _, 1], Content::One(Value::Text(uri))) => {
                    self.take_uri(ctx.clock, &uri);
                    self.take_value(ctx.clock, &path, Content::One(Value::Text(uri)));
                }
                (_, content) => self.take_value(ctx.clock, &path, content),
            }
        }
        answer(code::CHANGED)
    }

    fn check(&self, path: &Path, written: Written) -> Result<Content, u8> {
        let resource = self.objects.resource(path).ok_or(code::NOT_FOUND)?;
        let busy = matches!(path.ids(), [5, _, 0 | 1]) && !self.takes_image();
        if !resource.writable || busy {
            return Err(code::METHOD_NOT_ALLOWED);
        }
        let package = Content::One(Value::Opaque(Vec::new()));
        let old = match &resource.content {
            Content::Package => &package,
            content => content,
        };
        fit(old, written).ok_or(code::BAD_REQUEST)
    }

    fn take_value(&mut self, clock: Clock, path: &Path, content: Content) {
        if let ([1, _, 1], Content::One(Value::Integer(lifetime))) = (path.ids(), &content) {
            self.lifetime = u32::try_from(*lifetime).unwrap_or(self.lifetime).max(1);
            self.wishes.lifetime = true;
            self.wishes.update = true;
        }
        if let Some(resource) = self.objects.resource_mut(path) {
            resource.content = content;
        }
        self.note_change(clock, path);
    }

    pub(super) fn write_attributes(&mut self, path: &Path, message: &Message) -> Message {
        if !self.objects.exists(path) {
            return answer(code::NOT_FOUND);
        }
        let mut wanted = Vec::new();
        for query in message.all(option::URI_QUERY) {
            let Ok(query) = std::str::from_utf8(query) else {
                return answer(code::BAD_REQUEST);
            };
            // The name alone unsets (LwM2M Core 1.1 §6.3.5).
            let (key, value) = match query.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (query, None),
            };
            let known = ["pmin", "pmax", "gt", "lt", "st"].contains(&key);
            if !known || value.is_some_and(|value| value.parse::<f64>().is_err()) {
                return answer(code::BAD_REQUEST);
            }
            wanted.push((key.to_owned(), value.map(str::to_owned)));
        }
        let attributes = self.attributes.entry(path.clone()).or_default();
        for (key, value) in wanted {
            match value {
                Some(value) => attributes.insert(key, value),
                None => attributes.remove(&key),
            };
        }
        answer(code::CHANGED)
    }

    pub(super) fn create(&mut self, clock: Clock, path: &Path, message: &Message) -> Message {
        let Some(object) = path.object() else {
            return answer(code::METHOD_NOT_ALLOWED);
        };
        if !self.objects.exists(path) {
            return answer(code::NOT_FOUND);
        }
        let form = message.uint(option::CONTENT_FORMAT).map(u16::try_from);
        let new = match form {
            None | Some(Ok(format::TLV | format::OLD_TLV)) => tlv_instance(&message.payload),
            Some(Ok(form @ (format::SENML_JSON | format::SENML_CBOR))) => {
                senml_instance(path, form, &message.payload)
            }
            Some(_) => return answer(code::UNSUPPORTED_FORMAT),
        };
        let Some((wanted, values)) = new else {
            return answer(code::BAD_REQUEST);
        };
        let Some(id) = self.objects.create(object, wanted) else {
            return answer(code::METHOD_NOT_ALLOWED);
        };
        let fitted = |(resource, written): (u16, Written)| {
            let path = Path::new(&[object, id, resource])?;
            let old = &self.objects.resource(&path)?.content;
            let new = fit(old, written)?;
            Some((path, new))
        };
        let Some(values) = values.into_iter().map(fitted).collect::<Option<Vec<_>>>() else {
            self.objects.delete(object, id);
            return answer(code::BAD_REQUEST);
        };
        for (path, content) in values {
            self.take_value(clock, &path, content);
        }
        self.wishes.list = true;
        self.wishes.update = true;
        let mut reply = answer(code::CREATED);
        reply.add(option::LOCATION_PATH, object.to_string());
        reply.add(option::LOCATION_PATH, id.to_string());
        reply
    }
}

/// A written value in the type of the one that it replaces.
fn fit(old: &Content, written: Written) -> Option<Content> {
    match (old, written) {
        (Content::One(old), Written::Plain { bytes, text }) => {
            content::typed(old, &bytes, text).map(Content::One)
        }
        (Content::One(old), Written::Raw(Raw::One(bytes))) => {
            content::typed(old, &bytes, false).map(Content::One)
        }
        (Content::One(old), Written::Typed(Content::One(new))) => {
            converted(old, new).map(Content::One)
        }
        (Content::Many(olds), Written::Raw(Raw::Many(values))) => {
            let old = olds.values().next()?;
            let values = values.iter();
            let values = values.map(|(id, bytes)| Some((*id, content::typed(old, bytes, false)?)));
            values.collect::<Option<_>>().map(Content::Many)
        }
        (Content::Many(olds), Written::Typed(Content::Many(values))) => {
            let old = olds.values().next()?;
            let values = values.into_iter();
            let values = values.map(|(id, new)| Some((id, converted(old, new)?)));
            values.collect::<Option<_>>().map(Content::Many)
        }
        _ => None,
    }
}

/// The formats do not tell a whole number from a float that is one.
fn converted(old: &Value, new: Value) -> Option<Value> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    Some(match (old, new) {
        (Value::Float(_), Value::Integer(number)) => Value::Float(number as f64),
        (Value::Integer(_), Value::Float(number)) if number.fract() == 0.0 => {
            Value::Integer(number as i64)
        }
        (old, new) if std::mem::discriminant(old) == std::mem::discriminant(&new) => new,
        _ => return None,
    })
}

/// The resources that a SenML pack writes; `None` when it writes something outside of `path`.
fn senml_writes(path: &Path, form: u16, payload: &[u8]) -> Option<Vec<(Path, Written)>> {
    let mut writes: Vec<(Path, Content)> = Vec::new();
    for record in senml::read(form, payload)? {
        let value = record.value?;
        if record.path.depth() < 3 || !path.contains(&record.path) {
            return None;
        }
        let resource = record.path.truncated(3);
        match (record.path.resource_instance(), writes.last_mut()) {
            (None, _) => writes.push((resource, Content::One(value))),
            (Some(id), Some((last, Content::Many(values)))) if *last == resource => {
                values.insert(id, value);
            }
            (Some(id), _) => {
                let values = BTreeMap::from([(id, value)]);
                writes.push((resource, Content::Many(values)));
            }
        }
    }
    let writes = writes.into_iter();
    Some(
        writes
            .map(|(path, content)| (path, Written::Typed(content)))
            .collect(),
    )
}

/// A new instance: its id, if the server chooses it, and its resources.
type Instance = (Option<u16>, Vec<(u16, Written)>);

fn senml_instance(object: &Path, form: u16, payload: &[u8]) -> Option<Instance> {
    let writes = senml_writes(object, form, payload)?;
    let id = writes.first().and_then(|(path, _)| path.instance());
    let values = writes.into_iter().map(|(path, written)| {
        let resource = path.resource().filter(|_| path.instance() == id)?;
        Some((resource, written))
    });
    Some((id, values.collect::<Option<_>>()?))
}

fn tlv_instance(payload: &[u8]) -> Option<Instance> {
    let parsed = content::parse_tlv(payload)?;
    let (id, resources) = match parsed.instances.into_iter().next() {
        Some((id, resources)) => (Some(id), resources),
        None => (None, parsed.resources),
    };
    let values = resources.into_iter();
    let values = values.map(|(resource, raw)| (resource, Written::Raw(raw)));
    Some((id, values.collect()))
}

/// The resources a TLV payload on `path` writes.
fn tlv_writes(path: &Path, payload: &[u8]) -> Option<Vec<(Path, Written)>> {
    let parsed = content::parse_tlv(payload)?;
    let base = path.truncated(2);
    let mut resources = parsed.resources;
    if let (Some(instance), true) = (path.instance(), path.depth() == 2) {
        resources.extend(
            parsed
                .instances
                .into_iter()
                .filter(|(id, _)| *id == instance)
                .flat_map(|(_, r)| r),
        );
    }
    if path.depth() >= 3 {
        resources.retain(|id, _| path.resource() == Some(*id));
        if !parsed.loose.is_empty() {
            resources.insert(path.resource()?, Raw::Many(parsed.loose));
        }
    }
    if resources.is_empty() {
        return None;
    }
    resources
        .into_iter()
        .map(|(id, raw)| Some((base.child(id)?, Written::Raw(raw))))
        .collect()
}
