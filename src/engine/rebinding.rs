//! Devices that come from a new address without having said so: a NAT has given them another one.
//!
//! A token is as unguessable as a location, so a notification that bears one is taken from wherever
//! it comes (`address_change = "accept"`); a Reset would end an observation that is wanted. Commands
//! go to the new address when it has answered there, as with an address that is spoken to for the
//! first time: whoever saw one datagram on its way could else send a device's commands anywhere.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::peer::Peer;
use crate::coap::Token;
use crate::time::Instant;

/// Addresses that are asked at a time; whoever gets here has shown a token.
const MOST: usize = 1024;

/// How long an answer counts: EXCHANGE_LIFETIME is longer, but a device that has not answered by
/// then is asked with its next notification.
const LIFETIME: Duration = Duration::from_secs(60);

/// What an address is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// A ping (RFC 7252 §4.3).
    Ping,
    /// A read of one short resource, since some clients do not answer a ping.
    Read,
}

#[derive(Debug)]
struct Rebinding {
    token: Token,
    /// Message id of the question.
    mid: u16,
    question: Question,
    deadline: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rebindings {
    asked: HashMap<Peer, Rebinding>,
    /// In order of time.
    order: VecDeque<(Instant, Peer)>,
}

impl Rebindings {
    /// A message with `token` came from `peer`. Returns what to ask that address, if it has not been
    /// asked everything yet; `mid` is the message id of the question.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        peer: Peer,
        token: Token,
        mid: u16,
    ) -> Option<Question> {
        self.expire(now);
        if let Some(known) = self.asked.get_mut(&peer) {
            if known.token == token && known.question == Question::Read {
                return None;
            }
            let question = match known.token == token {
                true => Question::Read,
                false => Question::Ping,
            };
            (known.token, known.mid, known.question) = (token, mid, question);
            return Some(question);
        }
        if self.asked.len() >= MOST {
            return None;
        }
        let deadline = now + LIFETIME;
        self.order.push_back((deadline, peer));
        let (question, asked) = (Question::Ping, &mut self.asked);
        asked.insert(
            peer,
            Rebinding {
                token,
                mid,
                question,
                deadline,
            },
        );
        Some(question)
    }

    /// `peer` has answered the question with the message id `mid`: the token it came with.
    pub(super) fn answered(&mut self, peer: Peer, mid: u16, to: Question) -> Option<Token> {
        let known = self.asked.get(&peer)?;
        if (known.mid, known.question) != (mid, to) {
            return None;
        }
        self.asked.remove(&peer).map(|known| known.token)
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, peer)) = self.order.front().copied()
            && at <= now
        {
            self.order.pop_front();
            if self.asked.get(&peer).is_some_and(|it| it.deadline <= now) {
                self.asked.remove(&peer);
            }
        }
    }

    /// Addresses that are asked.
    #[cfg(feature = "internals")]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::network::LocalAddress;

    #[test]
    fn a14_bounded_and_forgotten() {
        let peer = |port| Peer {
            listener: 0,
            local: LocalAddress::default(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: 0,
        };
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut all = Rebindings::default();
        let ports = 1..=MOST as u16;
        for port in ports {
            let asked = all.ask(at(0), peer(port), Token(7), port);
            assert_eq!(asked, Some(Question::Ping));
        }
        assert_eq!(all.ask(at(1), peer(60_000), Token(7), 1), None);
        let again = all.ask(at(1), peer(5), Token(7), 600);
        assert_eq!(again, Some(Question::Read));
        assert_eq!(all.ask(at(1), peer(5), Token(7), 601), None);
        assert_eq!(all.answered(peer(5), 5, Question::Ping), None);
        assert_eq!(all.answered(peer(5), 600, Question::Read), Some(Token(7)));
        assert_eq!(all.answered(peer(6), 6, Question::Ping), Some(Token(7)));
        // What was answered may be asked again, and the old deadline is not its own.
        all.ask(at(30), peer(6), Token(8), 9);
        all.expire(at(60));
        assert_eq!((all.asked.len(), all.len()), (1, 1));
        all.expire(at(90));
        assert_eq!((all.asked.len(), all.len()), (0, 0));
    }
}
