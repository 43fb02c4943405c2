//! What of a device outlives the process: what is told the store, and what is made of it again.
//! A notification, and an Update that changes nothing but the deadline, tell it nothing; when the
//! device was last heard of is told now and then.

use std::sync::Arc;

use super::format::FormatChoice;
use super::observation::Observation;
use super::queue::{Clearance, Queued};
use super::reaching::RESERVE;
use super::refusal::Refusal;
use super::state::{Device, NewDevice};
use super::watch::Watch;
use crate::bridge::uplink;
use crate::bridge::{Command, CommandError, Dialect, Echo, StoredReply, Target, command};
use crate::coap::Token;
use crate::config::OnRestart;
use crate::engine::context::Context;
use crate::engine::identity::Identity;
use crate::engine::peer::Peer;
use crate::engine::reach::Trust;
use crate::engine::registration::Registration;
use crate::engine::stored::{
    Change, CommandStage, StoredCommand, StoredDevice, StoredIdentity, StoredObservation,
};
use crate::lwm2m::codec::ContentFormat;
use crate::mqtt::Origin;
use crate::time::{Instant, Now};

/// What is told the store.
impl Device {
    /// Tells the store what has changed of the device itself since it was told last.
    pub(in crate::engine) fn keep(&mut self, cx: &mut Context<'_>) {
        if self.unsaved {
            self.unsaved = false;
            self.saved_seen = self.last_seen;
            let device = Box::new(self.to_stored(cx));
            return cx.effects.keep(|| Change::Device(device));
        }
        let interval = cx.env.keeping.map(|keeping| keeping.deadline_interval);
        if interval.is_some_and(|interval| self.last_seen >= self.saved_seen + interval) {
            self.saved_seen = self.last_seen;
            cx.effects.keep(|| Change::Seen {
                endpoint: self.endpoint.clone(),
                at: self.last_seen,
            });
        }
    }

    fn to_stored(&self, cx: &Context<'_>) -> StoredDevice {
        let identity = self.identity.as_deref();
        StoredDevice {
            endpoint: self.endpoint.clone(),
            listener: cx.env.shared_listener_name(self.peer),
            address: self.peer.address,
            local: cx.env.address_of(self.peer),
            session: self.peer.session,
            identity: identity.map(|identity| StoredIdentity {
                presented: identity.presented().into(),
                public: identity.public().into(),
            }),
            proven: self.trust.is_proven(),
            registered_at: self.registered_at,
            mount: self.mount.clone(),
            fixed_mount: self.fixed_mount,
            registration: self.registration.to_stored(),
            last_seen: self.last_seen.as_micros(),
            shard: cx.env.shard,
        }
    }

    pub(super) fn keep_observation(&self, cx: &mut Context<'_>, observation: &Observation) {
        cx.effects.keep(|| Change::Observed {
            endpoint: self.endpoint.clone(),
            observation: Box::new(StoredObservation {
                token: observation.token.0,
                target: observation.target.to_target().to_stored(),
                echo: observation.whole_echo().to_stored(),
                accept: observation.choice().accept.map(|format| format.0),
                write: observation.choice().write.0,
                sequence: observation.sequence(),
                pmax: observation.watch.pmax(),
            }),
        });
    }

    /// Tells the store all but the commands.
    pub(in crate::engine) fn keep_again(&mut self, cx: &mut Context<'_>) {
        self.unsaved = true;
        self.keep(cx);
        for observation in &self.observations {
            self.keep_observation(cx, observation);
        }
    }

    pub(super) fn keep_unobserved(&self, cx: &mut Context<'_>, token: Token) {
        cx.effects.keep(|| Change::Unobserved {
            endpoint: self.endpoint.clone(),
            token: token.0,
        });
    }

    /// Gives a command its number in the store, if there is one. Returns its text.
    pub(super) fn number_command(
        &self,
        cx: &mut Context<'_>,
        command: &mut Command,
        text: Option<(Vec<u8>, Option<Origin>)>,
    ) -> Option<StoredCommand> {
        if !cx.effects.keeps() {
            return None;
        }
        if cx.env.volatile {
            command.echo.mark_volatile();
        }
        let (text, origin) = match text {
            Some(text) => text,
            None => (command.echo.command()?.into_bytes(), None),
        };
        command.number = cx.numbers.next(cx.now.mono, cx.env.shard);
        Some(StoredCommand {
            number: command.number,
            payload: text.into(),
            legacy: command.echo.pair() == Dialect::Legacy,
            received: cx.now.unix_ms,
            expires: 0,
            immediate: false,
            reply: command.echo.reply().map(StoredReply::new),
            origin,
        })
    }

    /// The command is in the queue.
    pub(super) fn keep_queued(
        &self,
        cx: &mut Context<'_>,
        command: Option<StoredCommand>,
        expires: Instant,
        immediate: bool,
    ) {
        let Some(command) = command else {
            return;
        };
        cx.effects.keep(|| Change::Queued {
            endpoint: self.endpoint.clone(),
            command: Box::new(StoredCommand {
                expires: expires.as_micros(),
                immediate,
                ..command
            }),
        });
    }

    /// A command is answered by the gateway, and must not be done if the process ends before the broker
    /// has the answer.
    pub(super) fn keep_refused(&self, cx: &mut Context<'_>, number: u64, refusal: &Refusal) {
        if number != 0
            && let Some(with) = refusal.to_stored()
        {
            cx.effects.keep(|| Change::Refused {
                endpoint: self.endpoint.clone(),
                number,
                with,
            });
        }
    }

    /// A command has its final answer.
    pub(super) fn keep_answered(&self, cx: &mut Context<'_>, number: u64) {
        if number != 0 {
            cx.effects.keep(|| Change::Answered {
                endpoint: self.endpoint.clone(),
                number,
            });
        }
    }

    /// Whether the next command of the queue may be sent, as far as the store is concerned. What
    /// must not be sent twice waits until the store has noted it: after a crash nobody could tell
    /// otherwise.
    pub(super) fn clear_front(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(front) = self.queue.front() else {
            return false;
        };
        let number = front.command.number;
        if number == 0 || front.clearance == Clearance::Given {
            return true;
        }
        // What is sent as soon as it comes is noted as both in one batch. What has waited was noted
        // before: if it were sent without a note, a second answer would not be marked as one.
        let waits = (!front.command.is_repeatable() || number != self.fresh)
            && cx.env.keeping.is_some_and(|keeping| keeping.confirms);
        if front.clearance == Clearance::Asked {
            return false;
        }
        cx.effects.keep(|| Change::Sent {
            endpoint: self.endpoint.clone(),
            number,
            confirm: waits,
        });
        if waits {
            self.set_clearance(number, Clearance::Asked);
        }
        !waits
    }

    fn set_clearance(&mut self, number: u64, new: Clearance) {
        let mut clearances = self.queue.clearances();
        if let Some((_, clearance)) = clearances.find(|(it, _)| *it == number) {
            *clearance = new;
        }
    }

    /// The store has noted that a command is sent.
    pub(in crate::engine) fn handle_stored(&mut self, cx: &mut Context<'_>, number: u64) {
        self.set_clearance(number, Clearance::Given);
        self.pump(cx);
    }

    /// The device is in another shard now, where the answer of the store will not come.
    pub(in crate::engine) fn ask_store_again(&mut self) {
        for (_, clearance) in self.queue.clearances() {
            if *clearance == Clearance::Asked {
                *clearance = Clearance::NotAsked;
            }
        }
    }
}

/// What is made of it again.
impl Device {
    /// A device as the store has it, without what belongs to it.
    pub(in crate::engine) fn of_stored(
        now: Now,
        stored: StoredDevice,
        place: (Arc<str>, Peer, String),
    ) -> Box<Self> {
        let (endpoint, peer, mount) = place;
        let unsaved = *mount != *stored.mount;
        let registration = Registration::of_stored(&endpoint, stored.registration);
        let new = NewDevice {
            endpoint,
            peer,
            mount,
            fixed_mount: stored.fixed_mount,
            registration,
            register_mid: 0,
            bytes: 0,
        };
        let mut device = Self::new(now, new);
        let last_seen = Instant::from_micros(stored.last_seen).min(now.mono);
        let identity = stored.identity.as_ref().map(Identity::of_stored);
        device.identity = identity.map(Arc::new);
        device.registered_at = stored.registered_at;
        device.last_seen = last_seen;
        device.saved_seen = last_seen;
        device.unsaved = unsaved;
        device.absent = peer.session != 0;
        if stored.proven {
            device.trust = Trust::Proven;
        } else {
            // Enough to ask whether it is there; its Register has paid for it.
            device.trust.add(RESERVE);
        }
        device
    }

    /// Takes in what belonged to the device: its observations as they were, and its commands. One
    /// that had been sent is sent again, or answered if it must not be; one that had been refused is
    /// refused again.
    pub(in crate::engine) fn restore(
        &mut self,
        cx: &mut Context<'_>,
        observations: Vec<StoredObservation>,
        commands: Vec<(StoredCommand, CommandStage)>,
    ) {
        let config = cx.config();
        // As long as it was awake when it was last heard of; its lifetime as if it had been heard of
        // just before that would have been written.
        self.awake_until = self.last_seen + config.window_of(&self.endpoint);
        let unwritten = cx.env.keeping.map(|keeping| keeping.deadline_interval);
        let heard = self.last_seen + unwritten.unwrap_or_default();
        self.last_seen = heard.min(cx.now.mono);
        self.saved_seen = self.last_seen;
        for stored in observations {
            if let Some(observation) = observation(stored, cx.now.mono)
                && cx.index.add_token(observation.token)
            {
                self.place_observation(cx, observation);
            }
        }
        let options = command::Options::new(config);
        for (stored, stage) in commands {
            cx.numbers.note(stored.number);
            match read(&stored, &options) {
                Ok(command) => self.restore_command(cx, command, &stored, stage),
                Err(error) => self.refuse_restored(cx, error, &stored, stage),
            }
        }
        self.settle_queue(cx);
    }

    /// The configuration takes a command no more that another one has taken.
    fn refuse_restored(
        &mut self,
        cx: &mut Context<'_>,
        mut error: CommandError,
        stored: &StoredCommand,
        stage: CommandStage,
    ) {
        cx.counters().commands_refused.inc();
        if stage != CommandStage::Waiting {
            error.echo.mark_repeated();
        }
        let reply = stored.reply.as_ref().map(StoredReply::to_reply);
        error.echo.set_reply(reply);
        let payload = uplink::refused(&error, &self.ids());
        self.publish_answer(cx, &error.echo, payload);
        self.keep_answered(cx, stored.number);
    }

    fn restore_command(
        &mut self,
        cx: &mut Context<'_>,
        mut command: Command,
        stored: &StoredCommand,
        stage: CommandStage,
    ) {
        command.number = stored.number;
        if stored.origin.is_some_and(|origin| origin.again) {
            command.echo.mark_repeated();
        }
        let reply = stored.reply.as_ref().map(StoredReply::to_reply);
        command.echo.set_reply(reply);
        if stage != CommandStage::Waiting {
            // Its answer may have been published.
            command.echo.mark_repeated();
        }
        if let CommandStage::Refused(with) = stage {
            return self.refuse(cx, &command, &Refusal::of_stored(with));
        }
        if stage == CommandStage::Sent {
            let again = cx.config().store.on_restart == OnRestart::Repeat;
            if !again || !command.is_repeatable() {
                return self.refuse(cx, &command, &Refusal::RESTARTED);
            }
        }
        let command = Box::new(command);
        self.queue.put(Queued {
            bytes: Queued::bytes_of(&command),
            command,
            expires: Instant::from_micros(stored.expires),
            size: stored.payload.len(),
            immediate: stored.immediate,
            received: stored.received,
            clearance: Clearance::NotAsked,
        });
    }
}

fn observation(stored: StoredObservation, now: Instant) -> Option<Observation> {
    let choice = FormatChoice {
        accept: stored.accept.map(ContentFormat),
        write: ContentFormat(stored.write),
    };
    let target = Target::of_stored(stored.target)?;
    let echo = Echo::of_stored(stored.echo);
    let token = Token(stored.token);
    let sequence = stored.sequence;
    let mut observation = Observation::restored(token, target, echo, choice, sequence, now);
    observation.watch = Watch::new(stored.pmax, now);
    Some(observation)
}

fn read(stored: &StoredCommand, options: &command::Options) -> Result<Command, CommandError> {
    let dialect = if stored.legacy {
        Dialect::Legacy
    } else {
        Dialect::Current
    };
    command::parse(&stored.payload, dialect, options)
}
