//! What waits for a device, for applications that ask, and that want some of it no more.

use super::job::Purpose;
use super::queue::Queued;
use super::refusal::Refusal;
use super::state::Device;
use crate::bridge::command::QueueRequest;
use crate::bridge::uplink;
use crate::bridge::waiting::{self, Waiting};
use crate::bridge::{Command, Echo};
use crate::engine::context::Context;

impl Device {
    /// Answers `list-queue` and `cancel`. Each command that is cancelled is answered as well.
    pub(in crate::engine) fn handle_queue_request(
        &mut self,
        cx: &mut Context<'_>,
        echo: &Echo,
        request: &QueueRequest,
    ) {
        let payload = match request {
            QueueRequest::List => self.list_queue(cx, echo),
            QueueRequest::Cancel(which) => self.cancel(cx, echo, which.as_deref()),
        };
        self.publish_answer(cx, echo, payload);
    }

    fn list_queue(&self, cx: &Context<'_>, echo: &Echo) -> Vec<u8> {
        let now = cx.now;
        let sent = self.exchanges.iter().filter_map(|exchange| {
            let Purpose::Command { command, .. } = &exchange.job.purpose else {
                return None;
            };
            Some(entry(command, None))
        });
        let waiting = self.queue.iter().map(|queued| {
            let left = (queued.expires - now.mono).as_millis();
            let until = now
                .unix_ms
                .saturating_add(u64::try_from(left).unwrap_or(u64::MAX));
            entry(&queued.command, Some((queued.received, until)))
        });
        waiting::queue(echo, &self.ids(), sent.chain(waiting))
    }

    fn cancel(&mut self, cx: &mut Context<'_>, echo: &Echo, which: Option<&str>) -> Vec<u8> {
        let wanted = |queued: &Queued| {
            which.is_none_or(|id| queued.command.echo.request_id().as_deref() == Some(id))
        };
        let cancelled = self.queue.take_where(wanted);
        self.settle_queue(cx);
        for queued in &cancelled {
            self.refuse(cx, &queued.command, &Refusal::CANCELLED);
        }
        if cancelled.is_empty() && which.is_some() {
            let (code, reason) = (crate::coap::Code::NOT_FOUND.0, "no_such_command");
            let detail = Some("no command of this reqID waits");
            return uplink::local_error(echo, &self.ids(), None, code, reason, detail);
        }
        waiting::cancelled(echo, &self.ids(), cancelled.len())
    }
}

fn entry(command: &Command, time: Option<(u64, u64)>) -> Waiting<'_> {
    Waiting {
        echo: &command.echo,
        path: &command.target.text,
        time,
    }
}
