//! What a device's conversation says to the broker: notifications, answers, reports.

use super::exchanges::Status;
use super::job::Purpose;
use super::refusal::{Refusal, local_error, response_translator};
use super::state::Device;
use crate::bridge::content::{self, Body, Context as ContentContext, SendError};
use crate::bridge::report::{Event, RegistrationReport, report};
use crate::bridge::uplink::{self, Answer, Remarks};
use crate::bridge::{Command, Dialect, Echo, Kind, SmallTarget, series, topic};
use crate::coap::message::option;
use crate::coap::{Code, Message, Token};
use crate::config::Translator;
use crate::engine::context::Context;
use crate::engine::effects::Output;
use crate::lwm2m::Path;
use crate::lwm2m::codec::{Remembering, Schema};
use crate::memory::Heap;
use crate::mqtt::{Publish, PublishKind, ReplyTo};
use crate::time::Now;

impl Device {
    /// What the content of this device's messages is read with.
    fn content_context<'a>(
        &'a self,
        cx: &Context<'a>,
        schema: &'a dyn Schema,
        path: Option<&'a Path>,
    ) -> ContentContext<'a> {
        ContentContext {
            path,
            schema,
            alternate_path: self.registration.alternate_path(),
            compat: &cx.config().compat,
            now: Some(seconds(cx.now)),
        }
    }

    /// The final answer to a command, of which `message` is the last.
    pub(super) fn answer(
        &mut self,
        cx: &mut Context<'_>,
        command: &Command,
        answer: &Answer<'_>,
        message: &Message,
    ) {
        let remembered = self.guesses.get_mut().heap();
        let definitions = self.registration.schema(&cx.env.models);
        let schema = Remembering::new(&definitions, &self.guesses);
        let context = self.content_context(cx, &schema, command.target.path.as_ref());
        let body = content::read(Some(command.kind), answer, &context);
        let payload = uplink::response_with(
            &command.echo,
            &self.ids(),
            Some(&command.target.text),
            answer,
            &remarks(message, command.kind, context.alternate_path),
            &body,
            &context,
        );
        self.publish_answer(cx, &command.echo, payload);
        self.publish_series(cx, &body);
        self.keep_answered(cx, command.number);
        self.settle_guesses(cx, remembered);
        if Code(answer.code).is_success() {
            self.note_periods(cx, command);
        }
    }

    /// A value of an observation.
    pub(super) fn notify(&mut self, cx: &mut Context<'_>, token: Token, answer: &Answer<'_>) {
        let remembered = self.guesses.get_mut().heap();
        let Some(observation) = self.observation(token) else {
            return;
        };
        let (target, echo) = (&observation.target, &observation.echo);
        let definitions = self.registration.schema(&cx.env.models);
        let schema = Remembering::new(&definitions, &self.guesses);
        let path = target.path();
        let context = self.content_context(cx, &schema, path.as_deref());
        // An error has no Observe option (RFC 7641 §4.2); applications find the last number there.
        let sequence = answer.observe.unwrap_or_else(|| observation.sequence());
        let body = content::read(echo.kind(), answer, &context);
        let payload = uplink::notify(
            echo,
            &self.ids(),
            Some(target.asked()),
            Some(sequence),
            answer,
            &body,
            &context,
        );
        let translators = &cx.config().translators;
        let firmware = cx.config().compat.firmware_topic && is_firmware(target);
        let (topic, qos) = match echo.pair() {
            Dialect::Legacy => {
                let translator = &translators.legacy.response;
                (topic::topic(&self.mount, translator), translator.qos)
            }
            Dialect::Current if firmware => (topic::firmware_topic(&self.mount), 0),
            Dialect::Current => (
                topic::topic(&self.mount, &translators.notify),
                translators.notify.qos,
            ),
        };
        cx.counters().timings.made(self.peer.listener);
        cx.effects.publish(Publish {
            kind: PublishKind::Notify,
            endpoint: self.endpoint.clone(),
            topic,
            payload,
            qos,
            correlation: None,
        });
        self.publish_series(cx, &body);
        self.settle_guesses(cx, remembered);
    }

    /// Send (LwM2M Core 1.2 §6.4.6): what a device reports by itself.
    pub(in crate::engine) fn handle_send(
        &self,
        cx: &mut Context<'_>,
        message: &Message,
        body: &[u8],
    ) -> Result<(), SendError> {
        // Its formats tell types apart: nothing is guessed.
        let schema = self.registration.schema(&cx.env.models);
        let context = self.content_context(cx, &schema, None);
        let body = content::read_send(message.content_format(), body, &context)?;
        let payload = uplink::send(&self.ids(), &body, &context);
        let translator = &cx.config().translators.send;
        self.publish_as(cx, PublishKind::Send, translator, payload);
        self.publish_series(cx, &body);
        Ok(())
    }

    /// `ack`, `coap_reset` or `coap_timeout` for an exchange of a command or an observation.
    pub(super) fn answer_status(&mut self, cx: &mut Context<'_>, mid: u16, status: Status) {
        let Some(exchange) = self.exchange_by_mid(mid) else {
            return;
        };
        let mut number = 0;
        let echo = match &exchange.job.purpose {
            Purpose::Command { command, .. } => {
                number = command.number;
                command.echo.clone()
            }
            Purpose::Refresh { observation } | Purpose::Notification { observation } => {
                let token = *observation;
                // What becomes of its command is said once.
                match self
                    .observation(token)
                    .filter(|_| !self.is_unanswered(token))
                {
                    Some(observation) => observation.whole_echo(),
                    None => return,
                }
            }
        };
        let ids = self.ids();
        let payload = match status {
            Status::Ack => uplink::ack(&echo, &ids),
            Status::Reset => Some(uplink::coap_reset(&echo, &ids)),
            Status::Timeout => Some(uplink::coap_timeout(&echo, &ids)),
        };
        if let Some(payload) = payload {
            self.publish_answer(cx, &echo, payload);
        }
        if status != Status::Ack {
            self.keep_answered(cx, number);
        }
    }

    /// A command is refused by the gateway.
    pub(in crate::engine) fn refuse(
        &self,
        cx: &mut Context<'_>,
        command: &Command,
        refusal: &Refusal,
    ) {
        cx.counters().commands_refused.inc();
        let payload = local_error(command, &self.ids(), refusal);
        self.publish_answer(cx, &command.echo, payload);
        self.keep_refused(cx, command.number, refusal);
        self.keep_answered(cx, command.number);
    }

    pub(super) fn publish_answer(&self, cx: &mut Context<'_>, echo: &Echo, payload: Vec<u8>) {
        let translator = response_translator(&cx.env.settings, echo);
        let answer = self.message(PublishKind::Response, translator, payload);
        if echo.reply().and_then(ReplyTo::catcher).is_none() {
            cx.counters().timings.made(self.peer.listener);
        }
        cx.effects.publish_to(answer, echo.reply());
    }

    pub(super) fn publish_as(
        &self,
        cx: &mut Context<'_>,
        kind: PublishKind,
        translator: &Translator,
        payload: Vec<u8>,
    ) {
        cx.counters().timings.made(self.peer.listener);
        cx.effects.publish(self.message(kind, translator, payload));
    }

    fn message(&self, kind: PublishKind, translator: &Translator, payload: Vec<u8>) -> Publish {
        Publish {
            kind,
            endpoint: self.endpoint.clone(),
            topic: topic::topic(&self.mount, translator),
            payload,
            qos: translator.qos,
            correlation: None,
        }
    }

    /// The measurement series of what a device said, if they are wanted.
    fn publish_series(&self, cx: &mut Context<'_>, body: &Body<'_>) {
        let config = cx.config();
        let translator = &config.translators.series;
        if !translator.enable || body.records().is_empty() {
            return;
        }
        for payload in series::series(&self.endpoint, body.records(), &config.series) {
            self.publish_as(cx, PublishKind::Series, &translator.messages, payload);
        }
    }

    /// Publishes a report about the registration.
    pub(in crate::engine) fn report(&self, cx: &mut Context<'_>, event: Event) {
        let translators = &cx.config().translators;
        let (translator, kind) = match event {
            Event::Update => (&translators.update, PublishKind::Update),
            Event::Register | Event::Deregister | Event::Expired => {
                (&translators.register, PublishKind::Register)
            }
        };
        let registration = &self.registration;
        let links = registration.links.as_ref();
        let queries: Vec<(String, String)> = registration.queries().collect();
        let objects: Option<Vec<&str>> = links.map(|links| links.objects.iter().collect());
        // The one it has, not the one it asked for.
        let lifetime = registration.query.get("lt");
        let lifetime = lifetime.and_then(|_| registration.lifetime().as_secs().try_into().ok());
        let payload = report(
            event,
            &RegistrationReport {
                queries: &queries,
                lifetime,
                alternate_path: links.map(|_| registration.alternate_path()),
                object_list: objects.as_deref(),
            },
        );
        self.publish_as(cx, kind, translator, payload);
    }
}

/// For hosts that subscribe for each device.
impl Device {
    pub(in crate::engine) fn subscribe(&self, cx: &mut Context<'_>) {
        self.for_command_filters(cx, |filter, qos| Output::Subscribe {
            endpoint: self.endpoint.clone(),
            mountpoint: self.mount.to_string(),
            filter,
            qos,
        });
    }

    pub(in crate::engine) fn unsubscribe(&self, cx: &mut Context<'_>) {
        self.for_command_filters(cx, |filter, _| Output::Unsubscribe {
            endpoint: self.endpoint.clone(),
            filter,
        });
    }

    /// Emits an output for each topic filter of its commands.
    fn for_command_filters(&self, cx: &mut Context<'_>, output: impl Fn(String, u8) -> Output) {
        if !cx.env.per_device_subscriptions {
            return;
        }
        let translators = &cx.config().translators;
        let legacy = &translators.legacy;
        let legacy = legacy.enable.then_some(&legacy.command);
        for translator in std::iter::once(&translators.command).chain(legacy) {
            let filter = topic::topic(&self.mount, translator);
            cx.effects.push(output(filter, translator.qos));
        }
    }
}

/// What the options of the answer to a command of `kind` say to the application.
fn remarks(message: &Message, kind: Kind, alternate_path: &str) -> Remarks {
    let mut remarks = Remarks::default();
    match message.code() {
        Code::CREATED if kind == Kind::Create => {
            remarks.location = location(message, alternate_path);
        }
        Code::REQUEST_ENTITY_TOO_LARGE => {
            remarks.size1 = message.uint_option(option::SIZE1, 4);
            remarks.size2 = message.uint_option(option::SIZE2, 4);
        }
        _ => {}
    }
    remarks
}

/// Where a new instance is: Location-Path without the alternate path, as paths in content.
fn location(message: &Message, alternate_path: &str) -> Option<String> {
    let mut path = String::new();
    for segment in message.option_values(option::LOCATION_PATH) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(segment));
    }
    let root = alternate_path.trim_end_matches('/');
    let below = path.strip_prefix(root);
    let below = below.filter(|below| below.starts_with('/'));
    let below = below.map(str::to_owned);
    below.or(Some(path)).filter(|path| !path.is_empty())
}

/// EMQX looks at the first segment of the request path.
fn is_firmware(target: &SmallTarget) -> bool {
    target.segments().next() == Some("5")
}

fn seconds(now: Now) -> f64 {
    now.unix_ms as f64 / 1000.0
}
