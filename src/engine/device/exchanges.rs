//! Requests under way: acknowledgements, resets, responses, blocks and deadlines. An exchange is
//! found by its token or message id where it is used.

use tracing::debug;

use super::commands::OBSERVE_CANCEL;
use super::job::{Exchange, Job, Purpose, Transfer};
use super::refusal::Refusal;
use super::request::Method;
use super::state::Device;
use super::transfer::{Collected, collect, request_datagram, send_smaller, unpinned};
use crate::bridge::code;
use crate::bridge::uplink::Answer;
use crate::coap::block::BlockOption;
use crate::coap::exchange::{Due, Transmission};
use crate::coap::message::{self, option};
use crate::coap::{Code, Message, MessageType, Token};
use crate::engine::context::Context;
use crate::lwm2m::codec::ContentFormat;

use rand_chacha::rand_core::Rng;

/// Critical options that responses may carry (RFC 7252 §5.4.1).
const KNOWN_CRITICAL: [u16; 2] = [option::BLOCK1, option::BLOCK2];

/// What happened to a request instead of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// An Empty ACK: the response comes separately.
    Ack,
    /// A Reset.
    Reset,
    /// Nothing within the deadline.
    Timeout,
}

impl Device {
    /// Sends the next request of a job.
    pub(super) fn start(&mut self, cx: &mut Context<'_>, token: Token, job: Box<Job>) {
        let mid = cx.index.next_mid(self.peer, cx.rng);
        let config = cx.config();
        let block_size = config.blockwise.max_block_size;
        let datagram = request_datagram(&job, mid, token, block_size);
        let jitter = cx.rng.next_u32();
        let transmission = Transmission::start(cx.now.mono, jitter, &config.coap);
        cx.counters().requests.inc();
        self.saw_request(cx);
        cx.index.add_token(token);
        cx.index.add_message(self.peer, mid);
        let copy = datagram.clone().into();
        let withheld = !self.transmit_request(cx, datagram);
        self.strays = 0;
        let exchange = Exchange {
            token,
            mid,
            datagram: copy,
            transmission,
            begun: cx.now.mono,
            withheld,
            job,
        };
        self.charge_work(cx, exchange.bytes());
        self.exchanges.push(exchange);
    }

    /// An Empty ACK: the response comes separately (RFC 7252 §5.2.2).
    pub(in crate::engine) fn handle_empty_ack(&mut self, cx: &mut Context<'_>, mid: u16) {
        self.wake(cx);
        let Some(exchange) = self.exchange_by_mid(mid) else {
            return;
        };
        let parameters = &cx.config().coap;
        exchange.transmission.acknowledged(cx.now.mono, parameters);
        let report = match &mut exchange.job.purpose {
            Purpose::Command { ack_reported, .. } => !std::mem::replace(ack_reported, true),
            Purpose::Refresh { .. } | Purpose::Notification { .. } => false,
        };
        if report {
            self.answer_status(cx, mid, Status::Ack);
        }
        self.pump(cx);
    }

    /// RST: the device does not want the message (RFC 7252 §4.2).
    pub(in crate::engine) fn handle_reset(&mut self, cx: &mut Context<'_>, mid: u16) {
        self.wake(cx);
        cx.counters().resets.inc();
        self.fail(cx, mid, Status::Reset);
        self.pump(cx);
    }

    /// A response or notification with a token of this device's.
    pub(in crate::engine) fn handle_response(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        message: &Message,
    ) {
        self.touch(cx.now, cx.env);
        self.prove(cx);
        let confirmable = message.kind() == MessageType::Confirmable;
        if message.unknown_critical(&KNOWN_CRITICAL).is_some() {
            // RFC 7252 §5.4.1: such a response is rejected.
            cx.counters().datagrams_unexpected.inc();
            if confirmable {
                self.transmit(cx, message::empty(MessageType::Reset, message.mid()));
            }
            return;
        }
        if confirmable {
            let ack = message::empty(MessageType::Acknowledgement, message.mid());
            self.transmit(cx, ack);
        }
        let answers = self.exchange_by_token(token).is_some();
        self.take_response(cx, token, message);
        if !answers {
            self.send_again(cx);
        }
        self.pump(cx);
    }

    /// A notification from an address that is not the device's so far, where it has been
    /// acknowledged: the token shows whose it is. Nothing goes to the old address on account of it.
    pub(in crate::engine) fn handle_notification_from_elsewhere(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        message: &Message,
    ) {
        self.last_seen = cx.now.mono;
        if message.unknown_critical(&KNOWN_CRITICAL).is_some() {
            return cx.counters().datagrams_unexpected.inc();
        }
        self.notification(cx, token, message);
    }

    fn take_response(&mut self, cx: &mut Context<'_>, token: Token, message: &Message) {
        let confirmable = message.kind() == MessageType::Confirmable;
        let is_ack = message.kind() == MessageType::Acknowledgement;
        // A message with the token of an observation that is being cancelled and with an Observe
        // option is one of its notifications, unless it is the piggybacked response.
        let exchange = self.exchange_by_token(token).filter(|exchange| {
            let cancels = exchange.job.request.observe == Some(OBSERVE_CANCEL);
            !cancels || is_ack || message.observe().is_none()
        });
        match exchange.map(|exchange| exchange.mid) {
            // A piggybacked response belongs to one message id (RFC 7252 §5.2.1).
            Some(mid) if is_ack && mid != message.mid() => {
                cx.counters().datagrams_unexpected.inc();
            }
            Some(mid) => {
                cx.counters().responses.inc();
                if confirmable {
                    self.last_separate = Some(message.mid());
                }
                if let Some(exchange) = self.take_exchange(cx, mid) {
                    let time = cx.now.mono - exchange.begun;
                    (cx.counters().timings).exchanged(self.peer.listener, time);
                    self.saw_answer(cx, &exchange, message.code());
                    self.progress(cx, exchange, message);
                }
            }
            None => {
                self.notification(cx, token, message);
            }
        }
    }

    /// The device has been heard of by something else than an answer: it listens now, so what it has
    /// not acknowledged goes out again.
    pub(in crate::engine) fn send_again(&mut self, cx: &mut Context<'_>) {
        let parameters = &cx.config().coap;
        let now = cx.now.mono;
        let heard = |it: &mut Exchange| it.transmission.heard(now, parameters).then_some(it.mid);
        let Some(mid) = self.exchanges.iter_mut().find_map(heard) else {
            return;
        };
        // NSTART is 1 as a rule, so one is all there is.
        let Some(exchange) = self.exchange_by_mid(mid) else {
            return;
        };
        let datagram = exchange.datagram.to_vec();
        cx.counters().retransmissions.inc();
        let sent = self.transmit_request(cx, datagram);
        if let Some(exchange) = self.exchange_by_mid(mid) {
            exchange.withheld = !sent;
        }
    }

    /// A response to an exchange: the next block, or the end.
    fn progress(&mut self, cx: &mut Context<'_>, mut exchange: Exchange, message: &Message) {
        let block1 = message
            .uint_option(option::BLOCK1, 3)
            .and_then(BlockOption::from_uint);
        let bounds = cx.config().blockwise;
        let job = &mut exchange.job;
        if message.code() == Code::CONTINUE
            && let Some(sender) = &mut job.sender
        {
            if sender.advance(block1) {
                return self.go_on(cx, exchange.job);
            }
            if sender.current().0.more {
                // Its blocks are so small that there are no numbers for all of them.
                let refusal = Refusal::bad_gateway("body_too_large");
                return self.give_up(cx, &exchange.job, &refusal);
            }
        }
        if message.code() == Code::REQUEST_ENTITY_TOO_LARGE {
            let limit = message.uint_option(option::SIZE1, 4);
            // Without another try the refusal is the answer.
            if send_smaller(job, block1, limit) && job.spend(cx.now.mono, &bounds).is_ok() {
                let token = cx.index.new_token(cx.rng);
                return self.start(cx, token, exchange.job);
            }
        }
        if let Some(format) = unpinned(&exchange.job, message) {
            return self.pin_format(cx, exchange, format);
        }
        let code = refused_code(&exchange.job, message);
        if let Some(again) = self.choose_again(cx, &exchange.job, code) {
            self.end_unanswered(cx, &exchange.job);
            return self.request(cx, again);
        }
        let first = exchange.job.body.is_none();
        match collect(&bounds, &mut exchange.job.body, message) {
            Collected::Whole => self.finish(cx, exchange, message, message.payload()),
            Collected::Last(body) => self.finish(cx, exchange, message, &body),
            Collected::More => self.await_block(cx, exchange, first),
            Collected::Failed(reason) => {
                self.give_up(cx, &exchange.job, &Refusal::bad_gateway(reason));
            }
        }
    }

    /// A block of a response is here and it is not the last.
    fn await_block(&mut self, cx: &mut Context<'_>, mut exchange: Exchange, first: bool) {
        if first {
            // What comes with its token from now on is newer than the body of which this is the
            // first block.
            self.begin_observation(cx, &exchange);
        }
        exchange.job.sender = None;
        let bytes = exchange.job.bytes();
        if let Err(full) = cx.accounts.check_work(self.charged.work(), bytes) {
            return self.give_up(cx, &exchange.job, &Refusal::memory(full));
        }
        if !first || self.transfers.is_empty() {
            return self.go_on(cx, exchange.job);
        }
        let transfer = Transfer::Answer(exchange.job);
        self.charge_work(cx, transfer.bytes());
        self.transfers.push(transfer);
    }

    /// Sends the next request of a transfer.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>, mut job: Box<Job>) {
        match job.spend(cx.now.mono, &cx.config().blockwise) {
            Ok(()) => {
                let token = cx.index.new_token(cx.rng);
                self.start(cx, token, job);
            }
            Err(exhausted) => self.give_up(cx, &job, &exhausted.into()),
        }
    }

    /// A transfer that does not come to an end by itself.
    fn give_up(&mut self, cx: &mut Context<'_>, job: &Job, refusal: &Refusal) {
        cx.counters().transfers_failed.inc();
        match &job.purpose {
            Purpose::Command { command, .. } => {
                self.refuse(cx, command, refusal);
                self.end_unanswered(cx, job);
            }
            // The observation lives on.
            Purpose::Refresh { .. } | Purpose::Notification { .. } => {
                cx.counters().decode_errors.inc();
            }
        }
    }

    /// Begins a transfer anew with the format of its first block as Accept, this time and whenever
    /// the observation is asked for.
    fn pin_format(&mut self, cx: &mut Context<'_>, exchange: Exchange, format: ContentFormat) {
        let Exchange { token, mut job, .. } = exchange;
        job.request.accept = Some(format);
        job.choice.accept = Some(format);
        job.body = None;
        let observation = job.observation();
        let known = observation.and_then(|token| self.observation_mut(token));
        if let Some(known) = known {
            known.set_accept(format);
            let token = known.token;
            if let Some(known) = self.observation(token) {
                self.keep_observation(cx, known);
            }
        }
        if matches!(job.purpose, Purpose::Notification { .. }) {
            // Only its observation can bring the notification's value again.
            return self.refresh_again(observation.into_iter());
        }
        match job.spend(cx.now.mono, &cx.config().blockwise) {
            // The first request again, Observe included: with the token it had.
            Ok(()) => self.start(cx, observation.unwrap_or(token), job),
            Err(exhausted) => self.give_up(cx, &job, &exhausted.into()),
        }
    }

    /// The final response of a job.
    fn finish(
        &mut self,
        cx: &mut Context<'_>,
        exchange: Exchange,
        message: &Message,
        payload: &[u8],
    ) {
        let Exchange { token, job, .. } = exchange;
        // Code, format and Observe of a body in blocks are those of its first block.
        let body = job.body.as_ref().filter(|_| message.code().is_success());
        let (code, content_format, observe) = match body {
            Some(body) => (body.code, body.content_format, body.observe),
            None => (message.code(), message.content_format(), message.observe()),
        };
        let in_blocks = body.is_some();
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
                    let token = observation.unwrap_or(token);
                    let begun = in_blocks && self.observation(token).is_some();
                    if !begun || command.kind.cancels() {
                        self.settle_observation(cx, token, &command, job.choice, &answer);
                    }
                }
                self.answer(cx, &command, &answer, message);
            }
            Purpose::Refresh { observation } => {
                // The device counts anew.
                if !in_blocks && let Some(known) = self.observation_mut(observation) {
                    known.begin_anew(answer.observe, cx.now.mono);
                }
                self.publish_notification(cx, observation, &answer);
            }
            // The observation lives on; only this notification cannot be put together.
            Purpose::Notification { .. } if !code.is_success() => {
                cx.counters().decode_errors.inc();
            }
            Purpose::Notification { observation } => {
                self.publish_notification(cx, observation, &answer);
            }
        }
    }

    /// Takes an exchange out of its device and of the index.
    pub(super) fn take_exchange(&mut self, cx: &mut Context<'_>, mid: u16) -> Option<Exchange> {
        let at = self.exchanges.iter().position(|it| it.mid == mid)?;
        let exchange = self.exchanges.remove(at)?;
        self.release_work(cx, exchange.bytes());
        cx.index.remove_message(self.peer, mid);
        self.drop_token(cx, exchange.token);
        Some(exchange)
    }

    /// A token is no longer needed, unless an observation or another exchange has it as well.
    pub(super) fn drop_token(&self, cx: &mut Context<'_>, token: Token) {
        let used = self.tokens().any(|other| other == token);
        if !used {
            cx.index.remove_token(token);
        }
    }

    /// An exchange ended without a response.
    fn fail(&mut self, cx: &mut Context<'_>, mid: u16, status: Status) {
        let asked = self
            .exchange_by_mid(mid)
            .and_then(|it| match it.job.purpose {
                Purpose::Refresh { observation } => Some(observation),
                Purpose::Command { .. } | Purpose::Notification { .. } => None,
            });
        if status == Status::Timeout && asked.is_some_and(|token| self.is_silent(token)) {
            self.take_exchange(cx, mid);
            return;
        }
        self.answer_status(cx, mid, status);
        let Some(exchange) = self.take_exchange(cx, mid) else {
            return;
        };
        self.saw_failure(cx, &exchange, status);
        match exchange.job.purpose {
            Purpose::Notification { .. } => {}
            // What the device rejected or did not answer is not observed (any more).
            Purpose::Command { .. } | Purpose::Refresh { .. } => {
                if let Some(token) = exchange.job.observation() {
                    self.end_observation(cx, token);
                }
            }
        }
    }

    /// Retransmissions, given-up exchanges and expired commands. False when the lifetime is over.
    pub(in crate::engine) fn handle_timeout(&mut self, cx: &mut Context<'_>) -> bool {
        let parameters = &cx.config().coap;
        let mut next = 0;
        while let Some(exchange) = self.exchanges.get_mut(next) {
            let mid = exchange.mid;
            match exchange.transmission.poll(cx.now.mono, parameters) {
                Due::Wait => next += 1,
                Due::Retransmit => {
                    let datagram = exchange.datagram.to_vec();
                    cx.counters().retransmissions.inc();
                    let sent = self.transmit_request(cx, datagram);
                    if let Some(exchange) = self.exchange_by_mid(mid) {
                        exchange.withheld = !sent;
                    }
                    next += 1;
                }
                Due::Expired => {
                    cx.counters().timeouts.inc();
                    self.fail(cx, mid, Status::Timeout);
                    // A queue-mode device that does not answer sleeps.
                    self.awake_until = cx.now.mono;
                    debug!(endpoint = %self.endpoint, "exchange timed out");
                }
            }
        }
        if self.expires_at() <= cx.now.mono {
            return false;
        }
        self.check_silence(cx);
        self.expire_moving(cx.now.mono);
        self.pump(cx);
        true
    }
}

/// The code of a response for the choice of formats. There is no 2.00; a device that answers a read
/// so, and with nothing, could not choose a format.
fn refused_code(job: &Job, message: &Message) -> Code {
    let reads = job.request.method == Method::Get;
    if reads && message.code() == Code(2 << 5) && message.payload().is_empty() {
        Code(code::NOT_ACCEPTABLE)
    } else {
        message.code()
    }
}
