//! A command on its way: from the host to the queue of its device to its first request.

use std::time::Duration;

use super::device::{Device, DeviceKey, Job, Purpose};
use super::format::{self, DeviceFormats};
use super::queue::Queued;
use super::request;
use super::uplink::{Refusal, unregistered_payload};
use super::{CommandInput, Engine, Handoff, Output};
use crate::bridge::{Command, downlink};
use crate::coap::block::Sender;
use crate::config::FormatDefault;
use crate::time::Now;

/// Value of the Observe option that asks for notifications (RFC 7641 §2).
const OBSERVE_REGISTER: u32 = 0;

/// Value of the Observe option that cancels them.
pub(super) const OBSERVE_CANCEL: u32 = 1;

impl Engine {
    /// Takes a command from the host.
    pub(super) fn take_command(&mut self, now: Now, input: CommandInput) {
        let here = self.endpoints.get(&input.endpoint).copied();
        if here.is_none()
            && let Some(shard) = self.elsewhere(&input)
        {
            let handoff = Handoff::Command(input);
            return self.outputs.push_back(Output::Handoff { shard, handoff });
        }
        let options = downlink::Options::new(&self.settings.config);
        let command = match downlink::parse(&input.payload, input.dialect, &options) {
            Ok(command) => command,
            Err(error) => return self.refuse_malformed(&input, &error),
        };
        // A mountpoint of several placeholders may name the endpoint and still be another one's.
        let key = here.filter(|key| {
            self.device(*key)
                .is_some_and(|it| *it.mount == *input.mount)
        });
        match key {
            Some(key) => {
                self.enqueue(
                    now,
                    key,
                    Box::new(command),
                    input.payload.len(),
                    input.expiry,
                );
            }
            None => self.refuse_input(&input, &command.echo, unregistered_payload(&command)),
        }
    }

    /// The shard that a device which is not here lives in, or has just been sent to.
    fn elsewhere(&self, input: &CommandInput) -> Option<u16> {
        match self.directory.shard_of(&input.endpoint) {
            Some(shard) if shard != self.shard => Some(shard),
            _ => self.departed.get(&input.endpoint),
        }
    }

    /// Queues a command and sends what may be sent.
    pub(super) fn enqueue(
        &mut self,
        now: Now,
        key: DeviceKey,
        command: Box<Command>,
        size: usize,
        expiry: Option<u32>,
    ) {
        let bounds = self.settings.config.queue;
        let immediate = command.ttl == Some(Duration::ZERO);
        let message_expiry = expiry.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let ttl = command.ttl.filter(|ttl| !ttl.is_zero());
        let wait = [Some(bounds.max_age), message_expiry, ttl]
            .into_iter()
            .flatten()
            .min();
        let expires = now.mono + wait.unwrap_or(bounds.max_age);
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let queued = Queued {
            command,
            expires,
            size,
            immediate,
        };
        match device.queue.push(queued, &bounds) {
            Ok(()) => {
                self.pump(now, key);
                if self
                    .device(key)
                    .is_some_and(|device| device.queue.front().is_some())
                {
                    self.counters.commands_queued.inc();
                }
            }
            Err((queued, _)) => self.refuse(key, &queued.command, &Refusal::QUEUE_FULL),
        }
    }

    /// Sends what may be sent: NSTART allows it and the device is awake.
    pub(super) fn pump(&mut self, now: Now, key: DeviceKey) {
        let nstart = self.settings.config.coap.nstart.max(1);
        loop {
            let Some(device) = self.device_mut(key) else {
                return;
            };
            for expired in device.queue.take_expired(now.mono) {
                self.refuse(key, &expired.command, &Refusal::EXPIRED);
            }
            let Some(device) = self.device_mut(key) else {
                return;
            };
            if device.outstanding() >= nstart {
                break;
            }
            let awake = !device.registration.queue_mode || device.awake_until > now.mono;
            if let Some((observation, body)) = device.fetches.pop() {
                self.fetch_rest(now, key, observation, body);
                continue;
            }
            if awake && let Some(token) = device.refresh.pop() {
                self.refresh(now, key, token);
                continue;
            }
            let Some(front) = device.queue.front() else {
                break;
            };
            if !awake && !front.immediate {
                break;
            }
            let Some(queued) = device.queue.pop() else {
                break;
            };
            self.send_command(now, key, queued.command);
        }
        self.schedule(key);
    }

    fn send_command(&mut self, now: Now, key: DeviceKey, command: Box<Command>) {
        let models = self.models.clone();
        let Some(device) = self.device(key) else {
            return;
        };
        let schema = device.registration.schema(&models);
        let choice = format::choose(&command, FormatDefault::Auto, &DeviceFormats::default());
        let root = device.registration.alternate_path();
        let built = request::build(&command, root, &schema, &choice);
        let mut request = match built {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::unsuitable(error.reason.as_str(), error.detail);
                return self.refuse(key, &command, &refusal);
            }
        };
        let cancelled = (request.observe == Some(OBSERVE_CANCEL))
            .then(|| {
                device
                    .observations
                    .iter()
                    .find(|known| known.target.is_same(&command.target))
            })
            .flatten()
            .map(|observation| observation.token);
        let observe = request.observe == Some(OBSERVE_REGISTER);
        if observe && device.observations.len() >= self.settings.config.limits.max_observations {
            return self.refuse(key, &command, &Refusal::TOO_MANY_OBSERVATIONS);
        }
        // A cancellation carries the observation's own token (RFC 7641 §3.6).
        let token = match cancelled {
            Some(token) => token,
            None => self.new_token(key),
        };
        let observation = (observe || cancelled.is_some()).then_some(token);
        let body = std::mem::take(&mut request.payload);
        let block_size = self.settings.config.blockwise.max_block_size;
        let in_blocks = self.settings.config.blockwise.enable && body.len() > block_size;
        let (sender, body) = match in_blocks {
            true => (Some(Sender::new(body, block_size)), Vec::new()),
            false => (None, body),
        };
        request.payload = body;
        let purpose = Purpose::Command {
            command,
            observation,
            ack_reported: false,
        };
        self.start(
            now,
            key,
            token,
            Box::new(Job {
                purpose,
                request,
                sender,
                body: None,
            }),
        );
    }

    /// Answers all commands of a device that is gone.
    pub(super) fn refuse_waiting(&mut self, device: &mut Device, refusal: &Refusal) {
        let exchanges = std::mem::take(&mut device.exchanges);
        let in_flight = exchanges
            .into_iter()
            .filter_map(|exchange| match exchange.job.purpose {
                Purpose::Command { command, .. } => Some(command),
                Purpose::Refresh { .. } | Purpose::Notification { .. } => None,
            });
        let waiting: Vec<_> = device.queue.drain().map(|queued| queued.command).collect();
        for command in in_flight.chain(waiting).collect::<Vec<_>>() {
            self.refuse_for(device, &command, refusal);
        }
    }
}
