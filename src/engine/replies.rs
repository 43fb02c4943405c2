//! Answers to commands that reach no device.

use tracing::debug;

use super::core::Core;
use super::device::{Device, Refusal, local_error, response_translator};
use super::effects::Output;
use super::input::CommandInput;
use super::settings::Settings;
use crate::bridge::{CommandError, Echo, Reason, command, topic, uplink};
use crate::mqtt::{Publish, PublishKind, ReplyTo};
use crate::telemetry::limited;

/// The answer to a command that no shard can take at the moment; `None` when it is a message of
/// the gateway's own.
pub fn overflow_answer(settings: &Settings, input: &CommandInput) -> Option<Publish> {
    unheard_answer(settings, input, &Refusal::OVERLOADED)
}

/// The answer to a command that comes when the gateway stops; `None` as above.
pub fn stopping_answer(settings: &Settings, input: &CommandInput) -> Option<Publish> {
    unheard_answer(settings, input, &Refusal::STOPPING)
}

/// The answer to a command for a device that is nobody's; `None` as above.
pub fn absent_answer(settings: &Settings, input: &CommandInput) -> Option<Publish> {
    unheard_answer(settings, input, &Refusal::NOT_REGISTERED)
}

/// The answer to a command that the broker has given to nobody although its device is here; `None` as
/// above.
pub fn unsubscribed_answer(settings: &Settings, input: &CommandInput) -> Option<Publish> {
    unheard_answer(settings, input, &Refusal::NOT_SUBSCRIBED)
}

/// The answer to a command for a device of another gateway that does not answer; `None` as above.
pub fn unreachable_answer(settings: &Settings, input: &CommandInput) -> Option<Publish> {
    unheard_answer(settings, input, &Refusal::UNREACHABLE)
}

fn unheard_answer(settings: &Settings, input: &CommandInput, refusal: &Refusal) -> Option<Publish> {
    let options = command::Options::new(&settings.config);
    let ids = uplink::Ids::default();
    let (echo, payload) = match command::parse(&input.payload, input.dialect, &options) {
        Ok(command) => {
            let payload = local_error(&command, &ids, refusal);
            (command.echo, payload)
        }
        Err(error) if error.reason == Reason::OwnMessage => return None,
        Err(error) if is_queue_request(input, &error) => {
            let payload = refusal.payload(&error.echo, &ids);
            (*error.echo, payload)
        }
        Err(error) => {
            let payload = uplink::refused(&error, &ids);
            (*error.echo, payload)
        }
    };
    Some(answer_to(settings, input, &echo, payload))
}

/// Whether what is no operation is about the queue of a device.
fn is_queue_request(input: &CommandInput, error: &CommandError) -> bool {
    error.reason == Reason::UnknownMsgType
        && matches!(command::queue_request(&input.payload), Some(Ok(_)))
}

fn answer_to(settings: &Settings, input: &CommandInput, echo: &Echo, payload: Vec<u8>) -> Publish {
    let translator = response_translator(settings, echo);
    Publish {
        kind: PublishKind::Response,
        endpoint: input.endpoint.clone(),
        topic: topic::topic(&input.mount, translator),
        payload,
        qos: translator.qos,
        correlation: None,
    }
}

impl Core {
    /// A command for nobody, or one that cannot be read.
    pub(super) fn refuse_input(&mut self, input: &CommandInput, echo: &Echo, payload: Vec<u8>) {
        self.env.counters.commands_refused.inc();
        let answer = answer_to(&self.env.settings, input, echo, payload);
        self.effects.publish_to(answer, input.reply.as_deref());
    }

    /// A malformed command is answered, unless EMQX's silence is wanted.
    pub(super) fn refuse_malformed(&mut self, input: &CommandInput, error: &CommandError) {
        if error.reason == Reason::OwnMessage {
            self.env.counters.commands_returned.inc();
            limited!(WARN, self.env.counters, self.now.mono, OwnMessage, endpoint = %input.endpoint,
                mount = %input.mount, "the gateway received one of its own messages as a command");
            return;
        }
        debug!(endpoint = %input.endpoint, %error, "command refused");
        if self.env.config().compat.drop_malformed {
            return self.env.counters.commands_refused.inc();
        }
        let key = self.registry.by_endpoint(&input.endpoint);
        let device = key.and_then(|key| self.device(key));
        let ids = device.map(Device::ids).unwrap_or_default();
        let payload = uplink::refused(error, &ids);
        self.refuse_input(input, &error.echo, payload);
    }

    /// Answers a command that comes after the end.
    pub(super) fn refuse_stopping(&mut self, input: &CommandInput) {
        self.env.counters.commands_refused.inc();
        if let Some(answer) = stopping_answer(&self.env.settings, input) {
            if let Some(number) = input.reply.as_deref().and_then(ReplyTo::catcher) {
                let publish = answer;
                return self.effects.push(Output::Answer { number, publish });
            }
            let copy = input.reply.as_ref().map(|reply| reply.copy_of(&answer));
            self.effects.push(Output::Publish(answer));
            if let Some(copy) = copy {
                self.effects.push(Output::Publish(copy));
            }
        }
    }
}
