//! What waits for a device, for applications that ask, and that want some of it no more.

use super::job::{Job, Purpose, Transfer};
use super::refusal::Refusal;
use super::state::Device;
use crate::bridge::command::QueueRequest;
use crate::bridge::uplink;
use crate::bridge::waiting::{self, Waiting};
use crate::bridge::{Command, Echo, Target};
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
            QueueRequest::Forget(target) => self.forget_observation(cx, echo, target),
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

    /// Ends an observation without a word to the device.
    fn forget_observation(
        &mut self,
        cx: &mut Context<'_>,
        echo: &Echo,
        target: &Target,
    ) -> Vec<u8> {
        let mut observations = self.observations.iter();
        let known = observations.find(|known| known.target.is_same(target));
        let Some(token) = known.map(|known| known.token) else {
            let (code, reason) = (crate::coap::Code::NOT_FOUND.0, "no_such_observation");
            let detail = Some("there is no such observation");
            let path = Some(&target.text);
            return uplink::local_error(echo, &self.ids(), path, code, reason, detail);
        };
        self.end_observation(cx, token);
        waiting::forgotten(echo, &self.ids(), &target.text)
    }

    fn cancel(&mut self, cx: &mut Context<'_>, echo: &Echo, which: Option<&str>) -> Vec<u8> {
        // What the gateway observes by itself is nobody's command.
        let wanted = |command: &Command| match which {
            Some(id) => command.echo.request_id().as_deref() == Some(id),
            None => !command.echo.is_auto_observe(),
        };
        let waiting = self.queue.take_where(|queued| wanted(&queued.command));
        self.settle_queue(cx);
        for queued in &waiting {
            self.refuse(cx, &queued.command, &Refusal::CANCELLED);
        }
        let under_way = self.cancel_exchanges(cx, &wanted);
        let cancelled = waiting.len() + under_way;
        if under_way > 0 {
            // What they held back has its turn.
            self.pump(cx);
        }
        if cancelled == 0 && which.is_some() {
            let (code, reason) = (crate::coap::Code::NOT_FOUND.0, "no_such_command");
            let detail = Some("no command with this reqID waits");
            return uplink::local_error(echo, &self.ids(), None, code, reason, detail);
        }
        waiting::cancelled(echo, &self.ids(), cancelled)
    }
}

impl Device {
    /// Ends requests under way that are wanted no more; each is answered as cancelled. The device may
    /// have done what it was asked for. What it answers is for nobody. Returns how many there were.
    fn cancel_exchanges(
        &mut self,
        cx: &mut Context<'_>,
        wanted: &dyn Fn(&Command) -> bool,
    ) -> usize {
        let command = |job: &Job| match &job.purpose {
            Purpose::Command { command, .. } => wanted(command),
            Purpose::Refresh { .. } | Purpose::Notification { .. } => false,
        };
        let exchanges = self.exchanges.iter().filter(|it| command(&it.job));
        let mids: Vec<u16> = exchanges.map(|exchange| exchange.mid).collect();
        let mut jobs: Vec<Box<Job>> = Vec::new();
        for mid in mids {
            jobs.extend(self.take_exchange(cx, mid).map(|exchange| exchange.job));
        }
        // Others wait for their next block.
        let mut freed = 0;
        for transfer in std::mem::take(&mut self.transfers) {
            let bytes = transfer.bytes();
            match transfer {
                Transfer::Answer(job) if command(&job) => {
                    freed += bytes;
                    jobs.push(job);
                }
                other => self.transfers.push(other),
            }
        }
        self.release_work(cx, freed);
        for job in &jobs {
            self.end_unanswered(cx, job);
            if let Purpose::Command { command, .. } = &job.purpose {
                self.refuse(cx, command, &Refusal::CANCELLED);
            }
        }
        jobs.len()
    }
}

fn entry(command: &Command, time: Option<(u64, u64)>) -> Waiting<'_> {
    Waiting {
        echo: &command.echo,
        path: &command.target.text,
        time,
    }
}
