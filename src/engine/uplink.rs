//! What a device says on its way to the broker: notifications, answers, reports.

use tracing::debug;

use super::device::{Device, DeviceKey, Purpose};
use super::transfer::Exhausted;
use super::{CommandInput, Engine, Settings};
use crate::bridge::content::{self, Body, Context, SendError};
use crate::bridge::report::{Event, RegistrationReport, report};
use crate::bridge::uplink::{self, Answer};
use crate::bridge::{Command, CommandError, Dialect, Echo, Target, downlink, series, topic};
use crate::coap::{Code, Message};
use crate::config::Translator;
use crate::host::{Publish, PublishKind};
use crate::memory::Full;
use crate::time::Now;

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

/// An answer of the gateway itself: code, stable reason and a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    code: Code,
    reason: &'static str,
    detail: Option<String>,
}

impl Refusal {
    pub(super) const NOT_REGISTERED: Self = Self {
        code: Code::NOT_FOUND,
        reason: "not_registered",
        detail: None,
    };
    pub(super) const QUEUE_FULL: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "queue_full",
        detail: None,
    };
    pub(super) const EXPIRED: Self = Self {
        code: Code::GATEWAY_TIMEOUT,
        reason: "expired",
        detail: None,
    };
    pub(super) const STOPPING: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "gateway_stopping",
        detail: None,
    };
    const OVERLOADED: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "overloaded",
        detail: None,
    };
    pub(super) const TOO_MANY_OBSERVATIONS: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "too_many_observations",
        detail: None,
    };

    /// The command cannot be put into a request.
    pub(super) fn unsuitable(reason: &'static str, detail: String) -> Self {
        Self {
            code: Code::BAD_REQUEST,
            reason,
            detail: Some(detail),
        }
    }

    /// The account of memory has no room for it.
    pub(super) fn memory(full: Full) -> Self {
        Self {
            code: Code::SERVICE_UNAVAILABLE,
            reason: "memory_full",
            detail: Some(full.to_string()),
        }
    }

    /// The device's answer cannot be put together.
    pub(super) fn bad_gateway(reason: &'static str) -> Self {
        Self {
            code: Code::BAD_GATEWAY,
            reason,
            detail: None,
        }
    }
}

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        let (code, reason) = match exhausted {
            Exhausted::Requests => (Code::BAD_GATEWAY, "too_many_requests"),
            Exhausted::Time => (Code::GATEWAY_TIMEOUT, "transfer_timeout"),
        };
        Self {
            code,
            reason,
            detail: None,
        }
    }
}

impl Engine {
    /// The final answer to a command.
    pub(super) fn answer(
        &mut self,
        now: Now,
        key: DeviceKey,
        command: &Command,
        answer: &Answer<'_>,
    ) {
        let Some(device) = self.device(key) else {
            return;
        };
        let schema = device.registration.schema(&self.models);
        let context = Context {
            path: command.target.path.as_ref(),
            schema: &schema,
            alternate_path: device.registration.alternate_path(),
            compat: &self.settings.config.compat,
            now: Some(seconds(now)),
        };
        let body = content::read(Some(command.kind), answer, &context);
        let payload = uplink::response(
            &command.echo,
            &device.ids(),
            Some(&command.target.text),
            answer,
            &body,
            &context,
        );
        let series = series_of(&self.settings, device, &body);
        self.publish_answer(key, &command.echo, payload);
        series.into_iter().for_each(|publish| self.publish(publish));
    }

    /// What a device sends by itself (LwM2M Core 1.2 §6.4.6).
    pub(super) fn push_data(
        &mut self,
        now: Now,
        key: DeviceKey,
        message: &Message,
        body: &[u8],
    ) -> Result<(), SendError> {
        let settings = self.settings.clone();
        let Some(device) = self.device(key) else {
            return Ok(());
        };
        let schema = device.registration.schema(&self.models);
        let context = Context {
            path: None,
            schema: &schema,
            alternate_path: device.registration.alternate_path(),
            compat: &settings.config.compat,
            now: Some(seconds(now)),
        };
        let body = content::read_send(message.content_format(), body, &context)?;
        let translator = &settings.config.translators.send;
        let publish = Publish {
            kind: PublishKind::Send,
            endpoint: device.endpoint.clone(),
            topic: topic::topic(&device.mount, translator),
            payload: uplink::send(&device.ids(), &body, &context),
            qos: translator.qos,
        };
        let series = series_of(&settings, device, &body);
        self.publish(publish);
        series.into_iter().for_each(|publish| self.publish(publish));
        Ok(())
    }

    /// `ack`, `coap_reset` or `coap_timeout` for an exchange of a command or an observation.
    pub(super) fn answer_status(&mut self, key: DeviceKey, index: usize, status: Status) {
        let Some(device) = self.device(key) else {
            return;
        };
        let Some(exchange) = device.exchanges.get(index) else {
            return;
        };
        let echo = match &exchange.job.purpose {
            Purpose::Command { command, .. } => &command.echo,
            Purpose::Refresh { observation } | Purpose::Notification { observation } => {
                let known = device.observation(*observation);
                match known.and_then(|at| device.observations.get(at)) {
                    Some(observation) => &observation.echo,
                    None => return,
                }
            }
        };
        let ids = device.ids();
        let payload = match status {
            Status::Ack => uplink::ack(echo, &ids),
            Status::Reset => Some(uplink::coap_reset(echo, &ids)),
            Status::Timeout => Some(uplink::coap_timeout(echo, &ids)),
        };
        let echo = echo.clone();
        if let Some(payload) = payload {
            self.publish_answer(key, &echo, payload);
        }
    }

    /// A command is refused by the gateway.
    pub(super) fn refuse(&mut self, key: DeviceKey, command: &Command, refusal: &Refusal) {
        let Some(device) = self.device(key) else {
            return;
        };
        self.counters.commands_refused.inc();
        let payload = refusal_payload(device, command, refusal);
        self.publish_answer(key, &command.echo, payload);
    }

    /// The same for a device that is no longer in the tables.
    pub(super) fn refuse_for(&mut self, device: &Device, command: &Command, refusal: &Refusal) {
        self.counters.commands_refused.inc();
        let payload = refusal_payload(device, command, refusal);
        let translator = response_translator(&self.settings, &command.echo).clone();
        self.publish(Publish {
            kind: PublishKind::Response,
            endpoint: device.endpoint.clone(),
            topic: topic::topic(&device.mount, &translator),
            payload,
            qos: translator.qos,
        });
    }

    /// A command for nobody, or one that cannot be read.
    pub(super) fn refuse_input(&mut self, input: &CommandInput, echo: &Echo, payload: Vec<u8>) {
        self.counters.commands_refused.inc();
        let translator = response_translator(&self.settings, echo).clone();
        self.publish(Publish {
            kind: PublishKind::Response,
            endpoint: input.endpoint.clone(),
            topic: topic::topic(&input.mount, &translator),
            payload,
            qos: translator.qos,
        });
    }

    /// A malformed command is answered, unless EMQX's silence is wanted.
    pub(super) fn refuse_malformed(&mut self, input: &CommandInput, error: &CommandError) {
        debug!(endpoint = %input.endpoint, %error, "command refused");
        if self.settings.config.compat.drop_malformed {
            return self.counters.commands_refused.inc();
        }
        let device = self
            .endpoints
            .get(&input.endpoint)
            .and_then(|key| self.device(*key));
        let ids = device.map(Device::ids).unwrap_or_default();
        let payload = uplink::refused(error, &ids);
        self.refuse_input(input, &error.echo, payload);
    }

    fn publish_answer(&mut self, key: DeviceKey, echo: &Echo, payload: Vec<u8>) {
        let Some(device) = self.device(key) else {
            return;
        };
        let translator = response_translator(&self.settings, echo);
        let publish = Publish {
            kind: PublishKind::Response,
            endpoint: device.endpoint.clone(),
            topic: topic::topic(&device.mount, translator),
            payload,
            qos: translator.qos,
        };
        self.publish(publish);
    }

    /// Publishes a report about a registration.
    pub(super) fn report(&mut self, key: DeviceKey, event: Event) {
        let Some(device) = self.device(key) else {
            return;
        };
        let translators = &self.settings.config.translators;
        let (translator, kind) = match event {
            Event::Update => (&translators.update, PublishKind::Update),
            Event::Register | Event::Deregister | Event::Expired => {
                (&translators.register, PublishKind::Register)
            }
        };
        let registration = &device.registration;
        let links = registration.links.as_ref();
        let queries: Vec<(String, String)> = registration
            .query
            .pairs()
            .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_owned()))
            .collect();
        let objects: Option<Vec<&str>> = links.map(|links| links.objects.iter().collect());
        let payload = report(
            event,
            &RegistrationReport {
                queries: &queries,
                lifetime: registration
                    .query
                    .get("lt")
                    .and_then(|text| text.parse().ok()),
                alternate_path: links.map(|_| registration.alternate_path()),
                object_list: objects.as_deref(),
            },
        );
        let publish = Publish {
            kind,
            endpoint: device.endpoint.clone(),
            topic: topic::topic(&device.mount, translator),
            payload,
            qos: translator.qos,
        };
        self.publish(publish);
    }
}

fn response_translator<'a>(settings: &'a Settings, echo: &Echo) -> &'a Translator {
    let translators = &settings.config.translators;
    match echo.pair() {
        Dialect::Current => &translators.response,
        Dialect::Legacy => &translators.legacy.response,
    }
}

/// The answer to a command that no shard can take at the moment.
pub fn overflow_answer(settings: &Settings, input: &CommandInput) -> Publish {
    unheard_answer(settings, input, &Refusal::OVERLOADED)
}

/// The answer to a command that comes when the gateway stops.
pub fn stopping_answer(settings: &Settings, input: &CommandInput) -> Publish {
    unheard_answer(settings, input, &Refusal::STOPPING)
}

fn unheard_answer(settings: &Settings, input: &CommandInput, refusal: &Refusal) -> Publish {
    let options = downlink::Options::new(&settings.config);
    let ids = uplink::Ids::default();
    let (echo, payload) = match downlink::parse(&input.payload, input.dialect, &options) {
        Ok(command) => {
            let payload = local_error(&command, &ids, refusal);
            (command.echo, payload)
        }
        Err(error) => {
            let payload = uplink::refused(&error, &ids);
            (*error.echo, payload)
        }
    };
    let translator = response_translator(settings, &echo);
    Publish {
        kind: PublishKind::Response,
        endpoint: input.endpoint.clone(),
        topic: topic::topic(&input.mount, translator),
        payload,
        qos: translator.qos,
    }
}

/// The measurement series of what a device said, if they are wanted.
pub(super) fn series_of(settings: &Settings, device: &Device, body: &Body<'_>) -> Vec<Publish> {
    let translator = &settings.config.translators.series;
    if !translator.enable || body.records().is_empty() {
        return Vec::new();
    }
    let translator = &translator.messages;
    series::series(&device.endpoint, body.records(), &settings.config.series)
        .into_iter()
        .map(|payload| Publish {
            kind: PublishKind::Series,
            endpoint: device.endpoint.clone(),
            topic: topic::topic(&device.mount, translator),
            payload,
            qos: translator.qos,
        })
        .collect()
}

/// EMQX looks at the first segment of the request path.
pub(super) fn is_firmware(target: &Target) -> bool {
    target.segments().next() == Some("5")
}

pub(super) fn seconds(now: Now) -> f64 {
    now.unix_ms as f64 / 1000.0
}

fn refusal_payload(device: &Device, command: &Command, refusal: &Refusal) -> Vec<u8> {
    local_error(command, &device.ids(), refusal)
}

fn local_error(command: &Command, ids: &uplink::Ids<'_>, refusal: &Refusal) -> Vec<u8> {
    let (code, detail) = (refusal.code.0, refusal.detail.as_deref());
    let path = Some(&command.target.text);
    uplink::local_error(&command.echo, ids, path, code, refusal.reason, detail)
}

/// The answer to a command for an endpoint that is not registered.
pub(super) fn unregistered_payload(command: &Command) -> Vec<u8> {
    local_error(command, &uplink::Ids::default(), &Refusal::NOT_REGISTERED)
}
