//! Whose business a datagram, a command or a hand-off is: the one that is called.

use tracing::debug;

use super::device::{Refusal, unregistered_answer, unregistered_payload};
use super::front::{Engine, TIMEOUTS_PER_CALL};
use super::input::CommandInput;
use super::peer::{DeviceKey, Peer};
use super::rebinding::Question;
use super::server::{Request, Server, Stage};
use super::sharding::{Handoff, Held, Withheld};
use super::trace;
use crate::bridge::{CommandError, Reason, command};
use crate::coap::message::{self, MessageError};
use crate::coap::{Code, Message, MessageType, Token};

/// How often a command follows its device to another shard. A device may go on each time before the
/// command is there, so this is far more than anybody needs; one that was lost on its way, so that
/// each shard takes it to be in the other, is not registered for it.
const MAX_HOPS: u8 = 64;

impl Engine {
    pub(super) fn server(&mut self) -> Server<'_> {
        Server {
            core: &mut self.core,
            requests: &mut self.requests,
        }
    }

    pub(super) fn take_datagram(&mut self, from: Peer, datagram: &[u8]) {
        if self.arrivals.hold(&mut self.core, from, datagram)
            || self.arrivals.fetch(&mut self.core, from, datagram)
        {
            return;
        }
        let counters = &self.core.env.counters;
        counters.datagrams_received.inc();
        counters.bytes_received.add(datagram.len() as u64);
        self.core.reach.begin(from, datagram.len());
        self.read_datagram(from, datagram);
        self.core.reach.end();
        if self.core.env.config().http.bind.is_some()
            && let Some(key) = self.core.registry.at(from)
            && let Some((device, _)) = self.core.registry.get_mut(key)
        {
            device.saw_received(datagram.len());
        }
    }

    fn read_datagram(&mut self, from: Peer, datagram: &[u8]) {
        if let Some((kind, mid)) = message::as_empty(datagram) {
            trace::received_empty(from, kind, mid);
            return self.take_empty(from, kind, mid);
        }
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(error) => return self.reject_malformed(from, error, datagram),
        };
        trace::received(from, &message, datagram.len());
        let unexpected = &self.core.env.counters.datagrams_unexpected;
        match (message.kind(), message.code()) {
            (MessageType::Confirmable | MessageType::NonConfirmable, code) if code.is_request() => {
                self.server().deduplicate(from, &message, datagram);
            }
            (MessageType::Reset, _) | (_, Code::EMPTY) => unexpected.inc(),
            (_, code) if code.is_request() => unexpected.inc(),
            _ => self.take_response(from, &message, datagram),
        }
    }

    fn reject_malformed(&mut self, from: Peer, error: MessageError, datagram: &[u8]) {
        self.core.env.counters.datagrams_malformed.inc();
        if trace::is_dtls(datagram) {
            debug!(
                peer = %from.address,
                "DTLS record received on a port without DTLS: point the device to a DTLS listener (coaps://, listeners.dtls), or turn off its security (coap://)"
            );
        } else {
            debug!(peer = %from.address, %error, "malformed datagram");
        }
        if let MessageError::Format {
            kind: MessageType::Confirmable,
            mid,
            ..
        } = error
        {
            let reset = message::empty(MessageType::Reset, mid);
            self.core.transmit(from, reset);
        }
    }

    /// An Empty message (RFC 7252 §4): four bytes that anybody can send in the name of a device.
    fn take_empty(&mut self, from: Peer, kind: MessageType, mid: u16) {
        match kind {
            MessageType::Confirmable => {
                // A ping (RFC 7252 §4.3); over DTLS it also shows that the device is there.
                let reset = message::empty(MessageType::Reset, mid);
                self.core.transmit(from, reset);
                self.core.touch_authentic(from);
            }
            MessageType::NonConfirmable => self.core.env.counters.datagrams_unexpected.inc(),
            MessageType::Acknowledgement | MessageType::Reset => {
                self.take_acknowledgement(from, kind, mid);
            }
        }
    }

    fn take_acknowledgement(&mut self, from: Peer, kind: MessageType, mid: u16) {
        if kind == MessageType::Reset
            && let Some(token) = self.rebindings.answered(from, mid, Question::Ping)
        {
            return self.rebind(from, token);
        }
        let registry = &self.core.registry;
        let found = registry.by_message(from, mid);
        let Some(key) = found.or_else(|| registry.bound(from)) else {
            return self.core.env.counters.datagrams_unexpected.inc();
        };
        self.core.with(key, |device, cx| {
            if device.shows(cx, kind, mid, found.is_some()) {
                match kind {
                    MessageType::Reset => device.handle_reset(cx, mid),
                    _ => device.handle_empty_ack(cx, mid),
                }
            }
        });
    }

    /// A response or notification (RFC 7252 §5.3.2: matched by token and peer).
    fn take_response(&mut self, from: Peer, message: &Message, datagram: &[u8]) {
        let token = Token::from_slice(message.token());
        let registry = &self.core.registry;
        let found = token.and_then(|token| {
            let key = registry.by_token(token)?;
            let device = registry.get(key)?;
            (device.peer == from).then_some((token, key))
        });
        if let Some((token, key)) = found {
            self.core.with(key, |device, cx| {
                device.handle_response(cx, token, message);
            });
            return;
        }
        let there = registry.at(from);
        let answered =
            there.and_then(|key| self.core.with(key, |it, cx| it.answers_probe(cx, message)));
        if answered == Some(true) || self.take_elsewhere(from, message, datagram) {
            return;
        }
        self.reject_response(from, message);
    }

    /// A response that nobody waits for.
    fn reject_response(&mut self, from: Peer, message: &Message) {
        let core = &mut self.core;
        core.env.counters.datagrams_unexpected.inc();
        let known = core.registry.bound(from).and_then(|key| core.device(key));
        let repeated = known.is_some_and(|device| device.last_separate == Some(message.mid()));
        // A notification from an address that is not the device's: it has a new one and will say so
        // with its next Update; then the observation is asked for again.
        let token = Token::from_slice(message.token());
        let early = token.is_some_and(|token| core.env.directory.missed(token));
        let reply = match message.kind() {
            // Our acknowledgement of a separate response was lost.
            MessageType::Confirmable if repeated => Some(MessageType::Acknowledgement),
            // A Reset would end the observation.
            MessageType::NonConfirmable if early => None,
            // RFC 7641 §3.5: a notification that is not recognised is reset, confirmable or not.
            // An early Confirmable one as well: the device would repeat it and send nothing else
            // meanwhile (NSTART), not even the Update.
            MessageType::Confirmable | MessageType::NonConfirmable => Some(MessageType::Reset),
            MessageType::Acknowledgement | MessageType::Reset => None,
        };
        if let Some(kind) = reply {
            core.transmit(from, message::empty(kind, message.mid()));
        }
        core.touch_authentic(from);
    }

    /// Takes a command from the host. `hops` says how many shards it has come by already.
    pub(super) fn take_command(&mut self, input: CommandInput, hops: u8) {
        if self.stopping {
            return self.core.refuse_stopping(&input);
        }
        let here = self.core.registry.by_endpoint(&input.endpoint);
        if here.is_none()
            && hops < MAX_HOPS
            && let Some(shard) = self.core.elsewhere(&input.endpoint)
        {
            let hops = hops + 1;
            let handoff = Handoff::Command { input, hops };
            return self.core.effects.hand_off(shard, handoff);
        }
        let options = command::Options::new(self.core.env.config());
        let mut command = match command::parse(&input.payload, input.dialect, &options) {
            Ok(command) => command,
            Err(error) => return self.take_unreadable(&input, error, here),
        };
        // A mountpoint of several placeholders may name the endpoint and still be another one's.
        let meant = |key: &DeviceKey| {
            let device = self.core.device(*key);
            device.is_some_and(|device| input.is_for(&device.mount))
        };
        let size = input.payload.len();
        let Some(key) = here.filter(meant) else {
            debug!(endpoint = %input.endpoint, kind = ?command.kind, size,
                "command for a device that is not registered");
            let payload = unregistered_payload(&command);
            return self.core.refuse_input(&input, &command.echo, payload);
        };
        debug!(endpoint = %input.endpoint, kind = ?command.kind, size, "command");
        let expiry = input.expiry;
        command.echo.set_reply(input.reply);
        command.order = input.order;
        if input.origin.is_some_and(|origin| origin.again) {
            // It may have been answered, and that not been noted.
            command.echo.mark_repeated();
        }
        let text = Some((input.payload, input.origin));
        self.core.with(key, |device, cx| {
            device.handle_command(cx, Box::new(command), size, expiry, text);
        });
    }

    /// A command that is none for a device: one about its queue, or a mistake.
    fn take_unreadable(
        &mut self,
        input: &CommandInput,
        mut error: CommandError,
        here: Option<DeviceKey>,
    ) {
        let unknown = error.reason == Reason::UnknownMsgType;
        let request = unknown.then(|| command::queue_request(&input.payload));
        match request.flatten() {
            Some(Ok(request)) => {
                let meant = |key: &DeviceKey| {
                    let device = self.core.device(*key);
                    device.is_some_and(|device| input.is_for(&device.mount))
                };
                let Some(key) = here.filter(meant) else {
                    let payload = unregistered_answer(&error.echo);
                    return self.core.refuse_input(input, &error.echo, payload);
                };
                error.echo.set_reply(input.reply.clone());
                self.core.with(key, |device, cx| {
                    device.handle_queue_request(cx, &error.echo, &request);
                });
            }
            Some(Err(missing)) => {
                error.reason = Reason::MissingData;
                error.detail = missing.to_owned();
                self.core.refuse_malformed(input, &error);
            }
            None => self.core.refuse_malformed(input, &error),
        }
    }

    pub(super) fn take_handoff(&mut self, handoff: Handoff) {
        match handoff {
            Handoff::Take {
                from,
                wanted,
                identity,
                peer,
                datagram,
                body,
            } => {
                let device = self.core.release(&wanted, identity.as_deref(), from);
                let handoff = Handoff::Give {
                    device,
                    peer,
                    datagram,
                    body,
                };
                self.core.effects.hand_off(from, handoff);
            }
            Handoff::Give {
                device,
                peer,
                datagram,
                body,
            } => {
                if datagram.is_empty() && self.arrivals.contains(peer) {
                    // A rebound device has another address.
                    if let Some(device) = device.ok().filter(|device| device.peer == peer) {
                        self.core.adopt(device);
                    }
                    let held = self.arrivals.arrived(&mut self.core, peer);
                    return self.take_held(held);
                }
                if datagram.is_empty() {
                    return self.take_rebound(device, peer);
                }
                let withheld = device.map(|device| self.core.adopt(device)).err();
                self.take_returned(withheld, peer, &datagram, &body);
            }
            Handoff::Notification { datagram } => self.take_notification(&datagram),
            Handoff::Command { input, hops } => self.take_command(input, hops),
            Handoff::Flush {
                endpoint,
                home,
                word,
                mut way,
            } => {
                if home == self.core.env.shard && way.is_empty() {
                    if let Some(key) = self.core.registry.by_endpoint(&endpoint) {
                        self.core.with(key, |device, cx| device.flushed(cx, word));
                    }
                    return;
                }
                let next = way.pop().unwrap_or(home);
                let handoff = Handoff::Flush {
                    endpoint,
                    home,
                    word,
                    way,
                };
                self.core.effects.hand_off(next, handoff);
            }
            Handoff::Displace {
                identity,
                old,
                new,
                to,
            } => {
                let core = &mut self.core;
                let held = self.arrivals.displace(core, identity, old, new, to);
                self.take_held(held);
            }
            Handoff::Adopt(device) => self.core.adopt_identified(device),
            Handoff::Arrived { peer } => {
                let held = self.arrivals.arrived(&mut self.core, peer);
                self.take_held(held);
            }
        }
    }

    /// A request whose device was asked of another shard is handled now.
    fn take_returned(
        &mut self,
        withheld: Option<Withheld>,
        peer: Peer,
        datagram: &[u8],
        body: &[u8],
    ) {
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        self.core.reach.begin(peer, datagram.len());
        if withheld == Some(Withheld::OtherIdentity) {
            self.server().refuse_identity(peer, &message);
        } else {
            let request = Request {
                message: &message,
                datagram,
                stage: Stage::Returned,
            };
            self.server().dispatch(peer, &request, body);
        }
        self.core.reach.end();
    }

    /// Answers the commands of what comes when everything else has ended.
    pub(super) fn refuse_handoff(&mut self, handoff: Handoff) {
        match handoff {
            Handoff::Give {
                device: Ok(mut device),
                ..
            }
            | Handoff::Adopt(mut device) => {
                self.core.refuse_unkept(&mut device, &Refusal::STOPPING);
            }
            Handoff::Command { input, .. } => self.core.refuse_stopping(&input),
            Handoff::Take { .. }
            | Handoff::Give { .. }
            | Handoff::Notification { .. }
            | Handoff::Displace { .. }
            | Handoff::Flush { .. }
            | Handoff::Arrived { .. } => {}
        }
    }

    /// Handles what has waited for registrations to arrive.
    pub(super) fn take_held(&mut self, held: Held) {
        for (peer, datagram) in held {
            self.take_datagram(peer, &datagram);
        }
    }

    /// Looks at [`TIMEOUTS_PER_CALL`] connections at most; the rest is due at once again.
    pub(super) fn expire_arrivals(&mut self) {
        for _ in 0..TIMEOUTS_PER_CALL {
            let Some(peer) = self.arrivals.due(self.core.now.mono) else {
                return;
            };
            let held = self.arrivals.arrived(&mut self.core, peer);
            self.take_held(held);
        }
    }
}
