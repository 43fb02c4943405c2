//! What applications have set up with a device, in a form that another gateway can take in: for
//! devices that come back at another node of a cluster. The registration itself is not in it; the
//! device makes that anew.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Engine;
use super::device::{DeviceKey, Observation};
use super::format::FormatChoice;
use super::info::GoneReason;
use super::uplink::Refusal;
use crate::bridge::{Command, Dialect, Echo, downlink};
use crate::coap::Token;
use crate::coap::observe::Freshness;
use crate::config::AutoObserve;
use crate::memory::{Heap, block};
use crate::time::Now;

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
        let commands = commands.map(|it| size_of_val(it) + block(it.command.get().len()));
        observations.chain(commands).sum()
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
}

/// The command an echo was made of; only today's dialect keeps all of it.
fn command_of(echo: &Echo) -> Option<Box<RawValue>> {
    RawValue::from_string(echo.command()?).ok()
}

impl Engine {
    /// Ends a registration here and returns what another gateway needs to go on with the device.
    /// A request that is under way is answered as for a device that is gone. No report is
    /// published, since the device is still there.
    pub fn export(&mut self, now: Now, endpoint: &str) -> Option<PortableSession> {
        let key = *self.endpoints.get(endpoint)?;
        let device = self.device_mut(key)?;
        let mut session = PortableSession::default();
        for observation in &device.observations {
            if let Some(command) = command_of(&observation.echo) {
                session.observations.push(PortableObservation {
                    token: format!("{:016x}", observation.token.0),
                    command,
                });
            }
        }
        let queue = std::mem::take(&mut device.queue);
        let mut stranded = Vec::new();
        for queued in queue.into_waiting() {
            match command_of(&queued.command.echo) {
                Some(command) => {
                    let left = queued.expires - now.mono;
                    session.commands.push(PortableCommand {
                        command,
                        expires_in: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
                    });
                }
                None => stranded.push(queued.command),
            }
        }
        for command in stranded {
            self.refuse(key, &command, &Refusal::NOT_REGISTERED);
        }
        self.remove(key, GoneReason::Exported);
        Some(session)
    }

    /// Goes on with what [`Engine::export`] returned elsewhere; false when the device is not
    /// registered here. Observations are asked for again, with their tokens.
    pub fn import(&mut self, now: Now, endpoint: &str, session: PortableSession) -> bool {
        let Some(key) = self.endpoints.get(endpoint).copied() else {
            return false;
        };
        for observation in &session.observations {
            let token = u64::from_str_radix(&observation.token, 16).map(Token);
            if let (Ok(token), Some(command)) = (token, self.parse(&observation.command)) {
                self.import_observation(now, key, token, command);
            }
        }
        for queued in &session.commands {
            if let Some(command) = self.parse(&queued.command) {
                let size = queued.command.get().len();
                let expiry = Some(queued.expires_in);
                self.enqueue(now, key, Box::new(command), size, expiry);
            }
        }
        self.pump(now, key);
        true
    }

    fn parse(&self, command: &RawValue) -> Option<Command> {
        let options = downlink::Options::new(&self.settings.config);
        downlink::parse(command.get().as_bytes(), Dialect::Current, &options).ok()
    }

    fn import_observation(&mut self, now: Now, key: DeviceKey, token: Token, command: Command) {
        let bound = self.settings.config.limits.max_observations;
        let automatic =
            self.settings.config.auto_observe != AutoObserve::Off && command.echo.is_auto_observe();
        let Some(device) = self.device(key) else {
            return;
        };
        let known = device
            .observations
            .iter()
            .any(|observation| observation.target.is_same(&command.target));
        if automatic
            || known
            || !command.kind.observes()
            || device.observations.len() >= bound
            || self.tokens.contains_key(&token)
        {
            return;
        }
        let observation = Observation {
            token,
            target: command.target,
            echo: command.echo,
            choice: FormatChoice::default(),
            freshness: Freshness::new(0, now.mono),
        };
        let bytes = observation.bytes();
        // The refusal is counted.
        if self.check_work(key, bytes).is_err() {
            return;
        }
        self.tokens.insert(token, key);
        self.directory.observe(token);
        self.counters.observations.inc();
        if let Some(device) = self.device_mut(key) {
            device.observations.push(observation);
            device.refresh.push(token);
        }
        self.charge_work(key, bytes);
    }
}
