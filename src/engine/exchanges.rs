//! Requests under way: acknowledgements, resets, responses, blocks and deadlines.

use tracing::debug;

use super::device::{DeviceKey, Exchange, Job, Purpose, Transfer};
use super::downlink::OBSERVE_CANCEL;
use super::info::GoneReason;
use super::transfer::{Collected, collect, request_datagram, send_smaller, unpinned};
use super::uplink::{Refusal, Status};
use super::{Engine, Peer};
use crate::bridge::uplink::Answer;
use crate::coap::block::BlockOption;
use crate::coap::exchange::{Due, Transmission};
use crate::coap::message::{self, option};
use crate::coap::{Code, Message, MessageType, Token};
use crate::lwm2m::codec::ContentFormat;
use crate::time::Now;

/// Critical options that responses may carry (RFC 7252 §5.4.1).
const KNOWN_CRITICAL: [u16; 2] = [option::BLOCK1, option::BLOCK2];

impl Engine {
    /// Sends the next request of a job.
    pub(super) fn start(&mut self, now: Now, key: DeviceKey, token: Token, job: Box<Job>) {
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
        let copy = datagram.clone().into();
        let withheld = !self.transmit_request(now, key, datagram);
        if let Some(device) = self.device_mut(key) {
            device.strays = 0;
            // There is seldom more than one.
            device.exchanges.reserve_exact(1);
            let exchange = Exchange {
                token,
                mid,
                datagram: copy,
                transmission,
                withheld,
                job,
            };
            let bytes = exchange.bytes();
            device.exchanges.push(exchange);
            self.charge_work(key, bytes);
        }
        self.schedule(key);
    }

    pub(super) fn random_u32(&mut self) -> u32 {
        use rand_chacha::rand_core::Rng;
        self.rng.next_u32()
    }

    /// An Empty ACK: the response comes separately (RFC 7252 §5.2.2).
    pub(super) fn handle_empty_ack(&mut self, now: Now, from: Peer, mid: u16) {
        let Some(key) = self.answers(from, mid, MessageType::Acknowledgement) else {
            return;
        };
        self.wake(now, key);
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
        let Some(key) = self.answers(from, mid, MessageType::Reset) else {
            return;
        };
        self.wake(now, key);
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
            if !self.answers_probe(now, from, message) {
                self.reject_response(now, from, message);
            }
            return;
        };
        self.touch(now, key);
        self.prove(key);
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
        // A notification from an address that is not the device's: it has a new one and will say so
        // with its next Update; then the observation is asked for again.
        let token = Token::from_slice(message.token());
        let early = token.is_some_and(|token| self.directory.missed(token));
        match message.kind() {
            MessageType::Confirmable if repeated => {
                // Our acknowledgement of a separate response was lost.
                self.transmit(
                    from,
                    message::empty(MessageType::Acknowledgement, message.mid()),
                );
            }
            // A Reset would end the observation.
            MessageType::NonConfirmable if early => {}
            // RFC 7641 §3.5: a notification that is not recognised is reset, confirmable or not.
            // An early Confirmable one as well: the device would repeat it and send nothing else
            // meanwhile (NSTART), not even the Update.
            MessageType::Confirmable | MessageType::NonConfirmable => {
                self.transmit(from, message::empty(MessageType::Reset, message.mid()));
            }
            MessageType::Acknowledgement | MessageType::Reset => {}
        }
        self.touch_authentic(now, from);
    }

    /// A response to an exchange: the next block, or the end.
    fn progress(&mut self, now: Now, key: DeviceKey, index: usize, message: &Message) {
        let Some(mut exchange) = self.take_exchange(key, index) else {
            return;
        };
        let block1 = message
            .uint_option(option::BLOCK1, 3)
            .and_then(BlockOption::from_uint);
        let bounds = self.settings.config.blockwise;
        let job = &mut exchange.job;
        if message.code() == Code::CONTINUE
            && let Some(sender) = &mut job.sender
        {
            if sender.advance(block1) {
                return self.go_on(now, key, exchange.job);
            }
            if sender.current().0.more {
                // Its blocks are so small that there are no numbers for all of them.
                return self.give_up(key, &exchange.job, &Refusal::bad_gateway("body_too_large"));
            }
        }
        if message.code() == Code::REQUEST_ENTITY_TOO_LARGE {
            let limit = message.uint_option(option::SIZE1, 4);
            // Without another try the refusal is the answer.
            if send_smaller(job, block1, limit) && job.spend(now.mono, &bounds).is_ok() {
                let token = self.new_token(key);
                return self.start(now, key, token, exchange.job);
            }
        }
        if let Some(format) = unpinned(&exchange.job, message) {
            return self.pin_format(now, key, exchange, format);
        }
        if let Some(again) = self.choose_again(now, key, &exchange.job, message.code()) {
            return self.request(now, key, again);
        }
        let first = exchange.job.body.is_none();
        match collect(&bounds, &mut exchange.job.body, message) {
            Collected::Whole => self.finish(now, key, exchange, message, message.payload()),
            Collected::Last(body) => self.finish(now, key, exchange, message, &body),
            Collected::More => {
                exchange.job.sender = None;
                if let Err(full) = self.check_work(key, exchange.job.bytes()) {
                    return self.give_up(key, &exchange.job, &Refusal::memory(full));
                }
                let waiting = self.device_mut(key).map(|device| &mut device.transfers);
                match waiting.filter(|transfers| first && !transfers.is_empty()) {
                    Some(transfers) => {
                        let transfer = Transfer::Answer(exchange.job);
                        let bytes = transfer.bytes();
                        transfers.push_back(transfer);
                        self.charge_work(key, bytes);
                    }
                    None => self.go_on(now, key, exchange.job),
                }
            }
            Collected::Failed(reason) => {
                self.give_up(key, &exchange.job, &Refusal::bad_gateway(reason));
            }
        }
    }

    /// Sends the next request of a transfer.
    pub(super) fn go_on(&mut self, now: Now, key: DeviceKey, mut job: Box<Job>) {
        match job.spend(now.mono, &self.settings.config.blockwise) {
            Ok(()) => {
                let token = self.new_token(key);
                self.start(now, key, token, job);
            }
            Err(exhausted) => self.give_up(key, &job, &exhausted.into()),
        }
    }

    /// A transfer that does not come to an end by itself.
    fn give_up(&mut self, key: DeviceKey, job: &Job, refusal: &Refusal) {
        self.counters.transfers_failed.inc();
        match &job.purpose {
            Purpose::Command { command, .. } => self.refuse(key, command, refusal),
            // The observation lives on.
            Purpose::Refresh { .. } | Purpose::Notification { .. } => {
                self.counters.decode_errors.inc();
            }
        }
    }

    /// Begins a transfer anew with the format of its first block as Accept, this time and whenever
    /// the observation is asked for.
    fn pin_format(&mut self, now: Now, key: DeviceKey, exchange: Exchange, format: ContentFormat) {
        let Exchange { token, mut job, .. } = exchange;
        job.request.accept = Some(format);
        job.choice.accept = Some(format);
        job.body = None;
        let observation = match &job.purpose {
            Purpose::Command { observation, .. } => *observation,
            Purpose::Refresh { observation } | Purpose::Notification { observation } => {
                self.remember_accept(key, *observation, format);
                Some(*observation)
            }
        };
        if matches!(job.purpose, Purpose::Notification { .. }) {
            // Only its observation can bring the notification's value again.
            if let (Some(device), Some(observation)) = (self.device_mut(key), observation) {
                device.refresh_again(std::iter::once(observation));
            }
            return;
        }
        match job.spend(now.mono, &self.settings.config.blockwise) {
            // The first request again, Observe included: with the token it had.
            Ok(()) => self.start(now, key, observation.unwrap_or(token), job),
            Err(exhausted) => self.give_up(key, &job, &exhausted.into()),
        }
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
            Some(body) if message.code().is_success() => {
                (body.code, body.content_format, body.observe)
            }
            _ => (message.code(), message.content_format(), message.observe()),
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
                    self.settle_observation(now, key, observation, &command, job.choice, &answer);
                }
                self.answer(now, key, &command, &answer);
            }
            Purpose::Refresh { observation } => {
                // The device counts anew.
                self.restart_observation(now, key, observation, answer.observe);
                self.publish_notification(now, key, observation, &answer);
            }
            // The observation lives on; only this notification cannot be put together.
            Purpose::Notification { .. } if !code.is_success() => {
                self.counters.decode_errors.inc();
            }
            Purpose::Notification { observation } => {
                self.publish_notification(now, key, observation, &answer);
            }
        }
    }

    /// Takes an exchange out of its device and of the tables.
    pub(super) fn take_exchange(&mut self, key: DeviceKey, index: usize) -> Option<Exchange> {
        let device = self.device_mut(key)?;
        if index >= device.exchanges.len() {
            return None;
        }
        let exchange = device.exchanges.remove(index);
        if device.exchanges.is_empty() {
            // Most devices have none most of the time.
            device.exchanges = Vec::new();
        }
        let peer = device.peer;
        let still_used = device.observation(exchange.token).is_some();
        self.release_work(key, exchange.bytes());
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
            let Some(exchange) = device.exchanges.get_mut(index) else {
                break;
            };
            match exchange.transmission.poll(now.mono, parameters) {
                Due::Wait => index += 1,
                Due::Retransmit => {
                    let datagram = exchange.datagram.to_vec();
                    self.counters.retransmissions.inc();
                    let sent = self.transmit_request(now, key, datagram);
                    let device = self.device_mut(key);
                    if let Some(exchange) = device.and_then(|it| it.exchanges.get_mut(index)) {
                        exchange.withheld = !sent;
                    }
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
            return self.remove(key, GoneReason::Expired);
        }
        self.pump(now, key);
    }
}
