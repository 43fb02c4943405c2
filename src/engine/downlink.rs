//! A command on its way: from the host to the queue of its device to its first request.

use std::time::Duration;

use super::device::{Device, DeviceKey, Job, Purpose, Transfer};
use super::format::{self, FormatChoice};
use super::queue::Queued;
use super::request::{self, BuildError, RequestParts};
use super::transfer::Effort;
use super::uplink::{Refusal, stopping_answer, unregistered_payload};
use super::{CommandInput, Engine, Handoff, Output};
use crate::bridge::{Command, downlink};
use crate::coap::block::Sender;
use crate::coap::{Code, Token};
use crate::config::FormatDefault;
use crate::time::Now;

/// Requests of one device that may be open at a time. Those that it has acknowledged do not count
/// against NSTART, and a device might acknowledge all and answer none.
const MAX_OPEN: usize = 64;

/// How often a command follows its device to another shard. A device that moves faster, or one
/// that was lost on its way so that each shard takes it to be in the other, is not registered for
/// it.
const MAX_HOPS: u8 = 8;

/// Value of the Observe option that cancels an observation (RFC 7641 §2).
pub(super) const OBSERVE_CANCEL: u32 = 1;

/// A command on its way to a request, for the first or another time.
pub(super) struct Attempt {
    pub(super) command: Box<Command>,
    pub(super) choice: FormatChoice,
    /// Of the observation that it cancels.
    pub(super) token: Option<Token>,
    /// What it may still ask.
    pub(super) effort: Effort,
}

impl Engine {
    /// Takes a command from the host. `hops` says how many shards it has come by already.
    pub(super) fn take_command(&mut self, now: Now, input: CommandInput, hops: u8) {
        if self.stopping {
            return self.refuse_stopping(&input);
        }
        let here = self.endpoints.get(&input.endpoint).copied();
        if here.is_none()
            && hops < MAX_HOPS
            && let Some(shard) = self.elsewhere(&input)
        {
            let handoff = Handoff::Command {
                input,
                hops: hops + 1,
            };
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

    /// Answers a command that comes after the end.
    pub(super) fn refuse_stopping(&mut self, input: &CommandInput) {
        self.counters.commands_refused.inc();
        let answer = stopping_answer(&self.settings, input);
        self.outputs.push_back(Output::Publish(answer));
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
        let bytes = Queued::bytes_of(&command);
        if let Err(full) = self.check_queue(key, bytes) {
            return self.refuse(key, &command, &Refusal::memory(full));
        }
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let queued = Queued {
            command,
            bytes,
            expires,
            size,
            immediate,
        };
        match device.queue.push(queued, &bounds) {
            Ok(()) => {
                self.settle_queue(key);
                self.pump(now, key);
                if self
                    .device(key)
                    .is_some_and(|device| device.queue.front().is_some())
                {
                    self.counters.commands_queued.inc();
                }
            }
            Err((queued, _)) => {
                self.accounts.queues.trim();
                self.refuse(key, &queued.command, &Refusal::QUEUE_FULL);
            }
        }
    }

    /// Sends what may be sent: NSTART allows it and the device is awake.
    pub(super) fn pump(&mut self, now: Now, key: DeviceKey) {
        let nstart = self.settings.config.coap.nstart.max(1);
        loop {
            let Some(device) = self.device_mut(key) else {
                return;
            };
            let expired = device.queue.take_expired(now.mono);
            if !expired.is_empty() {
                self.settle_queue(key);
            }
            for expired in expired {
                self.refuse(key, &expired.command, &Refusal::EXPIRED);
            }
            let Some(device) = self.device_mut(key) else {
                return;
            };
            if device.outstanding() >= nstart || device.exchanges.len() >= MAX_OPEN.max(nstart) {
                break;
            }
            let awake = !device.registration.queue_mode || device.awake_until > now.mono;
            if let Some(transfer) = device.transfers.pop_front() {
                self.release_work(key, transfer.bytes());
                match transfer {
                    Transfer::Notification { observation, body } => {
                        self.fetch_rest(now, key, observation, body);
                    }
                    Transfer::Answer(mut job) => {
                        // Its wait for others does not count.
                        job.effort.park();
                        self.go_on(now, key, job);
                    }
                }
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
            self.settle_queue(key);
            self.send_command(now, key, queued.command);
        }
        self.schedule(key);
    }

    fn send_command(&mut self, now: Now, key: DeviceKey, command: Box<Command>) {
        let Some(device) = self.device(key) else {
            return;
        };
        let mut observations = device.observations.iter();
        let same = observations.find(|known| known.target.is_same(&command.target));
        let cancelled = same.filter(|_| command.kind.cancels());
        // What is cancelled is named by its token and by the same options (RFC 7641 §3.6).
        let (choice, token) = match cancelled {
            Some(known) => (known.choice, Some(known.token)),
            None => (self.choose(device, &command), None),
        };
        let limit = self.settings.config.limits.max_observations;
        if command.kind.observes() && same.is_none() && device.observations.len() >= limit {
            return self.refuse(key, &command, &Refusal::TOO_MANY_OBSERVATIONS);
        }
        let attempt = Attempt {
            command,
            choice,
            token,
            effort: Effort::new(),
        };
        self.request(now, key, attempt);
    }

    /// Sends the first, or another, request of a command.
    pub(super) fn request(&mut self, now: Now, key: DeviceKey, attempt: Attempt) {
        let Attempt {
            command,
            choice,
            token,
            effort,
        } = attempt;
        let Some(device) = self.device(key) else {
            return;
        };
        let mut request = match self.build(device, &command, &choice) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::unsuitable(error.reason.as_str(), error.detail);
                return self.refuse(key, &command, &refusal);
            }
        };
        let blockwise = self.settings.config.blockwise;
        let in_blocks = blockwise.enable && request.payload.len() > blockwise.max_block_size;
        let sender = in_blocks.then(|| {
            let body = std::mem::take(&mut request.payload);
            Sender::new(body, blockwise.max_block_size)
        });
        let observes = token.is_some() || command.kind.observes();
        let is_new = token.is_none();
        let token = match token {
            Some(token) => token,
            None => self.new_token(key),
        };
        let purpose = Purpose::Command {
            command,
            observation: observes.then_some(token),
            ack_reported: false,
        };
        let job = Job {
            sender,
            ..Job::new(purpose, request, choice, effort)
        };
        if let Err(full) = self.check_work(key, job.bytes()) {
            if is_new {
                self.tokens.remove(&token);
            }
            if let Purpose::Command { command, .. } = job.purpose {
                self.refuse(key, &command, &Refusal::memory(full));
            }
            return;
        }
        self.start(now, key, token, Box::new(job));
    }

    /// The request of a command for a device.
    pub(super) fn build(
        &self,
        device: &Device,
        command: &Command,
        choice: &FormatChoice,
    ) -> Result<RequestParts, BuildError> {
        let schema = device.registration.schema(&self.models);
        let root = device.registration.alternate_path();
        request::build(command, root, &schema, choice)
    }

    /// The content formats of a command for a device.
    pub(super) fn choose(&self, device: &Device, command: &Command) -> FormatChoice {
        format::choose(command, self.format_default(device), &device.formats())
    }

    /// What to try next after the device has answered `code`, if that was about formats and there
    /// is another one.
    pub(super) fn choose_again(
        &mut self,
        now: Now,
        key: DeviceKey,
        job: &Job,
        code: Code,
    ) -> Option<Attempt> {
        let Purpose::Command {
            command,
            observation,
            ..
        } = &job.purpose
        else {
            return None;
        };
        if code.is_success() {
            return None;
        }
        let device = self.device(key)?;
        let (default, formats) = (self.format_default(device), device.formats());
        let mut refused = device.refused;
        let next = format::next(
            command,
            default,
            &formats,
            &mut refused,
            &job.choice,
            code.0,
        );
        self.device_mut(key)?.refused = refused;
        let choice = next?;
        let mut effort = job.effort;
        let bounds = &self.settings.config.blockwise;
        effort.spend(now.mono, bounds, 0, 0).ok()?;
        Some(Attempt {
            command: command.clone(),
            choice,
            // The token of an observation to be cancelled stays, a new one gets another.
            token: observation.filter(|_| command.kind.cancels()),
            effort,
        })
    }

    fn format_default(&self, device: &Device) -> FormatDefault {
        let listener = self.settings.listener(device.peer.listener);
        listener.map_or(self.settings.config.format, |listener| listener.format)
    }

    /// Answers all commands of a device that is gone.
    pub(super) fn refuse_waiting(&mut self, device: &mut Device, refusal: &Refusal) {
        let exchanges = std::mem::take(&mut device.exchanges).into_iter();
        let transfers = std::mem::take(&mut device.transfers).into_iter();
        let parked = transfers.filter_map(|transfer| match transfer {
            Transfer::Answer(job) => Some(job),
            Transfer::Notification { .. } => None,
        });
        let jobs = exchanges.map(|exchange| exchange.job).chain(parked);
        let in_flight = jobs.filter_map(|job| match job.purpose {
            Purpose::Command { command, .. } => Some(command),
            Purpose::Refresh { .. } | Purpose::Notification { .. } => None,
        });
        let waiting: Vec<_> = device.queue.drain().map(|queued| queued.command).collect();
        for command in in_flight.chain(waiting).collect::<Vec<_>>() {
            self.refuse_for(device, &command, refusal);
        }
    }
}
