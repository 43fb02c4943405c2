//! What applications have set up with a device, in a form that another gateway can take in: for
//! devices that come back at another node of a cluster. The registration itself is not in it; the
//! device makes that anew.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::format::FormatChoice;
use super::observation::Observation;
use super::refusal::Refusal;
use super::state::Device;
use crate::bridge::{Command, Dialect, Echo, command};
use crate::coap::Token;
use crate::config::AutoObserve;
use crate::engine::context::Context;
use crate::memory::{Heap, block};
use crate::mqtt::ReplyTo;

/// Bytes of JSON around a command, about.
const PLACE_BYTES: usize = 64;

/// Observations and waiting commands of one device.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PortableSession {
    observations: Vec<PortableObservation>,
    commands: Vec<PortableCommand>,
}

impl PortableSession {
    /// Bytes that it takes where it waits.
    pub fn bytes(&self) -> usize {
        let observations = self.observations.iter();
        let observations = observations
            .map(|it| size_of_val(it) + it.token.heap() + block(it.command.get().len()));
        let commands = self.commands.iter();
        let commands = commands.map(|it| {
            let reply = ReplyTo::bytes_of(&it.reply);
            size_of_val(it) + block(it.command.get().len()) + reply
        });
        observations.chain(commands).sum()
    }

    /// The same in parts of about so many bytes of JSON, at least one; a command is never divided.
    #[cfg_attr(not(feature = "standalone"), expect(dead_code))] // hosts of a broker's cluster
    pub(crate) fn split(self, bytes: usize) -> Vec<Self> {
        let mut parts = vec![Self::default()];
        let mut size = 0usize;
        // The last part, or a new one when it has no room for so many bytes more.
        let mut part_for = |more: usize, parts: &mut Vec<Self>| {
            if size > 0 && size.saturating_add(more) > bytes {
                parts.push(Self::default());
                size = 0;
            }
            size = size.saturating_add(more);
        };
        for observation in self.observations {
            part_for(PLACE_BYTES + observation.command.get().len(), &mut parts);
            if let Some(part) = parts.last_mut() {
                part.observations.push(observation);
            }
        }
        for command in self.commands {
            // A byte of correlation data is a number of up to four characters.
            let reply = 4 * ReplyTo::bytes_of(&command.reply);
            part_for(
                PLACE_BYTES + command.command.get().len() + reply,
                &mut parts,
            );
            if let Some(part) = parts.last_mut() {
                part.commands.push(command);
            }
        }
        parts
    }

    /// The same, but answers go only where they may go.
    pub(crate) fn with_replies(mut self, may: impl Fn(&ReplyTo) -> bool) -> Self {
        for command in &mut self.commands {
            command.reply.take_if(|reply| !may(reply));
        }
        self
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct PortableObservation {
    /// Hexadecimal.
    token: String,
    /// The command that began it.
    command: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PortableCommand {
    command: Box<RawValue>,
    /// Seconds until it is too late.
    expires_in: u32,
    /// Where its answers go as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<Box<ReplyTo>>,
}

/// The command an echo was made of; only today's dialect keeps all of it.
fn command_of(echo: &Echo) -> Option<Box<RawValue>> {
    RawValue::from_string(echo.command()?).ok()
}

impl Device {
    /// What another gateway needs to go on with this device, which is about to end here. Commands
    /// that cannot go along are answered.
    pub(in crate::engine) fn export(&mut self, cx: &mut Context<'_>) -> PortableSession {
        let mut session = PortableSession::default();
        for observation in &self.observations {
            if let Some(command) = command_of(&observation.whole_echo()) {
                session.observations.push(PortableObservation {
                    token: format!("{:016x}", observation.token.0),
                    command,
                });
            }
        }
        let queue = std::mem::take(&mut self.queue);
        for queued in queue.into_waiting() {
            match command_of(&queued.command.echo) {
                Some(command) => {
                    let left = queued.expires - cx.now.mono;
                    session.commands.push(PortableCommand {
                        command,
                        expires_in: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
                        reply: queued.command.echo.reply().cloned().map(Box::new),
                    });
                }
                None => self.refuse(cx, &queued.command, &Refusal::NOT_REGISTERED),
            }
        }
        session
    }

    /// Goes on with what [`Device::export`] returned elsewhere. Observations are asked for again,
    /// with their tokens.
    pub(in crate::engine) fn import(&mut self, cx: &mut Context<'_>, session: &PortableSession) {
        for observation in &session.observations {
            let token = u64::from_str_radix(&observation.token, 16).map(Token);
            if let (Ok(token), Some(command)) = (token, parse(cx, &observation.command)) {
                self.import_observation(cx, token, command);
            }
        }
        for queued in &session.commands {
            if let Some(mut command) = parse(cx, &queued.command) {
                command.echo.set_reply(queued.reply.clone());
                let size = queued.command.get().len();
                let expiry = Some(queued.expires_in);
                self.handle_command(cx, Box::new(command), size, expiry, None);
            }
        }
        self.pump(cx);
    }

    fn import_observation(&mut self, cx: &mut Context<'_>, token: Token, command: Command) {
        let config = cx.config();
        let bound = config.limits.max_observations;
        let automatic = config.auto_observe != AutoObserve::Off && command.echo.is_auto_observe();
        let mut observations = self.observations.iter();
        let known = observations.any(|known| known.target.is_same(&command.target));
        if automatic
            || known
            || !command.kind.observes()
            || self.observations.len() >= bound
            || cx.index.has_token(token)
        {
            return;
        }
        let choice = FormatChoice::default();
        let (target, echo) = (command.target, command.echo);
        let observation = Observation::new(token, target, echo, choice, 0, cx.now.mono);
        let bytes = observation.bytes();
        // The refusal is counted.
        if cx.accounts.check_work(self.charged.work(), bytes).is_ok() {
            self.add_observation(cx, observation);
            self.refresh.push(token);
        }
    }
}

fn parse(cx: &Context<'_>, text: &RawValue) -> Option<Command> {
    let options = command::Options::new(cx.config());
    command::parse(text.get().as_bytes(), Dialect::Current, &options).ok()
}
