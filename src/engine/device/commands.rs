//! A command, from the host through the queue to its first request.

use std::time::Duration;

use super::effort::Effort;
use super::format::{self, FormatChoice};
use super::job::{Job, Purpose, Transfer};
use super::queue::{Clearance, Queued};
use super::refusal::Refusal;
use super::request::{self, BuildError, RequestParts};
use super::state::Device;
use super::transfer::request_datagram;
use crate::bridge::{Command, Reason};
use crate::coap::block::Sender;
use crate::coap::{Code, Token};
use crate::config::{FormatDefault, OnStoreFailure};
use crate::engine::context::Context;
use crate::mqtt::Origin;

/// Requests of one device that may be open at a time. Those that it has acknowledged do not count
/// against NSTART, and a device might acknowledge all and answer none.
const MAX_OPEN: usize = 64;

/// Bytes of one datagram at most, over IPv4.
const MAX_UDP_PAYLOAD: usize = 65_507;

/// And over DTLS (RFC 6347 §4.1).
const MAX_DTLS_PLAINTEXT: usize = 1 << 14;

/// Value of the Observe option that cancels an observation (RFC 7641 §2).
pub(super) const OBSERVE_CANCEL: u32 = 1;

/// A command on its way to a request, for the first or another time.
pub(super) struct Attempt {
    command: Box<Command>,
    choice: FormatChoice,
    /// Of the observation that it cancels.
    token: Option<Token>,
    /// What it may still ask.
    effort: Effort,
}

impl Device {
    /// Queues a command and sends what may be sent. `size`: of its JSON, in bytes; `expiry`: of its
    /// message, in seconds; `text`: its JSON and where it came from, for the store, unless its echo
    /// has all of it.
    pub(in crate::engine) fn handle_command(
        &mut self,
        cx: &mut Context<'_>,
        mut command: Box<Command>,
        size: usize,
        expiry: Option<u32>,
        text: Option<(Vec<u8>, Option<Origin>)>,
    ) {
        self.latest = self.latest.max(command.order);
        let bounds = cx.config().queue;
        let immediate = command.ttl == Some(Duration::ZERO);
        let message_expiry = expiry.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let ttl = command.ttl.filter(|ttl| !ttl.is_zero());
        let wait = [Some(bounds.max_age), message_expiry, ttl]
            .into_iter()
            .flatten()
            .min();
        let expires = cx.now.mono + wait.unwrap_or(bounds.max_age);
        let bytes = Queued::bytes_of(&command);
        if cx.env.volatile && cx.config().store.on_failure == OnStoreFailure::Refuse {
            return self.refuse(cx, &command, &Refusal::NOT_DURABLE);
        }
        if let Err(full) = cx.accounts.check_queue(self.charged.queue(), bytes) {
            return self.refuse(cx, &command, &Refusal::memory(full));
        }
        let most = (bounds.max_total, bounds.max_total_bytes);
        if !cx.env.directory.may_queue(bytes, most) {
            return self.refuse(cx, &command, &Refusal::QUEUE_FULL);
        }
        let kept = self.number_command(cx, &mut command, text);
        let number = command.number;
        let queued = Queued {
            command,
            bytes,
            expires,
            size,
            immediate,
            received: cx.now.unix_ms,
            clearance: Clearance::NotAsked,
        };
        match self.queue.push(queued, &bounds) {
            Ok(()) => {
                self.keep_queued(cx, kept, expires, immediate);
                self.settle_queue(cx);
                self.fresh = number;
                self.pump(cx);
                self.fresh = 0;
                if self.queue.front().is_some() {
                    cx.counters().commands_queued.inc();
                }
            }
            Err((queued, error)) => {
                cx.accounts.queues.trim();
                let mut command = queued.command;
                command.number = 0;
                self.refuse(cx, &command, &Refusal::not_queued(error));
            }
        }
    }

    /// Sends what may be sent: NSTART allows it and the device is awake.
    pub(in crate::engine) fn pump(&mut self, cx: &mut Context<'_>) {
        let nstart = cx.config().coap.nstart.max(1);
        loop {
            self.refuse_expired(cx);
            if self.outstanding() >= nstart || self.exchanges.len() >= MAX_OPEN.max(nstart) {
                return;
            }
            if let Some(transfer) = self.transfers.pop_first() {
                self.go_on_with(cx, transfer);
                continue;
            }
            if self.absent {
                return;
            }
            let awake = !self.registration.queue_mode || self.awake_until > cx.now.mono;
            if awake && let Some(token) = self.next_refresh() {
                self.refresh(cx, token);
                continue;
            }
            let front = self.queue.front();
            if !front.is_some_and(|front| awake || front.immediate)
                || self.awaits_others(cx)
                || !self.clear_front(cx)
            {
                return;
            }
            let Some(queued) = self.queue.pop() else {
                return;
            };
            self.settle_queue(cx);
            self.send_command(cx, queued.command);
        }
    }

    /// Answers commands that have waited too long.
    fn refuse_expired(&mut self, cx: &mut Context<'_>) {
        let expired = self.queue.take_expired(cx.now.mono);
        if expired.is_empty() {
            return;
        }
        self.settle_queue(cx);
        for expired in expired {
            self.refuse(cx, &expired.command, &Refusal::EXPIRED);
        }
    }

    /// A transfer that waited for others has its turn.
    fn go_on_with(&mut self, cx: &mut Context<'_>, transfer: Transfer) {
        self.release_work(cx, transfer.bytes());
        match transfer {
            Transfer::Notification { observation, body } => {
                self.fetch_rest(cx, observation, body);
            }
            Transfer::Answer(mut job) => {
                // Its wait for others does not count.
                job.effort.park();
                self.go_on(cx, job);
            }
        }
    }

    fn send_command(&mut self, cx: &mut Context<'_>, command: Box<Command>) {
        let mut observations = self.observations.iter();
        let same = observations.find(|known| known.target.is_same(&command.target));
        let cancelled = same.filter(|_| command.kind.cancels());
        // What is cancelled is named by its token and by the same options (RFC 7641 §3.6).
        let (choice, token) = match cancelled {
            Some(known) => (known.choice(), Some(known.token)),
            None => {
                let default = self.format_default(cx);
                (format::choose(&command, default, &self.formats()), None)
            }
        };
        let limit = cx.config().limits.max_observations;
        if command.kind.observes() && same.is_none() && self.observations.len() >= limit {
            return self.refuse(cx, &command, &Refusal::TOO_MANY_OBSERVATIONS);
        }
        let attempt = Attempt {
            command,
            choice,
            token,
            effort: Effort::new(),
        };
        self.request(cx, attempt);
    }

    /// Sends the first, or another, request of a command.
    pub(super) fn request(&mut self, cx: &mut Context<'_>, attempt: Attempt) {
        let Attempt {
            command,
            choice,
            token,
            effort,
        } = attempt;
        let mut request = match self.build(cx, &command, &choice) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::unsuitable(error.reason.as_str(), error.detail);
                return self.refuse(cx, &command, &refusal);
            }
        };
        let blockwise = cx.config().blockwise;
        let (size, limit) = (request.payload.len(), blockwise.max_body_size);
        if size > limit {
            let detail =
                format!("a body of {size} bytes, at most {limit} (blockwise.max_body_size)");
            let refusal = Refusal::unsuitable(Reason::TooLarge.as_str(), detail);
            return self.refuse(cx, &command, &refusal);
        }
        let in_blocks = blockwise.enable && request.payload.len() > blockwise.max_block_size;
        let sender = in_blocks.then(|| {
            let body = std::mem::take(&mut request.payload);
            Sender::new(body, blockwise.max_block_size)
        });
        let observes = token.is_some() || command.kind.observes();
        let is_new = token.is_none();
        let token = token.unwrap_or_else(|| cx.index.new_token(cx.rng));
        let purpose = Purpose::Command {
            command,
            observation: observes.then_some(token),
            ack_reported: false,
        };
        let job = Job {
            sender,
            ..Job::new(purpose, request, choice, effort)
        };
        let full = cx
            .accounts
            .check_work(self.charged.work(), job.bytes())
            .err();
        let too_long = (!blockwise.enable).then(|| self.too_long(&job)).flatten();
        if let Some(refusal) = full.map(Refusal::memory).or(too_long) {
            if is_new {
                cx.index.remove_token(token);
            }
            if let Purpose::Command { command, .. } = &job.purpose {
                self.refuse(cx, command, &refusal);
            }
            return;
        }
        self.start(cx, token, Box::new(job));
    }

    /// Without block-wise transfer a request is one datagram.
    fn too_long(&self, job: &Job) -> Option<Refusal> {
        let limit = match self.peer.session {
            0 => MAX_UDP_PAYLOAD,
            _ => MAX_DTLS_PLAINTEXT,
        };
        let size = request_datagram(job, 0, Token(0), 0).len();
        let detail = format!(
            "a request of {size} bytes, at most {limit} in one datagram (blockwise.enable is false)"
        );
        (size > limit).then(|| Refusal::unsuitable(Reason::TooLarge.as_str(), detail))
    }

    /// The request of a command for this device.
    pub(super) fn build(
        &self,
        cx: &Context<'_>,
        command: &Command,
        choice: &FormatChoice,
    ) -> Result<RequestParts, BuildError> {
        let schema = self.registration.schema(&cx.env.models);
        let root = self.registration.alternate_path();
        request::build(command, root, &schema, choice)
    }

    /// What to try next after the device has answered `code`, if that was about formats and there
    /// is another one.
    pub(super) fn choose_again(
        &mut self,
        cx: &Context<'_>,
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
        let default = self.format_default(cx);
        let mut refused = self.refused;
        let formats = self.formats();
        let next = format::next(
            command,
            default,
            &formats,
            &mut refused,
            &job.choice,
            code.0,
        );
        self.refused = refused;
        let choice = next?;
        let mut effort = job.effort;
        let bounds = &cx.config().blockwise;
        effort.spend(cx.now.mono, bounds, 0, 0).ok()?;
        Some(Attempt {
            command: command.clone(),
            choice,
            // The token of an observation to be cancelled stays, a new one gets another.
            token: observation.filter(|_| command.kind.cancels()),
            effort,
        })
    }

    fn format_default(&self, cx: &Context<'_>) -> FormatDefault {
        let listener = cx.env.listener(self.peer.listener);
        listener.map_or_else(|| cx.config().format, |listener| listener.format)
    }
}
