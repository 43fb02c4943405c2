//! Each request is answered once, and its repetitions from memory.

use super::rates;
use super::request::Server;
use super::response::Response;
use crate::coap::dedup::Seen;
use crate::coap::message;
use crate::coap::{Message, MessageType};
use crate::engine::peer::Peer;

impl Server<'_> {
    /// Answers a repeated request from memory (RFC 7252 §4.5) and lets a new one through.
    pub(in crate::engine) fn deduplicate(
        &mut self,
        from: Peer,
        message: &Message,
        datagram: &[u8],
    ) {
        let lifetime = self.core.env.config().coap.exchange_lifetime;
        let (now, key) = (self.core.now.mono, (from, message.mid()));
        let core = &mut *self.core;
        let peers = core.registry.messages();
        let class = || rates::class(peers.peer_mut(from), now, lifetime);
        match core.dedup.check(now, lifetime, key, datagram, class) {
            Seen::New => {
                self.core.touch_authentic(from);
                self.handle_request(from, message, datagram);
            }
            Seen::Answered(reply) => {
                self.core.env.counters.datagrams_duplicate.inc();
                self.core.transmit(from, reply);
            }
            Seen::Pending => {
                self.core.env.counters.datagrams_duplicate.inc();
                self.acknowledge_pending(from, message);
            }
        }
    }

    /// A request that waits for another shard is repeated: an Empty ACK stops the repetition, the
    /// response will be separate (RFC 7252 §5.2.2).
    fn acknowledge_pending(&mut self, from: Peer, message: &Message) {
        if message.kind() == MessageType::Confirmable
            && let Some(pending) = self.requests.pending.get_mut(from, message.mid())
        {
            pending.acknowledged = true;
            self.core.transmit(
                from,
                message::empty(MessageType::Acknowledgement, message.mid()),
            );
        }
    }

    /// Sends the response to a request: piggybacked, NON for NON, or separate if an Empty ACK
    /// went before.
    pub(super) fn respond(&mut self, to: Peer, request: &Message, response: Response) {
        let separate = self
            .take_pending(to, request.mid())
            .is_some_and(|pending| pending.acknowledged);
        let (kind, mid) = match request.kind() {
            MessageType::Confirmable if !separate => (MessageType::Acknowledgement, request.mid()),
            // A separate response goes without retransmission of its own: a device that misses
            // it repeats its request, which is answered from memory.
            _ => (MessageType::NonConfirmable, {
                let core = &mut *self.core;
                core.registry.messages().next_mid(to, &mut core.rng)
            }),
        };
        let diagnostic = match response.code.class() {
            4 | 5 => response.payload.len(),
            _ => 0,
        };
        let mut datagram = response.into_builder(kind, mid, request).build();
        self.core.trim(to, &mut datagram, diagnostic);
        self.core.dedup.answered(to, request.mid(), &datagram);
        self.core.transmit(to, datagram);
    }
}
