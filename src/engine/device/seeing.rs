//! What is noted of a device for the HTTP API. It is noted only where that is served: a gateway
//! without it pays a look at its configuration.

use std::time::Duration;

use super::exchanges::Status;
use super::job::{Exchange, Purpose};
use super::seen::Seen;
use super::state::Device;
use crate::coap::Code;
use crate::engine::context::Context;
use crate::engine::listed::Outcome;

impl Device {
    /// Where to count, if anybody can ask.
    fn seen(&mut self, cx: &Context<'_>) -> Option<&mut Seen> {
        cx.config().http.bind?;
        Some(self.seen.get_or_insert_default())
    }

    /// A request has been sent.
    pub(super) fn saw_request(&mut self, cx: &Context<'_>) {
        if let Some(seen) = self.seen(cx) {
            seen.requests.inc();
        }
    }

    /// A datagram has come from it.
    pub(in crate::engine) fn saw_received(&mut self, bytes: usize) {
        let seen = self.seen.get_or_insert_default();
        seen.bytes_in += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// A datagram goes to the device.
    pub(super) fn saw_sent(&mut self, cx: &Context<'_>, bytes: usize) {
        if let Some(seen) = self.seen(cx) {
            seen.bytes_out += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }

    /// A notification has come.
    pub(super) fn saw_notification(&mut self, cx: &Context<'_>) {
        if let Some(seen) = self.seen(cx) {
            seen.notifications.inc();
        }
    }

    /// A Send has come.
    pub(in crate::engine) fn saw_send(&mut self, cx: &Context<'_>) {
        if let Some(seen) = self.seen(cx) {
            seen.sends.inc();
        }
    }

    /// A request was answered.
    pub(super) fn saw_answer(&mut self, cx: &Context<'_>, exchange: &Exchange, code: Code) {
        self.saw_end(cx, exchange, Outcome::Answered(code.0));
    }

    /// A request has ended without an answer.
    pub(super) fn saw_failure(&mut self, cx: &Context<'_>, exchange: &Exchange, status: Status) {
        let outcome = match status {
            Status::Reset => Outcome::Reset,
            Status::Ack | Status::Timeout => Outcome::TimedOut,
        };
        self.saw_end(cx, exchange, outcome);
    }

    /// An exchange has ended.
    fn saw_end(&mut self, cx: &Context<'_>, exchange: &Exchange, outcome: Outcome) {
        let now = cx.now;
        let Some(seen) = self.seen(cx) else {
            return;
        };
        match outcome {
            Outcome::Answered(_) => seen.responses.inc(),
            Outcome::TimedOut => seen.timeouts.inc(),
            Outcome::Reset => seen.resets.inc(),
        }
        // What is asked for in between is no answer to anybody.
        let Purpose::Command { command, .. } = &exchange.job.purpose else {
            return;
        };
        if outcome == Outcome::Answered(Code::CONTINUE.0) {
            return;
        }
        let took: Duration = now.mono - exchange.begun;
        let path = command.target.path.as_ref();
        seen.answered(
            command.kind,
            path.filter(|_| !command.kind.is_composite()),
            outcome,
            now.unix_ms,
            u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        );
    }
}
