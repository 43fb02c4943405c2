//! What may be sent to the address of a device, and what it has to show there.

use super::state::Device;
use crate::coap::message::{self, Builder, option};
use crate::coap::{Code, Message, MessageType, Token};
use crate::engine::context::Context;
use crate::engine::reach::Trust;
use crate::engine::registration::Location;

/// Bytes of an Empty message.
const EMPTY: usize = 4;

/// Bytes that requests leave for a ping and a question, see [`Device::probe`].
pub(super) const RESERVE: usize = EMPTY + 18;

/// Messages of a device that acknowledge or reset what is not under way, after which none counts
/// that has but a message id to show: it has 16 bits, and somebody may be guessing.
const MAX_STRAYS: u8 = 32;

impl Device {
    /// Answers the datagram that is being handled, if the device may get that much.
    pub(super) fn transmit(&mut self, cx: &mut Context<'_>, datagram: Vec<u8>) {
        if self.spend(cx, datagram.len()) {
            self.saw_sent(cx, datagram.len());
            cx.effects.transmit(self.peer, datagram);
        }
    }

    fn spend(&mut self, cx: &mut Context<'_>, bytes: usize) -> bool {
        let spent =
            self.peer.session != 0 || cx.reach.spend(self.peer, bytes) || self.trust.spend(bytes);
        if !spent {
            cx.counters().answers_withheld.inc();
        }
        spent
    }

    /// Sends a request, or asks the device to show itself first. Returns whether it was sent.
    pub(super) fn transmit_request(&mut self, cx: &mut Context<'_>, datagram: Vec<u8>) -> bool {
        let wanted = datagram.len().saturating_add(RESERVE);
        if wanted <= self.trust.room() && self.trust.spend(datagram.len()) {
            self.saw_sent(cx, datagram.len());
            cx.effects.transmit(self.peer, datagram);
            return true;
        }
        cx.counters().answers_withheld.inc();
        self.probe(cx);
        false
    }

    /// Asks the device to show that it receives at its address, by the least there is: a ping (RFC
    /// 7252 §4.3) and, since some clients do not answer it, a read of one short resource.
    fn probe(&mut self, cx: &mut Context<'_>) {
        if self.trust.is_proven() {
            return;
        }
        let mid = cx.index.next_mid(self.peer, cx.rng);
        if self.trust.probe().is_some() {
            let challenges = &mut cx.reach.challenges;
            let token = challenges.token(cx.now.mono, self.peer.listener, self.peer.address);
            let ask = Builder::new(
                MessageType::Confirmable,
                Code::GET,
                mid,
                &token.0.to_be_bytes(),
            );
            let ask = ["3", "0", "0"]
                .into_iter()
                .fold(ask, |ask, segment| ask.option(option::URI_PATH, segment));
            return self.transmit(cx, ask.build());
        }
        if self.spend(cx, EMPTY)
            && let Trust::Unproven { probe, .. } = &mut self.trust
        {
            *probe = Some(mid);
            let ping = message::empty(MessageType::Confirmable, mid);
            cx.effects.transmit(self.peer, ping);
        }
    }

    /// Whether a response that nobody waits for is the answer to the question of
    /// [`Device::probe`].
    pub(in crate::engine) fn answers_probe(
        &mut self,
        cx: &mut Context<'_>,
        message: &Message,
    ) -> bool {
        if self.trust.probe().is_none() {
            return false;
        }
        let (challenges, peer) = (&mut cx.reach.challenges, self.peer);
        let token = Token::from_slice(message.token());
        let right = |token| challenges.gave(cx.now.mono, peer.listener, peer.address, token);
        if !token.is_some_and(right) {
            return false;
        }
        if message.kind() == MessageType::Confirmable {
            let ack = message::empty(MessageType::Acknowledgement, message.mid());
            self.transmit(cx, ack);
        }
        self.touch(cx.now, cx.env);
        self.prove(cx);
        self.pump(cx);
        true
    }

    /// The device has shown that it receives at its address: what was held back goes out.
    pub(in crate::engine) fn prove(&mut self, cx: &mut Context<'_>) {
        if self.trust.is_proven() {
            return;
        }
        self.trust = Trust::Proven;
        self.unsaved = true;
        for exchange in self.exchanges.iter_mut().filter(|it| it.withheld) {
            exchange.withheld = false;
            cx.effects.transmit(self.peer, exchange.datagram.to_vec());
        }
    }

    /// The device has used its location. That proves something only where nobody can guess it,
    /// and at the address that was told it.
    pub(in crate::engine) fn prove_by_location(
        &mut self,
        cx: &mut Context<'_>,
        location: &Location,
    ) {
        if matches!(self.trust, Trust::Unproven { moved: false, .. })
            && matches!(location, Location::Random(_))
        {
            self.prove(cx);
        }
    }

    /// What is left of the allowance for the datagram being handled goes to the device that
    /// registered by it.
    pub(in crate::engine) fn bank_allowance(&mut self, cx: &mut Context<'_>) {
        self.trust.add(cx.reach.take(self.peer));
    }

    /// Whether an acknowledgement or reset that names the message `mid` counts, and shows that the
    /// device receives. `found`: that is a request under way. A message id is all such a message
    /// has to show, so it does not count when somebody is guessing.
    pub(in crate::engine) fn shows(
        &mut self,
        cx: &mut Context<'_>,
        kind: MessageType,
        mid: u16,
        found: bool,
    ) -> bool {
        let pinged = self.trust.probe() == Some(mid) && kind == MessageType::Reset;
        let expected = found || pinged;
        if !expected {
            self.strays = self.strays.saturating_add(1);
        }
        if !expected || self.strays > MAX_STRAYS && self.peer.session == 0 {
            cx.counters().datagrams_unexpected.inc();
            return false;
        }
        self.prove(cx);
        found
    }
}
