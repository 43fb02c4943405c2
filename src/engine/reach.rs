//! Plain UDP: nobody has shown that the address a datagram bears is his. Until it has been shown,
//! an address gets at most three times what came from it, so that the gateway is of no use to
//! whoever sends in the name of others (RFC 7252 §11.3, RFC 9175 §2.4 item 3, the factor of
//! RFC 9000 §8).

use super::device::DeviceKey;
use super::registration::Location;
use super::response::Response;
use super::{Engine, Output, Peer};
use crate::coap::block::BlockOption;
use crate::coap::message::{self, Builder, option};
use crate::coap::{Code, Message, MessageType, Token};
use crate::config::EchoMode;
use crate::time::Now;

/// An address that has not shown itself gets so many times what came from it.
const FACTOR: usize = 3;

/// Bytes of an Empty message.
const EMPTY: usize = 4;

/// Bytes that requests leave for a ping and a question, see [`Engine::probe`].
const RESERVE: usize = EMPTY + 18;

/// Messages of a device that acknowledge or reset what is not under way, after which none counts
/// that has but a message id to show: it has 16 bits, and somebody may be guessing.
const MAX_STRAYS: u8 = 32;

/// What is known of the address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It has sent something that only whoever receives there can know, or uses DTLS.
    Proven,
    /// It has not.
    Unproven {
        /// Bytes that may be sent there.
        credit: u32,
        /// Message id of the ping that asks it to show itself.
        probe: Option<u16>,
        /// The device got its location at another address, so to know it proves nothing here.
        moved: bool,
    },
}

impl Trust {
    /// Of an address from which a device has registered or, with `moved`, updated.
    pub(super) const fn of(peer: Peer, moved: bool) -> Self {
        if peer.session != 0 {
            return Self::Proven;
        }
        Self::Unproven {
            credit: 0,
            probe: None,
            moved,
        }
    }

    const fn is_proven(self) -> bool {
        matches!(self, Self::Proven)
    }

    /// Bytes that may be sent.
    const fn room(self) -> usize {
        match self {
            Self::Proven => usize::MAX,
            Self::Unproven { credit, .. } => credit as usize,
        }
    }

    /// Takes `bytes` out, or nothing: false when there are not that many.
    fn spend(&mut self, bytes: usize) -> bool {
        match self {
            Self::Proven => true,
            Self::Unproven { credit, .. } => match u32::try_from(bytes)
                .ok()
                .and_then(|bytes| credit.checked_sub(bytes))
            {
                Some(rest) => {
                    *credit = rest;
                    true
                }
                None => false,
            },
        }
    }
}

/// What whoever is being answered may get for the datagram he sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    peer: Peer,
    bytes: usize,
}

impl Engine {
    /// `datagram` of `from` is being handled.
    pub(super) fn begin_answering(&mut self, from: Peer, datagram: usize) {
        self.allowance = (from.session == 0).then(|| Allowance {
            peer: from,
            bytes: datagram.saturating_mul(FACTOR),
        });
    }

    /// What is left of the allowance for the datagram being handled goes to the device that
    /// registered by it.
    pub(super) fn bank_allowance(&mut self, key: DeviceKey) {
        let Some(left) = self.allowance.take() else {
            return;
        };
        if let Some(device) = self.device_mut(key)
            && device.peer == left.peer
            && let Trust::Unproven { credit, .. } = &mut device.trust
        {
            let more = u32::try_from(left.bytes).unwrap_or(u32::MAX);
            *credit = credit.saturating_add(more);
        }
    }

    /// The longest datagram that may be sent to `to` now.
    fn room(&self, to: Peer) -> usize {
        if to.session != 0 {
            return usize::MAX;
        }
        let allowance = self.allowance.filter(|allowance| allowance.peer == to);
        let device = self
            .peers
            .get(&to)
            .and_then(|state| self.device(state.device));
        let device = device.filter(|device| device.peer == to);
        let credit = device.map_or(0, |device| device.trust.room());
        allowance.map_or(0, |it| it.bytes).max(credit)
    }

    /// Whether a datagram of `length` bytes may be sent to `to`; counts it.
    pub(super) fn spend(&mut self, to: Peer, length: usize) -> bool {
        if to.session != 0 {
            return true;
        }
        if let Some(allowance) = &mut self.allowance
            && allowance.peer == to
            && let Some(rest) = allowance.bytes.checked_sub(length)
        {
            allowance.bytes = rest;
            return true;
        }
        let key = self.peers.get(&to).map(|state| state.device);
        let device = key.and_then(|key| self.device_mut(key));
        let spent = device
            .filter(|device| device.peer == to)
            .is_some_and(|device| device.trust.spend(length));
        if !spent {
            self.counters.answers_withheld.inc();
        }
        spent
    }

    /// Cuts the diagnostic payload of `datagram`, its last `payload` bytes, to what may be sent.
    pub(super) fn trim(&self, to: Peer, datagram: &mut Vec<u8>, payload: usize) {
        let fits = |bytes: usize| {
            let allowance = self.allowance.filter(|allowance| allowance.peer == to);
            allowance.is_some_and(|allowance| bytes <= allowance.bytes)
        };
        if payload == 0 || fits(datagram.len()) {
            return;
        }
        let room = self.room(to);
        if datagram.len() <= room {
            return;
        }
        // The payload marker goes with the last byte.
        let bare = datagram.len().saturating_sub(payload + 1);
        let text = datagram.get(bare + 1..).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        let kept = text.floor_char_boundary(room.saturating_sub(bare + 1));
        datagram.truncate(if kept == 0 { bare } else { bare + 1 + kept });
    }

    /// Sends a request to a device, or asks it to show itself first. Returns whether it was sent.
    pub(super) fn transmit_request(&mut self, now: Now, key: DeviceKey, datagram: Vec<u8>) -> bool {
        let Some(device) = self.device_mut(key) else {
            return false;
        };
        let peer = device.peer;
        let wanted = datagram.len().saturating_add(RESERVE);
        if wanted <= device.trust.room() && device.trust.spend(datagram.len()) {
            self.emit(peer, datagram);
            return true;
        }
        self.counters.answers_withheld.inc();
        self.probe(now, key, peer);
        false
    }

    /// Asks a device to show that it receives at its address, by the least there is: a ping (RFC
    /// 7252 §4.3) and, since some clients do not answer it, a read of one short resource.
    fn probe(&mut self, now: Now, key: DeviceKey, peer: Peer) {
        let Some(Trust::Unproven { probe, .. }) = self.device(key).map(|device| device.trust)
        else {
            return;
        };
        let mid = self.next_mid(peer);
        if probe.is_some() {
            let challenges = &mut self.challenges;
            let token = challenges.token(now.mono, peer.listener, peer.address);
            let ask = ["3", "0", "0"].into_iter().fold(
                Builder::new(
                    MessageType::Confirmable,
                    Code::GET,
                    mid,
                    &token.0.to_be_bytes(),
                ),
                |ask, segment| ask.option(option::URI_PATH, segment),
            );
            return self.transmit(peer, ask.build());
        }
        if self.spend(peer, EMPTY)
            && let Some(device) = self.device_mut(key)
            && let Trust::Unproven { probe, .. } = &mut device.trust
        {
            *probe = Some(mid);
            self.emit(peer, message::empty(MessageType::Confirmable, mid));
        }
    }

    /// Whether a response that nobody waits for is the answer to the question of [`Engine::probe`].
    pub(super) fn answers_probe(&mut self, now: Now, from: Peer, message: &Message) -> bool {
        let key = self.peers.get(&from).map(|state| state.device);
        let device = key.and_then(|key| self.device(key));
        let asked = device.is_some_and(|device| {
            let probed = matches!(device.trust, Trust::Unproven { probe: Some(_), .. });
            probed && device.peer == from
        });
        let token = Token::from_slice(message.token()).filter(|_| asked);
        let challenges = &mut self.challenges;
        let right = |token| challenges.gave(now.mono, from.listener, from.address, token);
        if !token.is_some_and(right) {
            return false;
        }
        if message.kind() == MessageType::Confirmable {
            let ack = message::empty(MessageType::Acknowledgement, message.mid());
            self.transmit(from, ack);
        }
        if let Some(key) = key {
            self.touch(now, key);
            self.prove(key);
            self.pump(now, key);
        }
        true
    }

    /// The device has shown that it receives at its address: what was held back goes out.
    pub(super) fn prove(&mut self, key: DeviceKey) {
        let Some(device) = self.device_mut(key) else {
            return;
        };
        if device.trust.is_proven() {
            return;
        }
        device.trust = Trust::Proven;
        let peer = device.peer;
        let held = device.exchanges.iter_mut().filter(|it| it.withheld);
        let held: Vec<_> = held
            .map(|exchange| {
                exchange.withheld = false;
                exchange.datagram.to_vec()
            })
            .collect();
        for datagram in held {
            self.emit(peer, datagram);
        }
    }

    /// The device has used its location. That proves something only where nobody can guess it,
    /// and at the address that was told it.
    pub(super) fn prove_by_location(&mut self, key: DeviceKey, location: &Location) {
        let Some(Trust::Unproven { moved: false, .. }) = self.device(key).map(|it| it.trust) else {
            return;
        };
        if matches!(location, Location::Random(_)) {
            self.prove(key);
        }
    }

    /// The device with a request under way that an acknowledgement or reset names by its message
    /// id. That is all such a message has to show, so it does not count when somebody is guessing.
    pub(super) fn answers(&mut self, from: Peer, mid: u16, kind: MessageType) -> Option<DeviceKey> {
        let found = self.in_flight.get(&(from, mid)).copied();
        let sender = || self.peers.get(&from).map(|state| state.device);
        let key = found.or_else(sender);
        let Some(device) = key.and_then(|key| self.device_mut(key)) else {
            self.counters.datagrams_unexpected.inc();
            return None;
        };
        let pinged =
            matches!(device.trust, Trust::Unproven { probe: Some(probe), .. } if probe == mid);
        let expected = found.is_some() || pinged && kind == MessageType::Reset;
        if !expected {
            device.strays = device.strays.saturating_add(1);
        }
        if !expected || device.strays > MAX_STRAYS && from.session == 0 {
            self.counters.datagrams_unexpected.inc();
            return None;
        }
        if let Some(key) = key {
            self.prove(key);
        }
        found
    }

    /// Whether a request has to come with an Echo option first; it has been answered then
    /// (RFC 9175 §2.3).
    pub(super) fn challenge(&mut self, now: Now, from: Peer, message: &Message) -> bool {
        let mode = self.settings.config.coap.echo;
        if mode == EchoMode::Off || from.session != 0 {
            return false;
        }
        let mut path = message.option_values(option::URI_PATH);
        let registers =
            path.next() == Some(b"rd") && matches!(message.code(), Code::POST | Code::DELETE);
        // Who sends further blocks has shown itself with the first one.
        let block = message
            .uint_option(option::BLOCK1, 3)
            .and_then(BlockOption::from_uint);
        let begun = block.is_some_and(|block| block.number > 0);
        if !registers || begun || self.has_shown(now, from, message) {
            return false;
        }
        if mode == EchoMode::NewAddress && self.is_proven(from) {
            return false;
        }
        self.counters.echo_challenges.inc();
        let echo = self.challenges.make(now.mono, from.listener, from.address);
        let response = Response::new(Code::UNAUTHORIZED).option(option::ECHO, echo);
        self.respond(from, message, response);
        // The answer to a repetition is as good when it is made anew.
        self.dedup.forget(from, message.mid());
        true
    }

    /// Whether `message` bears an Echo option that was made for its sender.
    pub(super) fn has_shown(&mut self, now: Now, from: Peer, message: &Message) -> bool {
        if self.settings.config.coap.echo == EchoMode::Off {
            return false;
        }
        let Some(echo) = message.first_option(option::ECHO) else {
            return false;
        };
        let challenges = &mut self.challenges;
        challenges.verify(now.mono, from.listener, from.address, echo)
    }

    fn is_proven(&self, peer: Peer) -> bool {
        let key = self.peers.get(&peer).map(|state| state.device);
        let device = key.and_then(|key| self.device(key));
        device.is_some_and(|device| device.peer == peer && device.trust.is_proven())
    }

    /// Sends what may be sent.
    pub(super) fn emit(&mut self, to: Peer, datagram: Vec<u8>) {
        self.counters.datagrams_sent.inc();
        self.counters.bytes_sent.add(datagram.len() as u64);
        self.outputs.push_back(Output::Transmit { to, datagram });
    }

    /// An Empty message (RFC 7252 §4): four bytes that anybody can send in the name of a device.
    pub(super) fn handle_empty(&mut self, now: Now, from: Peer, kind: MessageType, mid: u16) {
        match kind {
            MessageType::Confirmable => {
                // A ping (RFC 7252 §4.3); over DTLS it also shows that the device is there.
                self.transmit(from, message::empty(MessageType::Reset, mid));
                self.touch_authentic(now, from);
            }
            MessageType::Acknowledgement => self.handle_empty_ack(now, from, mid),
            MessageType::Reset => self.handle_reset(now, from, mid),
            MessageType::NonConfirmable => self.counters.datagrams_unexpected.inc(),
        }
    }

    /// The device at an address has been heard of, if that is certain: anybody can send in the name
    /// of an address, but not by its DTLS session.
    pub(super) fn touch_authentic(&mut self, now: Now, from: Peer) {
        if from.session != 0
            && let Some(state) = self.peers.get(&from)
        {
            let key = state.device;
            self.touch(now, key);
        }
    }

    /// A device is awake. Its lifetime starts anew only by what nobody else can send.
    pub(super) fn wake(&mut self, now: Now, key: DeviceKey) {
        let window = self.settings.config.qmode_time_window;
        if let Some(device) = self.device_mut(key) {
            device.awake_until = now.mono + window;
            if device.peer.session != 0 {
                device.last_seen = now.mono;
            }
        }
    }

    /// A device has sent what nobody else can send: it is awake, and its lifetime starts anew.
    pub(super) fn touch(&mut self, now: Now, key: DeviceKey) {
        let window = self.settings.config.qmode_time_window;
        if let Some(device) = self.device_mut(key) {
            device.last_seen = now.mono;
            device.awake_until = now.mono + window;
        }
    }
}
