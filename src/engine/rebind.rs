//! What happens to a device that a NAT has given another address, see [`super::rebinding`].

use tracing::debug;

use super::device::Device;
use super::front::Engine;
use super::info::DeviceEvent;
use super::peer::{DeviceKey, Peer, ShardId};
use super::reach::Trust;
use super::rebinding::Question;
use super::sharding::{Handoff, Wanted, Withheld};
use crate::coap::message::{self, Builder, option};
use crate::coap::{Code, Message, MessageType, Token};
use crate::config::AddressChange;

/// Where the device of a token is.
enum Owner {
    Here(DeviceKey),
    Shard(ShardId),
}

impl Engine {
    /// A response or notification that no device is known for at `from`: whether its token is that
    /// of a device with another address, or it shows that this is the new one.
    pub(super) fn take_elsewhere(
        &mut self,
        from: Peer,
        message: &Message,
        datagram: &[u8],
    ) -> bool {
        if from.session != 0 || self.core.env.config().address_change == AddressChange::Reject {
            return false;
        }
        let Some(token) = Token::from_slice(message.token()) else {
            return false;
        };
        match message.kind() {
            MessageType::Acknowledgement => self.answers_question(from, token, message.mid()),
            MessageType::Confirmable | MessageType::NonConfirmable => {
                let Some(owner) = self.owner(from, token) else {
                    return false;
                };
                if message.kind() == MessageType::Confirmable {
                    let ack = message::empty(MessageType::Acknowledgement, message.mid());
                    self.core.transmit(from, ack);
                }
                self.ask_address(from, token);
                match owner {
                    Owner::Here(key) => {
                        self.core.with(key, |device, cx| {
                            device.handle_notification_from_elsewhere(cx, token, message);
                        });
                    }
                    Owner::Shard(shard) => {
                        let datagram = datagram.to_vec();
                        let handoff = Handoff::Notification { datagram };
                        self.core.effects.hand_off(shard, handoff);
                    }
                }
                true
            }
            MessageType::Reset => false,
        }
    }

    /// Who has a token, if he may come from `from`: without DTLS, at the same listener.
    fn owner(&self, from: Peer, token: Token) -> Option<Owner> {
        let core = &self.core;
        if let Some(key) = core.registry.by_token(token) {
            let device = core.device(key)?;
            let peer = device.peer;
            let may = peer.session == 0 && peer.listener == from.listener;
            // The answer to a request comes from where the request went (RFC 7252 §5.3.2).
            return (may && device.notifies(token)).then_some(Owner::Here(key));
        }
        let shard = core.env.directory.shard_of_observation(token)?;
        (shard != core.env.shard).then_some(Owner::Shard(shard))
    }

    fn ask_address(&mut self, from: Peer, token: Token) {
        let core = &mut self.core;
        let now = core.now.mono;
        let mid = core.registry.messages().next_mid(from, &mut core.rng);
        let question = match self.rebindings.ask(now, from, token, mid) {
            None => return,
            Some(Question::Ping) => message::empty(MessageType::Confirmable, mid),
            Some(Question::Read) => {
                let challenges = &mut core.reach.challenges;
                let proof = challenges.token(now, from.listener, from.address);
                let proof = proof.0.to_be_bytes();
                let read = Builder::new(MessageType::Confirmable, Code::GET, mid, &proof);
                let path = ["3", "0", "0"].into_iter();
                path.fold(read, |read, segment| read.option(option::URI_PATH, segment))
                    .build()
            }
        };
        core.transmit(from, question);
    }

    fn answers_question(&mut self, from: Peer, proof: Token, mid: u16) -> bool {
        let core = &mut self.core;
        let challenges = &mut core.reach.challenges;
        let right = challenges.gave(core.now.mono, from.listener, from.address, proof);
        let token = right.then(|| self.rebindings.answered(from, mid, Question::Read));
        match token.flatten() {
            Some(token) => {
                self.rebind(from, token);
                true
            }
            None => false,
        }
    }

    /// A device has shown that it receives at `to`: that is its address from now on.
    pub(super) fn rebind(&mut self, to: Peer, token: Token) {
        match self.owner(to, token) {
            None => {}
            Some(Owner::Here(key)) => {
                self.core.move_peer(key, to);
                self.settle_in(key, to);
            }
            Some(Owner::Shard(shard)) => {
                let handoff = Handoff::Take {
                    from: self.core.env.shard,
                    wanted: Wanted::Token(token),
                    identity: None,
                    peer: to,
                    datagram: Vec::new(),
                    body: Vec::new(),
                };
                self.core.effects.hand_off(shard, handoff);
            }
        }
    }

    /// The device of another shard that has shown that it receives at `to`.
    pub(super) fn take_rebound(&mut self, device: Result<Box<Device>, Withheld>, to: Peer) {
        let Ok(mut device) = device else {
            return;
        };
        let from = std::mem::replace(&mut device.peer, to);
        if from.listener != to.listener {
            let directory = &self.core.env.directory;
            directory.change_listener(from.listener, to.listener);
        }
        let endpoint = device.endpoint.clone();
        self.core.adopt(device);
        if let Some(key) = self.core.registry.by_endpoint(&endpoint) {
            self.settle_in(key, to);
        }
    }

    fn settle_in(&mut self, key: DeviceKey, to: Peer) {
        self.core.env.counters.address_changed.inc();
        self.core.with(key, |device, cx| {
            debug!(endpoint = %device.endpoint, peer = %to.address, "address changed");
            device.trust = Trust::of(to, true);
            device.touch(cx.now, cx.env);
            device.prove(cx);
        });
        self.core.announce(key, DeviceEvent::Updated);
        self.core.with(key, |device, cx| {
            device.send_again(cx);
            device.pump(cx);
        });
    }

    /// A notification that another shard has got.
    pub(super) fn take_notification(&mut self, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        let token = Token::from_slice(message.token());
        let found = token.and_then(|token| {
            let key = self.core.registry.by_token(token)?;
            let device = self.core.device(key)?;
            (device.peer.session == 0 && device.notifies(token)).then_some((token, key))
        });
        match found {
            Some((token, key)) => {
                self.core.with(key, |device, cx| {
                    device.handle_notification_from_elsewhere(cx, token, &message);
                });
            }
            None => self.core.env.counters.datagrams_unexpected.inc(),
        }
    }
}
