//! Signs of life, a new registration, the end.

use super::format::Refused;
use super::job::{Purpose, Transfer};
use super::refusal::Refusal;
use super::request::Method;
use super::state::Device;
use crate::bridge::Command;
use crate::coap::Token;
use crate::config::ObservePolicy;
use crate::engine::context::{Context, Environment};
use crate::tables::rare::Rare;
use crate::time::Now;

impl Device {
    /// A device has sent what nobody else can send: it is awake, and its lifetime starts anew.
    pub(in crate::engine) fn touch(&mut self, now: Now, env: &Environment) {
        self.last_seen = now.mono;
        self.awake_until = now.mono + env.config().window_of(&self.endpoint);
    }

    /// A device is awake. Its lifetime starts anew only by what nobody else can send.
    pub(in crate::engine) fn wake(&mut self, cx: &mut Context<'_>) {
        self.awake_until = cx.now.mono + cx.config().window_of(&self.endpoint);
        if self.peer.session != 0 {
            self.last_seen = cx.now.mono;
        }
    }

    /// A device that is known has registered again, perhaps after a restart: what it observed is
    /// asked for again, what waits for it stays.
    pub(in crate::engine) fn begin_anew(&mut self, cx: &mut Context<'_>) {
        self.registered_at = cx.now.unix_ms;
        self.unsaved = true;
        self.refused = Refused::default();
        let observed = self.observed().collect();
        self.refresh = Rare::default();
        match cx.config().observe_policy {
            ObservePolicy::Renew => self.refresh = observed,
            ObservePolicy::Keep => {}
            ObservePolicy::Drop => {
                for token in observed {
                    self.end_observation(cx, token);
                }
            }
        }
        self.settle_registration(cx);
        // A command that is not idempotent may be why the device restarted (a reboot, say): it is
        // not sent again, only waited for.
        for exchange in &mut self.exchanges {
            if matches!(exchange.job.request.method, Method::Post | Method::Delete) {
                let parameters = &cx.config().coap;
                exchange.transmission.acknowledged(cx.now.mono, parameters);
            }
        }
    }

    /// Asks again for observations whose notifications came from the new address too early: the
    /// device may have given them up meanwhile.
    pub(in crate::engine) fn refresh_missed(&mut self, cx: &mut Context<'_>) {
        let directory = &cx.env.directory;
        let missed: Vec<Token> = self
            .observed()
            .filter(|token| directory.take_missed(*token))
            .collect();
        if !missed.is_empty() {
            self.refresh_again(missed.into_iter());
        }
    }

    /// The device is gone: all its commands are answered.
    pub(in crate::engine) fn refuse_waiting(&mut self, cx: &mut Context<'_>, refusal: &Refusal) {
        for command in self.take_commands() {
            self.refuse(cx, &command, refusal);
        }
    }

    /// The gateway stops: commands are answered that the store does not keep for its next start.
    pub(in crate::engine) fn refuse_unkept(&mut self, cx: &mut Context<'_>, refusal: &Refusal) {
        for command in self.take_commands().filter(|command| command.number == 0) {
            self.refuse(cx, &command, refusal);
        }
    }

    fn take_commands(&mut self) -> impl Iterator<Item = Box<Command>> + use<> {
        let exchanges = std::mem::take(&mut self.exchanges).into_iter();
        let transfers = std::mem::take(&mut self.transfers).into_iter();
        let parked = transfers.filter_map(|transfer| match transfer {
            Transfer::Answer(job) => Some(job),
            Transfer::Notification { .. } => None,
        });
        let jobs = exchanges.map(|exchange| exchange.job).chain(parked);
        let in_flight = jobs.filter_map(|job| match job.purpose {
            Purpose::Command { command, .. } => Some(command),
            Purpose::Refresh { .. } | Purpose::Notification { .. } => None,
        });
        let waiting: Vec<_> = self.queue.drain().map(|queued| queued.command).collect();
        in_flight.chain(waiting)
    }
}
