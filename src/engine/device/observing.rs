//! Observations of a device and their notifications (RFC 7641, LwM2M Core 1.2 §6.4). There is one
//! place that judges freshness, [`Device::publish_notification`], and one that ends an
//! observation, [`Device::end_observation`].

use super::effort::Effort;
use super::format::FormatChoice;
use super::job::{Body, Exchange, Job, Purpose, Transfer};
use super::moment::Moment;
use super::observation::Observation;
use super::state::Device;
use super::transfer::{Collected, collect};
use super::watch::Watch;
use crate::bridge::Command;
use crate::bridge::uplink::Answer;
use crate::coap::observe::Freshness;
use crate::coap::{Code, Message, Token};
use crate::engine::context::Context;

impl Device {
    /// The next observation to be asked for again. One whose command has no answer yet waits for
    /// that.
    pub(super) fn next_refresh(&mut self) -> Option<Token> {
        let at = (self.refresh.iter()).rposition(|token| !self.is_unanswered(*token))?;
        self.refresh.swap_remove(at)
    }

    /// Whether the command that began an observation is still under way.
    pub(super) fn is_unanswered(&self, observation: Token) -> bool {
        let begins = |job: &Job| {
            let command = matches!(job.purpose, Purpose::Command { .. });
            command && job.observation() == Some(observation)
        };
        let mut exchanges = self.exchanges.iter();
        let mut transfers = self.transfers.iter();
        exchanges.any(|exchange| begins(&exchange.job))
            || transfers.any(|it| matches!(it, Transfer::Answer(job) if begins(job)))
    }

    /// Asks again for what was observed before the device registered anew.
    pub(super) fn refresh(&mut self, cx: &mut Context<'_>, token: Token) {
        let Some(observation) = self.observation(token) else {
            return;
        };
        let choice = observation.choice();
        let (target, echo) = (observation.target.to_target(), observation.whole_echo());
        let command = Command::observe_again(&target, &echo, None);
        let Ok(request) = self.build(cx, &command, &choice) else {
            return;
        };
        let purpose = Purpose::Refresh { observation: token };
        let job = Job::new(purpose, request, choice, Effort::new());
        self.start(cx, token, Box::new(job));
    }

    /// The rest of a notification that came in blocks is fetched when NSTART allows it. A newer
    /// notification replaces one whose blocks are still to come; the answer to a cancellation
    /// under way is newer still.
    fn plan_fetch(&mut self, cx: &mut Context<'_>, token: Token, body: Body) {
        if !self.supersede(cx, token, body.observe) {
            return cx.counters().notifications_stale.inc();
        }
        if self.exchange_by_token(token).is_some() {
            return;
        }
        let transfer = Transfer::Notification {
            observation: token,
            body,
        };
        let bytes = transfer.bytes();
        // Without room for it this notification is lost; the refusal is counted.
        if cx.accounts.check_work(self.charged.work(), bytes).is_ok() {
            self.charge_work(cx, bytes);
            self.transfers.push(transfer);
        }
    }

    /// A notification of this number is here, or its first block: one whose blocks are still to
    /// come is given up if it is older. False when it is not.
    fn supersede(&mut self, cx: &mut Context<'_>, token: Token, sequence: Option<u32>) -> bool {
        let waiting = self.transfers.iter().find_map(|transfer| match transfer {
            Transfer::Notification { observation, body } if *observation == token => Some(body),
            _ => None,
        });
        let fetched = self.exchanges.iter().find(|it| it.fetches(token));
        let mid = fetched.map(|exchange| exchange.mid);
        let body = waiting.or_else(|| fetched?.job.body.as_ref());
        let Some(body) = body else {
            return true;
        };
        if let (Some(older), Some(newer)) = (body.observe, sequence)
            && !Freshness::new(older, cx.now.mono).accept(newer, cx.now.mono)
        {
            return false;
        }
        let freed = self.forget_transfer(token);
        self.release_work(cx, freed);
        if let Some(mid) = mid {
            self.take_exchange(cx, mid);
        }
        true
    }

    /// The rest of a notification is no longer wanted. Returns the bytes it took.
    fn forget_transfer(&mut self, of: Token) -> usize {
        let mut freed = 0;
        self.transfers.retain(|transfer| {
            let wanted = !transfer.fetches(of);
            freed += if wanted { 0 } else { transfer.bytes() };
            wanted
        });
        freed
    }

    /// Fetches the rest of a notification that came in blocks (RFC 7959 §3.4: with a token of
    /// its own and without Observe).
    pub(super) fn fetch_rest(&mut self, cx: &mut Context<'_>, observation: Token, body: Body) {
        let Some(known) = self.observation(observation) else {
            return;
        };
        let choice = known.choice();
        let (target, echo) = (known.target.to_target(), known.whole_echo());
        let command = Command::read_observed(&target, &echo, None);
        let Ok(request) = self.build(cx, &command, &choice) else {
            return;
        };
        let purpose = Purpose::Notification { observation };
        let token = cx.index.new_token(cx.rng);
        let job = Job {
            body: Some(body),
            ..Job::new(purpose, request, choice, Effort::new())
        };
        self.start(cx, token, Box::new(job));
    }

    /// The first block of a response is here. An observation that it confirms stands from now on,
    /// so that its notifications are taken while the rest is fetched; one that was asked for again
    /// counts anew.
    pub(super) fn begin_observation(&mut self, cx: &mut Context<'_>, exchange: &Exchange) {
        let job = &exchange.job;
        let Some(body) = &job.body else {
            return;
        };
        match &job.purpose {
            Purpose::Command {
                command,
                observation: Some(token),
                ..
            } if command.kind.observes() => {
                if let Some(sequence) = body.observe {
                    self.establish(cx, *token, command, job.choice, sequence);
                }
            }
            Purpose::Refresh { observation } => {
                let sequence = body.observe;
                if let Some(known) = self.observation_mut(*observation) {
                    known.begin_anew(sequence, cx.now.mono);
                }
            }
            Purpose::Command { .. } | Purpose::Notification { .. } => {}
        }
    }

    /// A command to observe got no answer that can be read, or is sent anew: what its first block
    /// began does not stand.
    pub(super) fn end_unanswered(&mut self, cx: &mut Context<'_>, job: &Job) {
        if let Purpose::Command {
            command,
            observation: Some(token),
            ..
        } = &job.purpose
            && command.kind.observes()
        {
            self.end_observation(cx, *token);
        }
    }

    /// What the response to Observe or its cancellation does to the observation.
    pub(super) fn settle_observation(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        command: &Command,
        choice: FormatChoice,
        answer: &Answer<'_>,
    ) {
        let confirmed = command.kind.observes() && Code(answer.code).is_success();
        match answer.observe.filter(|_| confirmed) {
            Some(sequence) => self.establish(cx, token, command, choice, sequence),
            None => self.end_observation(cx, token),
        }
    }

    fn establish(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        command: &Command,
        choice: FormatChoice,
        sequence: u32,
    ) {
        self.end_observation(cx, token);
        // One observation a path: the newest (RFC 7641 §4.1).
        let mut observations = self.observations.iter();
        let older = observations.find(|known| known.target.is_same(&command.target));
        if let Some(token) = older.map(|known| known.token) {
            self.end_observation(cx, token);
        }
        let (target, echo) = (command.target.clone(), command.echo.of_observation());
        let period = self.period_of(target.single_path());
        let mut observation = Observation::new(token, target, echo, choice, sequence, cx.now.mono);
        observation.watch = Watch::new(period, cx.now.mono);
        self.add_observation(cx, observation);
    }

    /// Puts an observation into all tables, and into the store.
    pub(super) fn add_observation(&mut self, cx: &mut Context<'_>, observation: Observation) {
        self.keep_observation(cx, &observation);
        self.place_observation(cx, observation);
    }

    /// Puts an observation into all tables.
    pub(super) fn place_observation(&mut self, cx: &mut Context<'_>, mut observation: Observation) {
        let token = observation.token;
        observation.since = Moment::new(cx.now.unix_ms);
        // No more than its request took.
        self.charge_work(cx, observation.bytes());
        // There are few, and they stay.
        self.observations.reserve_exact(1);
        self.observations.push(observation);
        cx.counters().observations.inc();
        cx.index.add_token(token);
        cx.env.directory.observe(token, cx.env.shard);
    }

    /// Forgets an observation, if there is one with this token.
    pub(super) fn end_observation(&mut self, cx: &mut Context<'_>, token: Token) {
        let at = self.observations.iter().position(|it| it.token == token);
        let Some(at) = at else {
            return;
        };
        let bytes = self.observations.swap_remove(at).bytes();
        let freed = bytes + self.forget_transfer(token);
        self.release_work(cx, freed);
        let observations = &cx.counters().observations;
        observations.set(observations.get().saturating_sub(1));
        cx.env.directory.forget_observation(token);
        self.drop_token(cx, token);
        self.keep_unobserved(cx, token);
    }

    /// A message with the token of an observation (RFC 7641 §3.2).
    pub(super) fn notification(&mut self, cx: &mut Context<'_>, token: Token, message: &Message) {
        self.saw_notification(cx);
        let counters = cx.counters();
        counters.notifications.inc();
        let Some(observation) = self.observation(token) else {
            return counters.datagrams_unexpected.inc();
        };
        if !observation.would_accept(message.observe(), cx.now.mono) {
            return counters.notifications_stale.inc();
        }
        let mut body = None;
        match collect(&cx.config().blockwise, &mut body, message) {
            Collected::Whole => {}
            Collected::More => {
                if let Some(body) = body {
                    self.plan_fetch(cx, token, body);
                }
                return;
            }
            Collected::Last(_) | Collected::Failed(_) => {
                counters.transfers_failed.inc();
                return counters.decode_errors.inc();
            }
        }
        self.supersede(cx, token, message.observe());
        let answer = Answer {
            code: message.code().0,
            observe: message.observe(),
            content_format: message.content_format(),
            payload: message.payload(),
        };
        self.publish_notification(cx, token, &answer);
    }

    /// Publishes a value of an observation, unless a newer one was published. An error, or one
    /// without Observe, is the observation's last (RFC 7641 §3.2 and §4.2).
    pub(super) fn publish_notification(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        answer: &Answer<'_>,
    ) {
        let now = cx.now;
        let Some(observation) = self.observation_mut(token) else {
            return;
        };
        if !observation.accept(answer.observe, now.mono) {
            return cx.counters().notifications_stale.inc();
        }
        observation.last_at = Moment::new(now.unix_ms);
        observation.notifications = observation.notifications.saturating_add(1);
        self.notify(cx, token, answer);
        if !Code(answer.code).is_success() || answer.observe.is_none() {
            self.end_observation(cx, token);
        }
    }
}
