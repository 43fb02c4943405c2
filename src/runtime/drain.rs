//! What the engine and the sessions of a shard want done.

use std::sync::Arc;

use super::host::AuthorizationRequest;
use super::mail::Mail;
use super::mailbox::Mailbox;
use super::secure::Event;
use super::shard::{Effects, Listener, Shard};
use crate::engine::{AuthorizationId, Change, Decision, Output, Peer, RegistrationRequest};
use crate::mqtt::Publish;
use crate::time::{Instant, Now};

impl Shard {
    /// Collects all effects and leaves what is for the store; returns the next deadline.
    pub(super) fn drain(&mut self, now: Now, effects: &mut Effects) -> Option<Instant> {
        let deadline = self.collect(now, effects);
        self.keep(effects);
        deadline
    }

    /// Collects all effects; returns the next deadline.
    pub(super) fn collect(&mut self, now: Now, effects: &mut Effects) -> Option<Instant> {
        loop {
            let engine = self.drain_engine(now, effects);
            let mut deadline = engine;
            let mut news = false;
            for index in 0..self.listeners.len() {
                let (some, idle) = self.drain_secure(now, index);
                news |= some;
                deadline = [deadline, idle].into_iter().flatten().min();
            }
            // What came out of a session may have made the engine speak.
            if !news {
                return deadline;
            }
        }
    }

    /// Leaves changes for the store, all of them in one batch: a command that is sent as soon as it
    /// comes is noted as both. Nothing has been sent yet.
    pub(super) fn keep(&self, effects: &mut Effects) {
        if let Some(store) = self.store.as_ref().filter(|_| !effects.changes.is_empty()) {
            store.push(self.index, &effects.changes);
            effects.changes.clear();
        }
    }

    fn drain_engine(&mut self, now: Now, effects: &mut Effects) -> Option<Instant> {
        loop {
            match self.engine.poll_output() {
                Output::Transmit { to, datagram } => {
                    #[cfg(feature = "http")]
                    if self.tapped {
                        self.trace_transmit(now, to, &datagram);
                    }
                    self.transmit(now, to, datagram);
                }
                Output::Publish(publish) => {
                    #[cfg(feature = "http")]
                    if self.tapped {
                        self.tap(now, &publish);
                    }
                    effects.publishes.push(publish);
                }
                Output::Answer { number, publish } => self.answer(now, number, publish, effects),
                Output::Subscribe {
                    endpoint,
                    mountpoint,
                    filter,
                    qos,
                } => (self.host).subscribe_device(&endpoint, &mountpoint, &filter, qos),
                Output::Unsubscribe { endpoint, filter } => {
                    self.host.unsubscribe_device(&endpoint, &filter);
                }
                Output::Authorize { id, request } => self.authorize(id, request),
                Output::DeviceEvent(event) => {
                    #[cfg(feature = "http")]
                    if self.tapped && !self.tap_device(now, &event) {
                        continue;
                    }
                    effects.device_events.push(event);
                }
                Output::Disconnect(peer) => {
                    if let Some(secure) = self.secure(peer.listener) {
                        secure.disconnect(now.mono, peer);
                    }
                }
                // An answer is final once the broker has it.
                Output::Store(change @ Change::Answered { .. }) => effects.answered.push(&change),
                Output::Store(change) => effects.changes.push(&change),
                Output::Handoff { shard, handoff } => {
                    if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
                        // Only commands are ever refused, and this is none.
                        let _ = mailbox.push(Mail::Handoff(handoff));
                    }
                }
                Output::Idle(next) => return next.map(|(at, _)| at),
            }
        }
    }

    /// An answer to a command of the HTTP API, which a gateway without one publishes: the store
    /// may have had the command.
    fn answer(&self, now: Now, number: u64, publish: Publish, effects: &mut Effects) {
        #[cfg(feature = "http")]
        if self.hub.is_serving() {
            return self.hub.answer(now.unix_ms, number, publish);
        }
        let _ = (now, number);
        effects.publishes.push(publish);
    }

    fn transmit(&mut self, now: Now, to: Peer, datagram: Vec<u8>) {
        let sent = match self.listener(to.listener) {
            Some(Listener {
                secure: Some(secure),
                ..
            }) => secure.send(now.mono, to, &datagram),
            Some(listener) => {
                listener.transmits.push((to.path(), datagram));
                true
            }
            None => false,
        };
        if !sent {
            self.counters.datagrams_send_failed.inc();
        }
    }

    /// Takes what the sessions of a listener have to say; returns whether the engine heard of it,
    /// and the next deadline.
    fn drain_secure(&mut self, now: Now, index: usize) -> (bool, Option<Instant>) {
        let mut news = false;
        loop {
            let Some(listener) = self.listeners.get_mut(index) else {
                return (news, None);
            };
            let Some(secure) = &mut listener.secure else {
                return (news, None);
            };
            match secure.poll(now.mono) {
                Event::Transmit(to, datagram) => listener.transmits.push((to, datagram)),
                Event::Received(peer, payload) => {
                    news = true;
                    self.take_datagram(now, peer, &payload);
                }
                Event::Established(peer, session) => {
                    news = true;
                    self.engine.handle_session(now, peer, session);
                }
                Event::Renewed(peer, credential) => self.engine.renew_credential(peer, credential),
                Event::Moved(peer, to) => self.engine.note_address(peer, to.remote),
                Event::Unused(peer) => {
                    if !self.engine.is_registered(peer) {
                        secure.close_unused(peer);
                    }
                }
                Event::Elsewhere(shard, from, datagram) => {
                    let mail = Mail::Datagram(listener.number, from, datagram);
                    if let Some(mailbox) = self.mailboxes.get(usize::from(shard))
                        && !mailbox.push_if_room(mail)
                    {
                        self.counters.datagrams_shed.inc();
                    }
                }
                Event::Crowded => {
                    let number = listener.number;
                    for mailbox in self.others() {
                        // Only commands are ever refused.
                        let _ = mailbox.push(Mail::GiveWay(number));
                    }
                }
                Event::Closed(peer) => {
                    news = true;
                    self.engine.handle_session_closed(peer);
                }
                Event::Idle(deadline) => return (news, deadline),
            }
        }
    }

    /// The mailboxes of the other shards.
    fn others(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        let own = usize::from(self.index);
        let all = self.mailboxes.iter().enumerate();
        all.filter_map(move |(index, mailbox)| (index != own).then_some(mailbox))
    }

    /// Asks the host, whose answer comes back by mail.
    fn authorize(&self, id: AuthorizationId, registration: RegistrationRequest) {
        let mailbox = self.mailbox.clone();
        let answer = move |decision: Option<Decision>| {
            let decision = decision.unwrap_or(Decision::Unavailable);
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Authorization(id, decision));
        };
        self.host.authorize(AuthorizationRequest {
            registration,
            answer: Some(Box::new(answer)),
        });
    }

    pub(super) fn send(&mut self) {
        for listener in &mut self.listeners {
            if !listener.transmits.is_empty() {
                let failed = listener.socket.send(&listener.transmits);
                self.counters.datagrams_send_failed.add(failed as u64);
                listener.transmits.clear();
            }
        }
    }

    pub(super) fn flush(&mut self, effects: &mut Effects) {
        self.send();
        if !effects.device_events.is_empty() {
            self.host.device_events(&mut effects.device_events);
            effects.device_events.clear();
        }
        let answered = std::mem::take(&mut effects.answered);
        let receipts = std::mem::take(&mut effects.receipts);
        let published = !effects.publishes.is_empty();
        let store = self.store.as_ref();
        let waits = store.filter(|_| !answered.is_empty() || !receipts.is_empty());
        match waits.map(|store| store.when_answered(self.index, answered, receipts)) {
            Some(receipt) if effects.publishes.is_empty() => receipt.settle(Ok(())),
            Some(receipt) => self.host.publish_answers(&mut effects.publishes, receipt),
            None if effects.publishes.is_empty() => {}
            None => self.host.publish(&mut effects.publishes),
        }
        effects.publishes.clear();
        if published {
            let time = self.clock.now().mono - self.turn;
            self.counters.timings.handed_over(time);
        }
    }
}
