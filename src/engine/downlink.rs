//! A command on its way: from the queue of its device to requests, blocks and the final answer.

use std::time::Duration;

use tracing::debug;

use super::device::{Body, Device, DeviceKey, Exchange, Job, Observation, Purpose};
use super::format::{self, DeviceFormats};
use super::queue::Queued;
use super::request::{self, Method, RequestParts};
use super::uplink::{Refusal, Status, unregistered_payload};
use super::{CommandInput, Engine, Handoff, Output, Peer};
use crate::bridge::report::Event;
use crate::bridge::uplink::Answer;
use crate::bridge::{Command, Kind, downlink};
use crate::coap::block::{BlockError, BlockOption, Receiver, Sender, szx_of};
use crate::coap::exchange::{Due, Transmission};
use crate::coap::message::{self, Builder, option};
use crate::coap::observe::Freshness;
use crate::coap::{Code, Message, MessageType, Token};
use crate::config::FormatDefault;
use crate::time::Now;

/// Critical options that responses may carry (RFC 7252 §5.4.1).
const KNOWN_CRITICAL: [u16; 2] = [option::BLOCK1, option::BLOCK2];

/// How often a representation may change while its blocks are fetched (RFC 7959 §2.4).
const MAX_BLOCK_RESTARTS: u8 = 3;

/// Value of the Observe option that asks for notifications (RFC 7641 §2).
const OBSERVE_REGISTER: u32 = 0;

/// Value of the Observe option that cancels them.
const OBSERVE_CANCEL: u32 = 1;

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
            _ => {
                let mut departed = self.departed.iter().rev();
                departed
                    .find(|(endpoint, ..)| *endpoint == input.endpoint)
                    .map(|(_, shard, _)| *shard)
            }
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

    /// Asks again for what was observed before the device registered anew.
    fn refresh(&mut self, now: Now, key: DeviceKey, token: Token) {
        let models = self.models.clone();
        let Some(device) = self.device(key) else {
            return;
        };
        let Some(index) = device.observation(token) else {
            return;
        };
        let Some(observation) = device.observations.get(index) else {
            return;
        };
        let command = Command::observe_again(&observation.target, &observation.echo, None);
        let schema = device.registration.schema(&models);
        let choice = format::choose(&command, FormatDefault::Auto, &DeviceFormats::default());
        let root = device.registration.alternate_path();
        let built = request::build(&command, root, &schema, &choice);
        let Ok(request) = built else { return };
        let purpose = Purpose::Refresh { observation: token };
        self.start(
            now,
            key,
            token,
            Box::new(Job {
                purpose,
                request,
                sender: None,
                body: None,
            }),
        );
    }

    /// Sends the next request of a job.
    fn start(&mut self, now: Now, key: DeviceKey, token: Token, job: Box<Job>) {
        let Some(peer) = self.device(key).map(|device| device.peer) else {
            return;
        };
        let mid = self.next_mid(peer);
        let block_size = self.settings.config.blockwise.max_block_size;
        let datagram = request_datagram(&job, mid, token, block_size);
        let jitter = self.random_u32();
        let parameters = &self.settings.config.coap;
        let transmission = Transmission::start(now.mono, jitter, parameters);
        self.counters.requests.inc();
        self.tokens.insert(token, key);
        self.in_flight.insert((peer, mid), key);
        if let Some(device) = self.device_mut(key) {
            let datagram = datagram.clone().into();
            device.exchanges.push(Exchange {
                token,
                mid,
                datagram,
                transmission,
                job,
            });
        }
        self.transmit(peer, datagram);
        self.schedule(key);
    }

    fn random_u32(&mut self) -> u32 {
        use rand_chacha::rand_core::Rng;
        self.rng.next_u32()
    }

    /// An Empty ACK: the response comes separately (RFC 7252 §5.2.2).
    pub(super) fn handle_empty_ack(&mut self, now: Now, from: Peer, mid: u16) {
        let Some(key) = self.in_flight.get(&(from, mid)).copied() else {
            return self.counters.datagrams_unexpected.inc();
        };
        self.touch(now, key);
        let settings = self.settings.clone();
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let Some(index) = device.exchange_by_mid(mid) else {
            return;
        };
        let Some(exchange) = device.exchanges.get_mut(index) else {
            return;
        };
        exchange
            .transmission
            .acknowledged(now.mono, &settings.config.coap);
        let report = match &mut exchange.job.purpose {
            Purpose::Command { ack_reported, .. } => !std::mem::replace(ack_reported, true),
            Purpose::Refresh { .. } | Purpose::Notification { .. } => false,
        };
        if report {
            self.answer_status(key, index, Status::Ack);
        }
        self.pump(now, key);
    }

    /// RST: the device does not want the message (RFC 7252 §4.2).
    pub(super) fn handle_reset(&mut self, now: Now, from: Peer, mid: u16) {
        let Some(key) = self.in_flight.get(&(from, mid)).copied() else {
            return self.counters.datagrams_unexpected.inc();
        };
        self.touch(now, key);
        self.counters.resets.inc();
        let index = self
            .device(key)
            .and_then(|device| device.exchange_by_mid(mid));
        if let Some(index) = index {
            self.answer_status(key, index, Status::Reset);
            self.finish_failed(key, index);
        }
        self.pump(now, key);
    }

    /// A response or notification (RFC 7252 §5.3.2: matched by token and peer).
    pub(super) fn handle_response(&mut self, now: Now, from: Peer, message: &Message) {
        let token = Token::from_slice(message.token());
        let key = token.and_then(|token| self.tokens.get(&token).copied());
        let found = token
            .zip(key)
            .filter(|(_, key)| self.device(*key).is_some_and(|device| device.peer == from));
        let Some((token, key)) = found else {
            return self.reject_response(now, from, message);
        };
        self.touch(now, key);
        if message.unknown_critical(&KNOWN_CRITICAL).is_some() {
            // RFC 7252 §5.4.1: such a response is rejected.
            self.counters.datagrams_unexpected.inc();
            if message.kind() == MessageType::Confirmable {
                self.transmit(from, message::empty(MessageType::Reset, message.mid()));
            }
            return;
        }
        if message.kind() == MessageType::Confirmable {
            self.transmit(
                from,
                message::empty(MessageType::Acknowledgement, message.mid()),
            );
        }
        let Some(device) = self.device(key) else {
            return;
        };
        let exchange = device.exchange_by_token(token).filter(|index| {
            // A message with the token of an observation that is being cancelled and with an
            // Observe option is one of its notifications, unless it is the piggybacked response.
            let exchange = device.exchanges.get(*index);
            let cancels = exchange.is_some_and(|it| it.job.request.observe == Some(OBSERVE_CANCEL));
            let is_ack = message.kind() == MessageType::Acknowledgement;
            !(cancels && !is_ack && message.observe().is_some())
        });
        match exchange {
            Some(index) => {
                // A piggybacked response belongs to one message id (RFC 7252 §5.2.1).
                let mid = device.exchanges.get(index).map(|exchange| exchange.mid);
                if message.kind() == MessageType::Acknowledgement && mid != Some(message.mid()) {
                    return self.counters.datagrams_unexpected.inc();
                }
                self.counters.responses.inc();
                if message.kind() == MessageType::Confirmable
                    && let Some(device) = self.device_mut(key)
                {
                    device.last_separate = Some(message.mid());
                }
                self.progress(now, key, index, message);
            }
            None => self.notification(now, key, token, message),
        }
        self.pump(now, key);
    }

    /// A response that nobody waits for.
    fn reject_response(&mut self, now: Now, from: Peer, message: &Message) {
        self.counters.datagrams_unexpected.inc();
        let known = self
            .peers
            .get(&from)
            .and_then(|state| self.device(state.device));
        let repeated = known.is_some_and(|device| device.last_separate == Some(message.mid()));
        match message.kind() {
            MessageType::Confirmable if repeated => {
                // Our acknowledgement of a separate response was lost.
                self.transmit(
                    from,
                    message::empty(MessageType::Acknowledgement, message.mid()),
                );
            }
            // RFC 7641 §3.5: a notification that is not recognised is reset, confirmable or not.
            MessageType::Confirmable | MessageType::NonConfirmable => {
                self.transmit(from, message::empty(MessageType::Reset, message.mid()));
            }
            MessageType::Acknowledgement | MessageType::Reset => {}
        }
        self.touch_peer(now, from);
    }

    /// A response to an exchange: the next block, or the end.
    fn progress(&mut self, now: Now, key: DeviceKey, index: usize, message: &Message) {
        let Some(mut exchange) = self.take_exchange(key, index) else {
            return;
        };
        let block1 = message
            .uint_option(option::BLOCK1, 3)
            .and_then(BlockOption::from_uint);
        if let Some(sender) = &mut exchange.job.sender {
            let go_on = match message.code() {
                Code::CONTINUE => sender.advance(block1),
                // RFC 7959 §2.9.3: smaller blocks may do.
                Code::REQUEST_ENTITY_TOO_LARGE => {
                    block1.is_some_and(|answer| sender.restart_smaller(answer.szx))
                }
                _ => false,
            };
            if go_on {
                let token = self.new_token(key);
                return self.start(now, key, token, exchange.job);
            }
        } else if message.code() == Code::REQUEST_ENTITY_TOO_LARGE
            && let Some(answer) = block1
            && exchange.job.request.payload.len() > answer.size()
        {
            // The device takes the body in blocks only.
            let body = std::mem::take(&mut exchange.job.request.payload);
            exchange.job.sender = Some(Sender::new(body, answer.size()));
            let token = self.new_token(key);
            return self.start(now, key, token, exchange.job);
        }
        match self.collect(&mut exchange.job.body, message) {
            Collected::Whole => self.finish(now, key, exchange, message, message.payload()),
            Collected::Last(body) => self.finish(now, key, exchange, message, &body),
            Collected::More => {
                exchange.job.sender = None;
                let token = self.new_token(key);
                self.start(now, key, token, exchange.job);
            }
            Collected::Failed(reason) => {
                if let Purpose::Command { command, .. } = &exchange.job.purpose {
                    let command = command.clone();
                    self.refuse(key, &command, &Refusal::bad_gateway(reason));
                }
            }
        }
    }

    /// Adds a block of a response (Block2, RFC 7959 §2.4).
    pub(super) fn collect(&self, slot: &mut Option<Body>, message: &Message) -> Collected {
        let bounds = self.settings.config.blockwise;
        let block = message
            .uint_option(option::BLOCK2, 3)
            .and_then(BlockOption::from_uint);
        let Some(block) = block.filter(|_| bounds.enable && message.code().is_success()) else {
            return Collected::Whole;
        };
        if slot.is_none() && block.number == 0 && !block.more {
            return Collected::Whole;
        }
        let etag: Option<Box<[u8]>> = message.first_option(option::ETAG).map(Into::into);
        let fresh = |restarts| Body {
            receiver: Receiver::default(),
            code: message.code(),
            content_format: message.content_format(),
            observe: message.observe(),
            etag: etag.clone(),
            next: BlockOption {
                number: 0,
                more: false,
                szx: block.szx,
            },
            restarts,
        };
        let body = slot.get_or_insert_with(|| fresh(0));
        if body.etag != etag {
            // The representation changed: begin anew (RFC 7959 §2.4).
            if body.restarts >= MAX_BLOCK_RESTARTS {
                return Collected::Failed("representation_changes");
            }
            let observe = body.observe;
            *body = Body {
                observe,
                ..fresh(body.restarts + 1)
            };
            if block.number != 0 {
                return Collected::More;
            }
        }
        match body
            .receiver
            .push(block, message.payload(), bounds.max_body_size)
        {
            Ok(true) => Collected::Last(std::mem::take(&mut body.receiver).into_body()),
            Ok(false) => {
                let szx = block.szx.min(szx_of(bounds.max_block_size));
                let number = u32::try_from(body.receiver.len() >> (szx + 4)).unwrap_or(u32::MAX);
                body.next = BlockOption {
                    number,
                    more: false,
                    szx,
                };
                Collected::More
            }
            Err(BlockError::TooLarge) => Collected::Failed("body_too_large"),
            Err(BlockError::OutOfOrder | BlockError::Short) => Collected::Failed("bad_block"),
        }
    }

    /// Fetches the rest of a notification that came in blocks (RFC 7959 §3.4: with a token of
    /// its own and without Observe).
    pub(super) fn fetch_rest(&mut self, now: Now, key: DeviceKey, observation: Token, body: Body) {
        let models = self.models.clone();
        let Some(device) = self.device(key) else {
            return;
        };
        let Some(known) = device
            .observation(observation)
            .and_then(|at| device.observations.get(at))
        else {
            return;
        };
        let command = Command::read_observed(&known.target, &known.echo, None);
        let schema = device.registration.schema(&models);
        let choice = format::choose(&command, FormatDefault::Auto, &DeviceFormats::default());
        let root = device.registration.alternate_path();
        let built = request::build(&command, root, &schema, &choice);
        let Ok(request) = built else { return };
        // A newer notification replaces one whose blocks are still on their way.
        let stale = device.exchanges.iter().position(|exchange| {
            matches!(exchange.job.purpose, Purpose::Notification { observation: of } if of == observation)
        });
        if let Some(index) = stale {
            self.take_exchange(key, index);
        }
        let purpose = Purpose::Notification { observation };
        let token = self.new_token(key);
        let job = Job {
            purpose,
            request,
            sender: None,
            body: Some(body),
        };
        self.start(now, key, token, Box::new(job));
    }

    /// The final response of a job.
    fn finish(
        &mut self,
        now: Now,
        key: DeviceKey,
        exchange: Exchange,
        message: &Message,
        payload: &[u8],
    ) {
        let Exchange { token, job, .. } = exchange;
        // Code, format and Observe of a body in blocks are those of its first block.
        let (code, content_format, observe) = match &job.body {
            Some(body) => (body.code, body.content_format, body.observe),
            None => (message.code(), message.content_format(), message.observe()),
        };
        let answer = Answer {
            code: code.0,
            observe,
            content_format,
            payload,
        };
        match job.purpose {
            Purpose::Command {
                command,
                observation,
                ..
            } => {
                if job.request.observe.is_some() {
                    let observation = observation.unwrap_or(token);
                    self.settle_observation(now, key, observation, &command, &answer);
                }
                self.answer(now, key, &command, &answer);
            }
            Purpose::Refresh { observation } => {
                // The device counts anew.
                self.restart_observation(now, key, observation, answer.observe);
                self.publish_notification(now, key, observation, &answer);
            }
            Purpose::Notification { observation } => {
                self.publish_notification(now, key, observation, &answer);
            }
        }
    }

    /// What the response to Observe or its cancellation does to the observation.
    fn settle_observation(
        &mut self,
        now: Now,
        key: DeviceKey,
        token: Token,
        command: &Command,
        answer: &Answer<'_>,
    ) {
        self.end_observation(key, token);
        let established = command.kind == Kind::Observe
            && Code(answer.code).is_success()
            && answer.observe.is_some();
        if !established {
            return;
        }
        // One observation a path: the newest (RFC 7641 §4.1).
        let same = |known: &Observation| known.target.is_same(&command.target);
        let older = self
            .device(key)
            .and_then(|device| device.observations.iter().find(|known| same(known)));
        if let Some(token) = older.map(|known| known.token) {
            self.end_observation(key, token);
        }
        let freshness = Freshness::new(answer.observe.unwrap_or(0), now.mono);
        let (target, echo) = (command.target.clone(), command.echo.clone());
        if let Some(device) = self.device_mut(key) {
            device.observations.push(Observation {
                token,
                target,
                echo,
                freshness,
            });
            self.counters.observations.add(1);
            self.tokens.insert(token, key);
        }
    }

    fn restart_observation(
        &mut self,
        now: Now,
        key: DeviceKey,
        token: Token,
        sequence: Option<u32>,
    ) {
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let index = device.observation(token);
        if let Some(known) = index.and_then(|index| device.observations.get_mut(index)) {
            known.freshness = Freshness::new(sequence.unwrap_or(0), now.mono);
        }
    }

    /// Forgets an observation, if there is one with this token.
    pub(super) fn end_observation(&mut self, key: DeviceKey, token: Token) {
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let Some(index) = device.observation(token) else {
            return;
        };
        device.observations.swap_remove(index);
        let still_used = device.exchange_by_token(token).is_some();
        let observations = &self.counters.observations;
        observations.set(observations.get().saturating_sub(1));
        if !still_used {
            self.tokens.remove(&token);
        }
    }

    /// Takes an exchange out of its device and of the tables.
    fn take_exchange(&mut self, key: DeviceKey, index: usize) -> Option<Exchange> {
        let device = self.device_mut(key)?;
        if index >= device.exchanges.len() {
            return None;
        }
        let exchange = device.exchanges.remove(index);
        let peer = device.peer;
        let still_used = device.observation(exchange.token).is_some();
        self.in_flight.remove(&(peer, exchange.mid));
        if !still_used {
            self.tokens.remove(&exchange.token);
        }
        Some(exchange)
    }

    /// An exchange ended without a response; its command has been answered already.
    fn finish_failed(&mut self, key: DeviceKey, index: usize) {
        let Some(exchange) = self.take_exchange(key, index) else {
            return;
        };
        let observation = match exchange.job.purpose {
            // What the device rejected or did not answer is not observed (any more).
            Purpose::Command { observation, .. } => observation,
            Purpose::Refresh { observation } => Some(observation),
            Purpose::Notification { .. } => None,
        };
        if let Some(token) = observation {
            self.end_observation(key, token);
        }
    }

    /// Retransmissions, given-up exchanges, expired commands and lifetimes of one device.
    pub(super) fn handle_device_timeout(&mut self, now: Now, key: DeviceKey) {
        let settings = self.settings.clone();
        let parameters = &settings.config.coap;
        let mut index = 0;
        loop {
            let Some(device) = self.device_mut(key) else {
                return;
            };
            let peer = device.peer;
            let Some(exchange) = device.exchanges.get_mut(index) else {
                break;
            };
            match exchange.transmission.poll(now.mono, parameters) {
                Due::Wait => index += 1,
                Due::Retransmit => {
                    let datagram = exchange.datagram.to_vec();
                    self.counters.retransmissions.inc();
                    self.transmit(peer, datagram);
                    index += 1;
                }
                Due::Expired => {
                    self.counters.timeouts.inc();
                    self.answer_status(key, index, Status::Timeout);
                    self.finish_failed(key, index);
                    // A queue-mode device that does not answer sleeps.
                    if let Some(device) = self.device_mut(key) {
                        device.awake_until = now.mono;
                        debug!(endpoint = %device.endpoint, "exchange timed out");
                    }
                }
            }
        }
        let Some(device) = self.device(key) else {
            return;
        };
        if device.expires_at() <= now.mono {
            self.counters.expired.inc();
            return self.remove(key, Event::Expired);
        }
        self.pump(now, key);
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

/// What [`Engine::collect`] made of a response.
pub(super) enum Collected {
    /// Not in blocks.
    Whole,
    /// The last block: the whole body.
    Last(Vec<u8>),
    /// Ask for the next one.
    More,
    /// Given up, with the reason for the application.
    Failed(&'static str),
}

/// The datagram of a job's next request.
fn request_datagram(job: &Job, mid: u16, token: Token, block_size: usize) -> Vec<u8> {
    let RequestParts {
        method,
        path,
        queries,
        accept,
        content_format,
        observe,
        payload,
    } = &job.request;
    let mut builder = Builder::new(
        MessageType::Confirmable,
        Code(method.code()),
        mid,
        &token.0.to_be_bytes(),
    );
    for segment in path {
        builder = builder.option(option::URI_PATH, segment.as_bytes());
    }
    for query in queries {
        builder = builder.option(option::URI_QUERY, query.as_bytes());
    }
    if let Some(accept) = accept {
        builder = builder.uint(option::ACCEPT, u32::from(accept.0));
    }
    let continues = job.body.is_some();
    if let Some(observe) = observe.filter(|_| !continues) {
        builder = builder.uint(option::OBSERVE, observe);
    }
    if let Some(body) = &job.body {
        builder = builder.uint(option::BLOCK2, body.next.to_uint());
    } else if block_size < 1024 && *method == Method::Get {
        // Early negotiation of a smaller block size (RFC 7959 §2.4).
        let wish = BlockOption {
            number: 0,
            more: false,
            szx: szx_of(block_size),
        };
        builder = builder.uint(option::BLOCK2, wish.to_uint());
    }
    if continues {
        return builder.build();
    }
    if let Some(format) = content_format {
        builder = builder.uint(option::CONTENT_FORMAT, u32::from(format.0));
    }
    match &job.sender {
        Some(sender) => {
            let (block, payload) = sender.current();
            if block.number == 0 {
                let size = u32::try_from(sender.len()).unwrap_or(u32::MAX);
                builder = builder.uint(option::SIZE1, size);
            }
            builder
                .uint(option::BLOCK1, block.to_uint())
                .payload(payload)
                .build()
        }
        None => builder.payload(payload.clone()).build(),
    }
}
