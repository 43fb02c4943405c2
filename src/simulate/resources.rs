//! How a simulated device answers the server: read, write, execute, discover, observe, create and
//! delete (LwM2M 1.0 §5.4 and §5.5), block-wise where it must be (RFC 7959).

use std::collections::BTreeMap;
use std::time::Duration;

use super::content;
use super::context::{Clock, Context};
use super::forms::{self, is_modern};
use super::image::{Firmware, MAX_IMAGE, is_package};
use super::objects::{Content, Objects, Value};
use super::observation::Observation;
use super::senml;
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
pub(super) struct Wishes {
    reboot: bool,
    pub(super) update: bool,
    pub(super) lifetime: bool,
    pub(super) list: bool,
}

/// The resources of a device and all that the server has set on them.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) objects: Objects,
    pub(super) lifetime: u32,
    pub(super) attributes: BTreeMap<Path, BTreeMap<String, String>>,
    pub(super) observations: Vec<Observation>,
    upload: Option<Upload>,
    pub(super) wishes: Wishes,
    pub(super) firmware: Firmware,
}

/// An answer without its type, message id and token.
pub(super) fn answer(code: u8) -> Message {
    Message::new(Kind::Acknowledgement, code, 0, Vec::new())
}

impl Resources {
    pub(super) fn new(objects: Objects, lifetime: u32) -> Self {
        Self {
            objects,
            lifetime,
            attributes: BTreeMap::new(),
            observations: Vec::new(),
            upload: None,
            wishes: Wishes::default(),
            firmware: Firmware::default(),
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

    /// What a device sends by itself: its measurements, or else what it is. Nothing when the server
    /// wants no such messages.
    pub(super) fn pack_to_send(&mut self, clock: Clock) -> Option<Vec<u8>> {
        let muted = Path::new(&[1, 0, 23])?;
        let muted = self.objects.resource(&muted).map(|it| &it.content);
        if muted == Some(&Content::One(Value::Boolean(true))) {
            return None;
        }
        let measured = self.objects.measured();
        let paths = if measured.is_empty() {
            vec![Path::new(&[3, 0])?]
        } else {
            measured
        };
        for path in &paths {
            self.objects.refresh(path, clock.unix);
        }
        let values = paths
            .iter()
            .flat_map(|path| senml::values(&self.objects, path));
        let values: Vec<_> = values.collect();
        senml::write(format::SENML_CBOR, &values)
    }

    /// The answer to a request.
    pub(super) fn serve(
        &mut self,
        ctx: &mut Context<'_>,
        endpoint: &str,
        mut message: Message,
    ) -> Message {
        if message.options.iter().any(|(number, _)| !is_known(*number)) {
            return answer(code::BAD_OPTION);
        }
        let Some(path) = uri_path(&message) else {
            return answer(code::NOT_FOUND);
        };
        let block1 = match message.uint(option::BLOCK1).map(Block::from_uint) {
            None => None,
            Some(None) => return answer(code::BAD_OPTION),
            Some(Some(block)) => match self.collect(ctx, &path, &mut message, block) {
                Ok(()) => Some(block),
                Err(reply) => return reply,
            },
        };
        self.objects.refresh(&path, ctx.clock.unix);
        let mut reply = match message.code {
            code::GET => self.get(ctx, &path, &message),
            code::FETCH if path.depth() == 0 && is_modern(&ctx.profile.version) => {
                self.fetch(ctx, &message)
            }
            code::IPATCH if path.depth() == 0 && is_modern(&ctx.profile.version) => {
                self.write(ctx, endpoint, &path, &message)
            }
            code::PUT
                if message.payload.is_empty() && message.all(option::URI_QUERY).count() > 0 =>
            {
                self.write_attributes(&path, &message)
            }
            code::PUT | code::POST if path.depth() >= 3 => {
                if self.is_action(&path) {
                    self.execute(ctx, &path, message.code)
                } else {
                    self.write(ctx, endpoint, &path, &message)
                }
            }
            code::PUT | code::POST if path.depth() == 2 => {
                self.write(ctx, endpoint, &path, &message)
            }
            code::POST if path.depth() == 1 => self.create(ctx.clock, &path, &message),
            code::DELETE => self.delete(&path),
            _ => answer(code::METHOD_NOT_ALLOWED),
        };
        if let Some(block) = block1 {
            reply.add_uint(option::BLOCK1, block.to_uint());
        }
        reply
    }

    /// Adds a block to the body under way; `Ok` when `message` now holds all of it.
    fn collect(
        &mut self,
        ctx: &Context<'_>,
        path: &Path,
        message: &mut Message,
        block: Block,
    ) -> Result<(), Message> {
        let is_image = is_package(path) && self.objects.exists(path);
        let limit = if is_image { MAX_IMAGE } else { MAX_BODY };
        let declared = message.uint(option::SIZE1).unwrap_or(0);
        if usize::try_from(declared).is_ok_and(|declared| declared > limit) {
            return Err(self.too_large(ctx, is_image, limit));
        }
        if block.number == 0 {
            if is_image {
                if !self.takes_image() {
                    return Err(answer(code::METHOD_NOT_ALLOWED));
                }
                self.begin_image(ctx.clock);
            }
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
        if upload.body.len() + message.payload.len() > limit {
            self.upload = None;
            return Err(self.too_large(ctx, is_image, limit));
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

    /// With the size that could be taken (RFC 7959 §2.9.3).
    fn too_large(&mut self, ctx: &Context<'_>, is_image: bool, limit: usize) -> Message {
        if is_image {
            self.refuse_image(ctx.clock);
        }
        let mut reply = answer(code::TOO_LARGE);
        reply.add_uint(option::SIZE1, u32::try_from(limit).unwrap_or(u32::MAX));
        reply
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
        if self.is_action(path) || is_package(path) {
            return answer(code::METHOD_NOT_ALLOWED);
        }
        self.read(ctx, vec![path.clone()], accept, message)
    }

    /// A composite: the pack says which paths are meant.
    fn fetch(&mut self, ctx: &Context<'_>, message: &Message) -> Message {
        let number = |option| {
            let number = message.uint(option);
            number.map(|number| u16::try_from(number).unwrap_or(u16::MAX))
        };
        let form = number(option::CONTENT_FORMAT).unwrap_or(format::SENML_CBOR);
        if !matches!(form, format::SENML_JSON | format::SENML_CBOR) {
            return answer(code::UNSUPPORTED_FORMAT);
        }
        let Some(records) = senml::read(form, &message.payload) else {
            return answer(code::BAD_REQUEST);
        };
        let paths: Vec<Path> = records.into_iter().map(|record| record.path).collect();
        if paths.is_empty() {
            return answer(code::BAD_REQUEST);
        }
        for path in &paths {
            self.objects.refresh(path, ctx.clock.unix);
        }
        self.read(ctx, paths, number(option::ACCEPT).or(Some(form)), message)
    }

    fn read(
        &mut self,
        ctx: &Context<'_>,
        paths: Vec<Path>,
        accept: Option<u16>,
        message: &Message,
    ) -> Message {
        let read = forms::read(&ctx.profile.version, &self.objects, &paths, accept);
        let Ok((form, body)) = read else {
            return answer(code::NOT_ACCEPTABLE);
        };
        let mut reply = sliced(message, form, &body);
        match message.uint(option::OBSERVE) {
            Some(0) if self.observe(ctx, paths, accept, message) => {
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

    fn is_action(&self, path: &Path) -> bool {
        self.objects
            .resource(path)
            .is_some_and(|resource| resource.content == Content::Action)
    }

    fn execute(&mut self, ctx: &Context<'_>, path: &Path, method: u8) -> Message {
        if method != code::POST {
            return answer(code::METHOD_NOT_ALLOWED);
        }
        match path.ids() {
            [3, _, 4 | 5] => self.wishes.reboot = true,
            [1, _, 8] => self.wishes.update = true,
            [5, _, 2] if !self.install(ctx.clock) => return answer(code::METHOD_NOT_ALLOWED),
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

    fn delete(&mut self, path: &Path) -> Message {
        match path.ids() {
            [object, instance] if self.objects.delete(*object, *instance) => {
                self.observations
                    .retain(|o| !o.paths.iter().all(|observed| path.contains(observed)));
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
