//! The firmware update of a device, object 5 (LwM2M Core 1.1, appendix E.6): an image is pushed to
//! it in blocks or pulled by it, is checked, and replaces the firmware.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::context::{Clock, Context};
use super::download::Failure;
use super::image::OBJECT;
use super::objects::{Content, Value};
use super::resources::Resources;
use crate::lwm2m::Path;

/// How long the new firmware takes to start.
const INSTALLATION: Duration = Duration::from_secs(1);

const STATE: u16 = 3;
const RESULT: u16 = 5;
const NAME: u16 = 6;
const VERSION: u16 = 7;

/// Values of /5/0/3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Idle = 0,
    Downloading = 1,
    Downloaded = 2,
    Updating = 3,
}

/// Values of /5/0/5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Initial = 0,
    Success = 1,
    NotEnoughStorage = 2,
    ConnectionLost = 4,
    IntegrityFailure = 5,
    InvalidUri = 7,
    UnsupportedProtocol = 9,
}

impl Resources {
    fn state(&self) -> i64 {
        let state = Path::new(&[OBJECT, 0, STATE]);
        match state.and_then(|path| Some(&self.objects.resource(&path)?.content)) {
            Some(Content::One(Value::Integer(state))) => *state,
            _ => State::Idle as i64,
        }
    }

    /// Sets what can be read of the update, and notifies of it.
    fn set_firmware(&mut self, clock: Clock, state: State, outcome: Outcome) {
        for (id, number) in [(STATE, state as i64), (RESULT, outcome as i64)] {
            self.set_own(clock, &[OBJECT, 0, id], Value::Integer(number));
        }
    }

    /// A resource gets another value by what the device does.
    fn set_own(&mut self, clock: Clock, ids: &[u16], value: Value) {
        let Some(path) = Path::new(ids) else { return };
        let content = Content::One(value);
        if let Some(resource) = self.objects.resource_mut(&path)
            && resource.content != content
        {
            resource.content = content;
            self.note_change(clock, &path);
        }
    }

    /// Whether an image may come now: not while another one is fetched or installed.
    pub(super) fn takes_image(&self) -> bool {
        !self.firmware.pulling && self.state() != State::Updating as i64
    }

    /// The first block of an image is here.
    pub(super) fn begin_image(&mut self, clock: Clock) {
        self.firmware.image = None;
        self.set_firmware(clock, State::Downloading, Outcome::Initial);
    }

    /// An image is larger than what a device holds.
    pub(super) fn refuse_image(&mut self, clock: Clock) {
        self.set_firmware(clock, State::Idle, Outcome::NotEnoughStorage);
    }

    /// A whole image is here; an empty one takes the last one away.
    pub(super) fn take_image(&mut self, ctx: &mut Context<'_>, endpoint: &str, image: &[u8]) {
        let clock = ctx.clock;
        self.firmware.image = None;
        if image.is_empty() || image == [0] {
            return self.set_firmware(clock, State::Idle, Outcome::Initial);
        }
        let digest = hex(&Sha256::digest(image));
        let size = image.len();
        let expected = &ctx.profile.firmware_sha256;
        if let Some(expected) = expected.as_ref().filter(|expected| **expected != digest) {
            ctx.said.push(format!(
                "{endpoint}: firmware of {size} bytes refused: its SHA-256 is {digest}, not {expected}"
            ));
            return self.set_firmware(clock, State::Idle, Outcome::IntegrityFailure);
        }
        ctx.said.push(format!(
            "{endpoint}: firmware of {size} bytes arrived, SHA-256 {digest}"
        ));
        ctx.counters.images += 1;
        self.firmware.image = Some((size, digest));
        self.set_firmware(clock, State::Downloaded, Outcome::Initial);
    }

    /// /5/0/1 was written: an image is to be fetched, an empty URI takes the last one away.
    pub(super) fn take_uri(&mut self, clock: Clock, uri: &str) {
        self.firmware.image = None;
        let (state, outcome) = match uri.split_once("://") {
            _ if uri.is_empty() => (State::Idle, Outcome::Initial),
            Some(("coap", _)) => {
                self.firmware.wanted = Some(uri.to_owned());
                self.firmware.pulling = true;
                (State::Downloading, Outcome::Initial)
            }
            Some(_) => (State::Idle, Outcome::UnsupportedProtocol),
            None => (State::Idle, Outcome::InvalidUri),
        };
        self.set_firmware(clock, state, outcome);
    }

    /// What is to be fetched, once.
    pub(super) fn take_wanted(&mut self) -> Option<String> {
        self.firmware.wanted.take()
    }

    /// The image that was to be fetched is here, or will not come.
    pub(super) fn fetched(
        &mut self,
        ctx: &mut Context<'_>,
        endpoint: &str,
        result: Result<Vec<u8>, Failure>,
    ) {
        // A device that was started again meanwhile wants it no more.
        if !std::mem::take(&mut self.firmware.pulling) {
            return;
        }
        match result {
            Ok(image) => self.take_image(ctx, endpoint, &image),
            Err(failure) => {
                let line = format!("{endpoint}: cannot fetch the firmware: {failure}");
                ctx.said.push(line);
                let outcome = match failure {
                    Failure::Uri => Outcome::InvalidUri,
                    Failure::TooLarge => Outcome::NotEnoughStorage,
                    Failure::Silence
                    | Failure::Refused(_)
                    | Failure::Broken
                    | Failure::Socket(_) => Outcome::ConnectionLost,
                };
                self.set_firmware(ctx.clock, State::Idle, outcome);
            }
        }
    }

    /// /5/0/2 was executed. False when there is nothing to install.
    pub(super) fn install(&mut self, clock: Clock) -> bool {
        if self.state() != State::Downloaded as i64 {
            return false;
        }
        self.set_firmware(clock, State::Updating, Outcome::Initial);
        self.firmware.installed_at = Some(clock.mono + INSTALLATION);
        true
    }

    /// When the new firmware runs.
    pub(super) const fn installed_at(&self) -> Option<Instant> {
        self.firmware.installed_at
    }

    /// The new firmware runs, if it is time: the device has its version and starts anew. True when
    /// it does.
    pub(super) fn run_new_firmware(&mut self, ctx: &mut Context<'_>, endpoint: &str) -> bool {
        let clock = ctx.clock;
        let due = self.firmware.installed_at.take_if(|at| *at <= clock.mono);
        if due.is_none() {
            return false;
        }
        if let Some((size, digest)) = self.firmware.image.take() {
            let version = digest.get(..12).unwrap_or_default().to_owned();
            ctx.said.push(format!(
                "{endpoint}: runs the firmware of {size} bytes, version {version}"
            ));
            let name = format!("image of {size} bytes");
            self.set_own(clock, &[OBJECT, 0, NAME], Value::Text(name));
            self.set_own(clock, &[OBJECT, 0, VERSION], Value::Text(version.clone()));
            self.set_own(clock, &[3, 0, 3], Value::Text(version));
        }
        self.set_firmware(clock, State::Idle, Outcome::Success);
        true
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
