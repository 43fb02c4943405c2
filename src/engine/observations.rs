//! Observations of devices and their notifications (RFC 7641, LwM2M Core 1.2 §6.4).

use super::Engine;
use super::device::{Body, DeviceKey, Job, Observation, Purpose, Transfer};
use super::format::FormatChoice;
use super::transfer::{Collected, Effort, collect};
use super::uplink::{is_firmware, seconds, series_of};
use crate::bridge::content::{self, Context};
use crate::bridge::uplink::{self, Answer};
use crate::bridge::{Command, Dialect, topic};
use crate::coap::observe::Freshness;
use crate::coap::{Code, Message, Token};
use crate::host::{Publish, PublishKind};
use crate::lwm2m::codec::ContentFormat;
use crate::time::Now;

impl Engine {
    /// Asks again for what was observed before the device registered anew.
    pub(super) fn refresh(&mut self, now: Now, key: DeviceKey, token: Token) {
        let Some(device) = self.device(key) else {
            return;
        };
        let Some(index) = device.observation(token) else {
            return;
        };
        let Some(observation) = device.observations.get(index) else {
            return;
        };
        let choice = observation.choice;
        let command = Command::observe_again(&observation.target, &observation.echo, None);
        let Ok(request) = self.build(device, &command, &choice) else {
            return;
        };
        let purpose = Purpose::Refresh { observation: token };
        let job = Job::new(purpose, request, choice, Effort::new());
        self.start(now, key, token, Box::new(job));
    }

    /// The rest of a notification that came in blocks is fetched when NSTART allows it. A newer
    /// notification replaces one whose blocks are still to come; the answer to a cancellation
    /// under way is newer still.
    fn plan_fetch(&mut self, key: DeviceKey, observation: Token, body: Body) {
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let freed = device.forget_transfer(observation);
        let stale = device.exchanges.iter().position(|exchange| {
            matches!(exchange.job.purpose, Purpose::Notification { observation: of } if of == observation)
        });
        let wanted = device.exchange_by_token(observation).is_none();
        self.release_work(key, freed);
        let transfer = Transfer::Notification { observation, body };
        let bytes = transfer.bytes();
        // Without room for it this notification is lost; the refusal is counted.
        if wanted && self.check_work(key, bytes).is_ok() {
            if let Some(device) = self.device_mut(key) {
                device.transfers.push_back(transfer);
            }
            self.charge_work(key, bytes);
        }
        if let Some(index) = stale {
            self.take_exchange(key, index);
        }
    }

    /// Fetches the rest of a notification that came in blocks (RFC 7959 §3.4: with a token of
    /// its own and without Observe).
    pub(super) fn fetch_rest(&mut self, now: Now, key: DeviceKey, observation: Token, body: Body) {
        let Some(device) = self.device(key) else {
            return;
        };
        let Some(known) = device
            .observation(observation)
            .and_then(|at| device.observations.get(at))
        else {
            return;
        };
        let choice = known.choice;
        let command = Command::read_observed(&known.target, &known.echo, None);
        let Ok(request) = self.build(device, &command, &choice) else {
            return;
        };
        let purpose = Purpose::Notification { observation };
        let token = self.new_token(key);
        let job = Job {
            body: Some(body),
            ..Job::new(purpose, request, choice, Effort::new())
        };
        self.start(now, key, token, Box::new(job));
    }

    /// What the response to Observe or its cancellation does to the observation.
    pub(super) fn settle_observation(
        &mut self,
        now: Now,
        key: DeviceKey,
        token: Token,
        command: &Command,
        choice: FormatChoice,
        answer: &Answer<'_>,
    ) {
        self.end_observation(key, token);
        let established =
            command.kind.observes() && Code(answer.code).is_success() && answer.observe.is_some();
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
            // There are few, and they stay.
            device.observations.reserve_exact(1);
            let observation = Observation {
                token,
                target,
                echo,
                choice,
                freshness,
            };
            let bytes = observation.bytes();
            device.observations.push(observation);
            // No more than its request took, which is over.
            self.charge_work(key, bytes);
            self.counters.observations.add(1);
            self.tokens.insert(token, key);
            self.directory.observe(token);
        }
    }

    /// An observation is asked for in this format from now on.
    pub(super) fn remember_accept(&mut self, key: DeviceKey, token: Token, format: ContentFormat) {
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let index = device.observation(token);
        if let Some(known) = index.and_then(|index| device.observations.get_mut(index)) {
            known.choice.accept = Some(format);
        }
    }

    pub(super) fn restart_observation(
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
        let bytes = device.observations.swap_remove(index).bytes();
        let freed = bytes + device.forget_transfer(token);
        let still_used = device.exchange_by_token(token).is_some();
        self.release_work(key, freed);
        let observations = &self.counters.observations;
        observations.set(observations.get().saturating_sub(1));
        self.directory.forget_observation(token);
        if !still_used {
            self.tokens.remove(&token);
        }
    }

    /// A message with the token of an observation (RFC 7641 §3.2).
    pub(super) fn notification(
        &mut self,
        now: Now,
        key: DeviceKey,
        token: Token,
        message: &Message,
    ) {
        self.counters.notifications.inc();
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let Some(index) = device.observation(token) else {
            return self.counters.datagrams_unexpected.inc();
        };
        let fresh = match (message.observe(), device.observations.get_mut(index)) {
            (Some(sequence), Some(observation)) => observation.freshness.accept(sequence, now.mono),
            _ => true,
        };
        if !fresh {
            return self.counters.notifications_stale.inc();
        }
        let mut body = None;
        match collect(&self.settings.config.blockwise, &mut body, message) {
            Collected::Whole => {}
            Collected::More => {
                if let Some(body) = body {
                    self.plan_fetch(key, token, body);
                }
                return;
            }
            Collected::Last(_) | Collected::Failed(_) => {
                self.counters.transfers_failed.inc();
                return self.counters.decode_errors.inc();
            }
        }
        let answer = Answer {
            code: message.code().0,
            observe: message.observe(),
            content_format: message.content_format(),
            payload: message.payload(),
        };
        self.publish_notification(now, key, token, &answer);
    }

    /// Publishes a notification; an error, or one without Observe, is the observation's last
    /// (RFC 7641 §3.2 and §4.2).
    pub(super) fn publish_notification(
        &mut self,
        now: Now,
        key: DeviceKey,
        token: Token,
        answer: &Answer<'_>,
    ) {
        let settings = &self.settings;
        let translators = &settings.config.translators;
        let Some(device) = self.device(key) else {
            return;
        };
        let Some(observation) = device
            .observation(token)
            .and_then(|at| device.observations.get(at))
        else {
            return;
        };
        let (target, echo) = (&observation.target, &observation.echo);
        let schema = device.registration.schema(&self.models);
        let context = Context {
            path: target.path.as_ref(),
            schema: &schema,
            alternate_path: device.registration.alternate_path(),
            compat: &settings.config.compat,
            now: Some(seconds(now)),
        };
        // An error has no Observe option (RFC 7641 §4.2); applications find the last number there.
        let sequence = answer
            .observe
            .unwrap_or_else(|| observation.freshness.sequence());
        let body = content::read(echo.kind(), answer, &context);
        let payload = uplink::notify(
            echo,
            &device.ids(),
            Some(&target.text),
            Some(sequence),
            answer,
            &body,
            &context,
        );
        let (topic, qos) = match echo.pair() {
            Dialect::Legacy => {
                let translator = &translators.legacy.response;
                (topic::topic(&device.mount, translator), translator.qos)
            }
            Dialect::Current if settings.config.compat.firmware_topic && is_firmware(target) => {
                (topic::firmware_topic(&device.mount), 0)
            }
            Dialect::Current => (
                topic::topic(&device.mount, &translators.notify),
                translators.notify.qos,
            ),
        };
        let publish = Publish {
            kind: PublishKind::Notify,
            endpoint: device.endpoint.clone(),
            topic,
            payload,
            qos,
        };
        let series = series_of(settings, device, &body);
        self.publish(publish);
        series.into_iter().for_each(|publish| self.publish(publish));
        if !Code(answer.code).is_success() || answer.observe.is_none() {
            self.end_observation(key, token);
        }
    }
}
