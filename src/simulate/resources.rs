//! How a simulated device answers the server: read, write, execute, discover, observe, create and
//! delete (LwM2M 1.0 §5.4 and §5.5), block-wise where it must be (RFC 7959).

use std::collections::BTreeMap;
use std::time::Duration;

use super::content::{self, Raw};
use super::context::{Clock, Context};
use super::objects::{Content, Objects, Value};
use super::observation::Observation;
use super::wire::{BLOCK_EXPONENT, Block, Kind, Message, add_slice, code, format, option};
use crate::lwm2m::Path;

/// Largest body put together from blocks.
const MAX_BODY: usize = 64 << 10;

/// A request body that comes in blocks.
#[derive(Debug)]
struct Upload {
    code: u8,
    path: Path,
    body: Vec<u8>,
}

/// What the server may still want of a device besides its answer.
#[derive(Debug, Default)]
struct Wishes {
    reboot: bool,
    update: bool,
    lifetime: bool,
    list: bool,
}

/// The resources of a device and all that the server has set on them.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) objects: Objects,
    lifetime: u32,
    attributes: BTreeMap<Path, BTreeMap<String, String>>,
    pub(super) observations: Vec<Observation>,
    upload: Option<Upload>,
    wishes: Wishes,
}

/// An answer without its type, message id and token.
fn answer(code: u8) -> Message {
    Message::new(Kind::Acknowledgement, code, 0, Vec::new())
}

impl Resources {
    pub(super) const fn new(objects: Objects, lifetime: u32) -> Self {
        Self {
            objects,
            lifetime,
            attributes: BTreeMap::new(),
            observations: Vec::new(),
            upload: None,
            wishes: Wishes {
                reboot: false,
                update: false,
                lifetime: false,
                list: false,
            },
        }
    }

    pub(super) const fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(super) const fn lifetime(&self) -> u32 {
        self.lifetime
    }

    pub(super) fn forget_observations(&mut self) {
        self.observations.clear();
    }

    pub(super) fn take_reboot(&mut self) -> bool {
        std::mem::take(&mut self.wishes.reboot)
    }

    pub(super) fn wants_update(&mut self) -> bool {
        std::mem::take(&mut self.wishes.update)
    }

    pub(super) fn take_lifetime_changed(&mut self) -> Option<u32> {
        std::mem::take(&mut self.wishes.lifetime).then_some(self.lifetime)
    }

    pub(super) fn take_list_changed(&mut self) -> bool {
        std::mem::take(&mut self.wishes.list)
    }

    /// The answer to a request.
    pub(super) fn serve(&mut self, ctx: &Context<'_>, mut message: Message) -> Message {
        if message.options.iter().any(|(number, _)| !is_known(*number)) {
            return answer(code::BAD_OPTION);
        }
        let Some(path) = uri_path(&message) else {
            return answer(code::NOT_FOUND);
        };
        let block1 = match message.uint(option::BLOCK1).map(Block::from_uint) {
            None => None,
            Some(None) => return answer(code::BAD_OPTION),
            Some(Some(block)) => match self.collect(&path, &mut message, block) {
                Ok(()) => Some(block),
                Err(reply) => return reply,
            },
        };
        self.objects.refresh(&path, ctx.clock.unix);
        let mut reply = match message.code {
            code::GET => self.get(ctx, &path, &message),
            code::PUT
                if message.payload.is_empty() && message.all(option::URI_QUERY).count() > 0 =>
            {
                self.write_attributes(&path, &message)
            }
            code::PUT | code::POST if path.depth() >= 3 => {
                if self.is_action(&path) {
                    self.execute(&path, message.code)
                } else {
                    self.write(ctx.clock, &path, &message)
                }
            }
            code::PUT | code::POST if path.depth() == 2 => self.write(ctx.clock, &path, &message),
            code::POST if path.depth() == 1 => self.create(&path, &message),
            code::DELETE => self.delete(&path),
            _ => answer(code::METHOD_NOT_ALLOWED),
        };
        if let Some(block) = block1 {
            reply.add_uint(option::BLOCK1, block.to_uint());
        }
        reply
    }

    /// Adds a block to the body under way; `Ok` when `message` now holds all of it.
    fn collect(&mut self, path: &Path, message: &mut Message, block: Block) -> Result<(), Message> {
        if block.number == 0 {
            self.upload = Some(Upload {
                code: message.code,
                path: path.clone(),
                body: Vec::new(),
            });
        }
        let Some(upload) = self.upload.as_mut().filter(|upload| {
            upload.code == message.code
                && upload.path == *path
                && upload.body.len() == block.offset()
        }) else {
            return Err(answer(code::INCOMPLETE));
        };
        if upload.body.len() + message.payload.len() > MAX_BODY {
            self.upload = None;
            return Err(answer(code::TOO_LARGE));
        }
        upload.body.append(&mut message.payload);
        if block.more {
            let mut reply = answer(code::CONTINUE);
            reply.add_uint(option::BLOCK1, block.to_uint());
            return Err(reply);
        }
        message.payload = self
            .upload
            .take()
            .map(|upload| upload.body)
            .unwrap_or_default();
        Ok(())
    }

    fn get(&mut self, ctx: &Context<'_>, path: &Path, message: &Message) -> Message {
        let accept = message
            .uint(option::ACCEPT)
            .map(|number| u16::try_from(number).unwrap_or(u16::MAX));
        if path.depth() == 0 || !self.objects.exists(path) {
            return answer(code::NOT_FOUND);
        }
        if accept == Some(format::LINK) {
            let links = content::links(&self.objects, path, &self.attributes);
            return sliced(message, format::LINK, &links.into_bytes());
        }
        if self.is_action(path) {
            return answer(code::METHOD_NOT_ALLOWED);
        }
        let Ok((form, body)) = content::read(&self.objects, path, accept) else {
            return answer(code::NOT_ACCEPTABLE);
        };
        let mut reply = sliced(message, form, &body);
        match message.uint(option::OBSERVE) {
            Some(0) if self.observe(ctx, path, accept, message) => {
                reply.add_uint(option::OBSERVE, 0);
            }
            Some(1) => self.observations.retain(|o| o.token != message.token),
            _ => {}
        }
        reply
    }

    /// An attribute in seconds, written to `path` or the nearest path above it.
    pub(super) fn attribute(&self, path: &Path, key: &str) -> Option<Duration> {
        let text = (1..=path.depth())
            .rev()
            .find_map(|depth| self.attributes.get(&path.truncated(depth))?.get(key))?;
        text.parse().ok().map(Duration::from_secs)
    }

    fn write_attributes(&mut self, path: &Path, message: &Message) -> Message {
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

    fn is_action(&self, path: &Path) -> bool {
        self.objects
            .resource(path)
            .is_some_and(|resource| resource.content == Content::Action)
    }

    fn execute(&mut self, path: &Path, method: u8) -> Message {
        if method != code::POST {
            return answer(code::METHOD_NOT_ALLOWED);
        }
        match path.ids() {
            [3, _, 4 | 5] => self.wishes.reboot = true,
            [1, _, 8] => self.wishes.update = true,
            [_, _, 5605] => {
                for id in [5601, 5602] {
                    let now = self.objects.resource(&sibling(path, 5700)).cloned();
                    if let (Some(resource), Some(now)) =
                        (self.objects.resource_mut(&sibling(path, id)), now)
                    {
                        *resource = now;
                    }
                }
            }
            _ => {}
        }
        answer(code::CHANGED)
    }

    fn write(&mut self, clock: Clock, path: &Path, message: &Message) -> Message {
        if !self.objects.exists(path) {
            return answer(code::NOT_FOUND);
        }
        let form = message.uint(option::CONTENT_FORMAT).unwrap_or(0);
        let (text, writes) = match u16::try_from(form) {
            Ok(format::TEXT | format::OCTETS) if path.depth() >= 3 => {
                let raw = Raw::One(message.payload.clone());
                let text = form == u32::from(format::TEXT);
                (text, vec![(path.truncated(3), raw)])
            }
            Ok(format::TLV | format::OLD_TLV) => match tlv_writes(path, &message.payload) {
                Some(writes) => (false, writes),
                None => return answer(code::BAD_REQUEST),
            },
            _ => return answer(code::UNSUPPORTED_FORMAT),
        };
        // All or nothing: every value is checked before the first is taken.
        let mut checked = Vec::with_capacity(writes.len());
        for (path, raw) in writes {
            match self.check(&path, &raw, text) {
                Ok(content) => checked.push((path, content)),
                Err(code) => return answer(code),
            }
        }
        for (path, content) in checked {
            self.take_value(&path, content);
            for index in 0..self.observations.len() {
                let pmin = self
                    .observations
                    .get(index)
                    .and_then(|o| self.attribute(&o.path, "pmin"));
                if let Some(observation) = self.observations.get_mut(index)
                    && observation.path.contains(&path)
                {
                    let earliest = observation.last_sent + pmin.unwrap_or_default();
                    observation.next = Some(earliest.max(clock.mono));
                }
            }
        }
        answer(code::CHANGED)
    }

    fn check(&self, path: &Path, raw: &Raw, text: bool) -> Result<Content, u8> {
        let resource = self.objects.resource(path).ok_or(code::NOT_FOUND)?;
        if !resource.writable {
            return Err(code::METHOD_NOT_ALLOWED);
        }
        let typed =
            |old: &Value, bytes: &[u8]| content::typed(old, bytes, text).ok_or(code::BAD_REQUEST);
        match (&resource.content, raw) {
            (Content::One(old), Raw::One(bytes)) => Ok(Content::One(typed(old, bytes)?)),
            (Content::Many(olds), Raw::Many(values)) => {
                let old = olds.values().next().ok_or(code::BAD_REQUEST)?;
                let values = values
                    .iter()
                    .map(|(id, bytes)| Ok((*id, typed(old, bytes)?)))
                    .collect::<Result<_, u8>>()?;
                Ok(Content::Many(values))
            }
            _ => Err(code::BAD_REQUEST),
        }
    }

    fn take_value(&mut self, path: &Path, content: Content) {
        if let ([1, _, 1], Content::One(Value::Integer(lifetime))) = (path.ids(), &content) {
            self.lifetime = u32::try_from(*lifetime).unwrap_or(self.lifetime).max(1);
            self.wishes.lifetime = true;
            self.wishes.update = true;
        }
        if let Some(resource) = self.objects.resource_mut(path) {
            resource.content = content;
        }
    }

    fn create(&mut self, path: &Path, message: &Message) -> Message {
        let Some(object) = path.object() else {
            return answer(code::METHOD_NOT_ALLOWED);
        };
        if !self.objects.exists(path) {
            return answer(code::NOT_FOUND);
        }
        let Some(parsed) = content::parse_tlv(&message.payload) else {
            return answer(code::BAD_REQUEST);
        };
        let wanted = parsed.instances.keys().next().copied();
        let Some(id) = self.objects.create(object, wanted) else {
            return answer(code::METHOD_NOT_ALLOWED);
        };
        let values = parsed
            .instances
            .into_values()
            .next()
            .unwrap_or(parsed.resources);
        for (resource, raw) in values {
            let Some(path) = Path::new(&[object, id, resource]) else {
                continue;
            };
            match (self.objects.resource(&path).map(|r| &r.content), raw) {
                (Some(Content::One(old)), Raw::One(bytes)) => {
                    if let Some(value) = content::typed(old, &bytes, false) {
                        self.take_value(&path, Content::One(value));
                    }
                }
                _ => {
                    self.objects.delete(object, id);
                    return answer(code::BAD_REQUEST);
                }
            }
        }
        self.wishes.list = true;
        self.wishes.update = true;
        let mut reply = answer(code::CREATED);
        reply.add(option::LOCATION_PATH, object.to_string());
        reply.add(option::LOCATION_PATH, id.to_string());
        reply
    }

    fn delete(&mut self, path: &Path) -> Message {
        match path.ids() {
            [object, instance] if self.objects.delete(*object, *instance) => {
                self.observations.retain(|o| !path.contains(&o.path));
                self.attributes.retain(|with, _| !path.contains(with));
                self.wishes.list = true;
                self.wishes.update = true;
                answer(code::DELETED)
            }
            _ if !self.objects.exists(path) => answer(code::NOT_FOUND),
            _ => answer(code::METHOD_NOT_ALLOWED),
        }
    }
}

/// 2.05 with the part of `body` that the request's Block2 option asks for.
fn sliced(request: &Message, form: u16, body: &[u8]) -> Message {
    let asked = match request.uint(option::BLOCK2) {
        None => Block::from_uint(BLOCK_EXPONENT),
        Some(value) => Block::from_uint(value),
    };
    let mut reply = answer(code::CONTENT);
    if asked.is_none_or(|block| block.number > 0 && block.offset() >= body.len()) {
        return answer(code::BAD_OPTION);
    }
    add_slice(&mut reply, form, body, asked);
    reply
}

/// The options a device understands; any other critical one is refused (RFC 7252 §5.4.1).
const fn is_known(number: u16) -> bool {
    number.is_multiple_of(2)
        || matches!(
            number,
            3 | 7
                | option::URI_PATH
                | option::URI_QUERY
                | option::ACCEPT
                | option::BLOCK2
                | option::BLOCK1
        )
}

/// `None` when a segment is not a number or there are too many.
fn uri_path(message: &Message) -> Option<Path> {
    let ids: Vec<u16> = message
        .all(option::URI_PATH)
        .map(|segment| std::str::from_utf8(segment).ok()?.parse().ok())
        .collect::<Option<_>>()?;
    Path::new(&ids)
}

fn sibling(path: &Path, resource: u16) -> Path {
    path.truncated(2).child(resource).unwrap_or(Path::ROOT)
}

/// The resources a TLV payload on `path` writes.
fn tlv_writes(path: &Path, payload: &[u8]) -> Option<Vec<(Path, Raw)>> {
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
        .map(|(id, raw)| Some((base.child(id)?, raw)))
        .collect()
}
