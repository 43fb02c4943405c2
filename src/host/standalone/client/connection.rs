//! One connection to the broker, from CONNECT to its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::super::common::Commands;
use super::super::outbox::Held;
use super::inbox;
use super::session::{self, FILTERS_AT_ONCE, Fact, Session};
use super::shared::Shared;
use super::wire::{
    Codec, Connect, Delivery, Incoming, Message, Outgoing, ReadError, Version, Welcome, WriteError,
};
use crate::runtime::monotonic;
use crate::store::Receipt;
use crate::telemetry::limited;

/// Bytes ready to be sent from which on nothing is added to them but answers.
const OUTPUT_FULL: usize = 256 << 10;

/// Bytes ready to be sent from which on the broker is not listened to any more, so that answers
/// to it cannot pile up.
const OUTPUT_STUCK: usize = 4 * OUTPUT_FULL;

/// Half of how long a filter stays that nobody wants any more.
const SWEEP: Duration = Duration::from_secs(1);

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("refused: {0}")]
    Refused(String),
    /// The broker knows no such user, or the password is wrong.
    #[error("refused: {0}")]
    Credentials(String),
    /// The broker may speak another version: it says so, answers what is no answer, or nothing.
    #[error("no answer to CONNECT of MQTT {version}: {reason}")]
    OtherVersion { version: Version, reason: String },
    /// The session that the broker had is gone, as it should be.
    #[error("the old session has been cleared")]
    Cleared,
    #[error("another client has connected with the same client identifier")]
    TakenOver,
    #[error("{0}")]
    Said(String),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("CONNECT: {0}")]
    Write(#[from] WriteError),
    #[error("the broker does not answer")]
    Silent,
}

/// A connection, with what it borrows from the client.
pub(super) struct Connection<'a, S> {
    stream: S,
    codec: Codec,
    input: BytesMut,
    output: BytesMut,
    /// Whether something was written since the last flush.
    written: bool,
    session: &'a mut Session,
    shared: &'a Arc<Shared>,
    commands: &'a dyn Commands,
    /// Of messages of QoS 0 that are ready to be sent.
    unsent: Vec<Receipt>,
    /// Whether a refusal of messages has been logged on this connection.
    complained: bool,
    /// Whether the client is closed: no command is taken, and the end comes when all is said.
    closing: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    pub(super) fn new(
        stream: S,
        (version, max_packet): (Version, u32),
        session: &'a mut Session,
        shared: &'a Arc<Shared>,
        commands: &'a dyn Commands,
    ) -> Self {
        Self {
            stream,
            codec: Codec::new(version, max_packet),
            input: BytesMut::new(),
            output: BytesMut::new(),
            written: false,
            session,
            shared,
            commands,
            unsent: Vec::new(),
            complained: false,
            closing: false,
        }
    }

    /// Sends CONNECT and waits for the answer.
    pub(super) async fn connect(&mut self, connect: Connect) -> Result<Welcome, Ended> {
        let version = self.codec.version();
        self.greet(connect).await.map_err(|ended| match ended {
            // What a broker does that cannot read CONNECT: it hangs up, or answers in the form of
            // another version.
            Ended::Closed | Ended::Io(_) | Ended::Read(_) => Ended::OtherVersion {
                version,
                reason: ended.to_string(),
            },
            ended => ended,
        })
    }

    async fn greet(&mut self, connect: Connect) -> Result<Welcome, Ended> {
        let version = self.codec.version();
        self.codec
            .write(Outgoing::Connect(connect), &mut self.output)?;
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await?;
        loop {
            match self.codec.read(&mut self.input)? {
                Some(Incoming::Welcome(welcome)) => return Ok(welcome),
                Some(Incoming::Refused(refusal)) if refusal.version => {
                    let reason = refusal.reason;
                    return Err(Ended::OtherVersion { version, reason });
                }
                Some(Incoming::Refused(refusal)) if refusal.credentials => {
                    return Err(Ended::Credentials(refusal.reason));
                }
                Some(Incoming::Refused(refusal)) => return Err(Ended::Refused(refusal.reason)),
                Some(Incoming::Disconnect(reason)) => return Err(Ended::Refused(reason)),
                Some(_) => return Err(Ended::Said("no answer to CONNECT".to_owned())),
                None => {}
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Ended::Closed);
            }
        }
    }

    /// Serves the connection until it breaks, or until the client is closed and everything is
    /// acknowledged, which is `Ok`.
    pub(super) async fn serve(mut self, welcome: Welcome, keepalive: u16) -> Result<(), Ended> {
        self.codec.set_max_out(welcome.max_packet);
        self.resume(&welcome);
        let mut pings = pings(welcome.keepalive.unwrap_or(keepalive));
        let mut sweeps = tokio::time::interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = false;
        let mut batch = Vec::new();
        loop {
            // In this order: whoever closes has paused before.
            self.closing = self.shared.closing.load(Ordering::Acquire);
            if self.shared.pausing.load(Ordering::Acquire) {
                self.session.pause();
            }
            while self.output.len() < OUTPUT_STUCK {
                let Some(packet) = self.codec.read(&mut self.input)? else {
                    break;
                };
                self.handle(packet)?;
            }
            self.acknowledge();
            self.ask();
            if self.is_done() {
                return self.disconnect().await;
            }
            let room = self.session.room();
            let full = self.output.len() >= OUTPUT_FULL;
            let stuck = self.output.len() >= OUTPUT_STUCK;
            let flushing = self.output.is_empty();
            let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
            tokio::select! {
                read = reader.read_buf(&mut self.input), if !stuck => {
                    if read? == 0 {
                        return Err(Ended::Closed);
                    }
                    unanswered = false;
                }
                sent = push_out(&mut writer, &mut self.output), if !flushing || self.written => {
                    sent?;
                    self.written = !flushing;
                    if flushing {
                        self.settle_unsent();
                    }
                }
                () = self.shared.outbox.take(room, OUTPUT_FULL, &mut batch), if room > 0 && !full => {
                    // What waits may be the report of a device that is about to get commands.
                    self.ask();
                    for held in batch.drain(..) {
                        self.publish(held);
                    }
                }
                () = self.shared.changed.notified() => self.ask(),
                _ = sweeps.tick() => self.sweep(),
                // The flags are looked at above.
                () = self.shared.control.notified() => {}
                () = tick(&mut pings) => {
                    if std::mem::replace(&mut unanswered, true) {
                        return Err(Ended::Silent);
                    }
                    self.send(Outgoing::Ping);
                }
            }
        }
    }

    /// Puts the subscriptions and what was unfinished before everything new.
    fn resume(&mut self, welcome: &Welcome) {
        let wanted = (self.shared.subscriptions.lock()).begin(welcome.session_present);
        let (packets, done) = self.session.resume(welcome, &wanted);
        for bytes in done {
            self.shared.outbox.settle(bytes);
        }
        for packet in packets {
            self.send(packet);
        }
        if let Some(owner) = &self.shared.owner {
            owner.connected(welcome.session_present);
        }
    }

    /// Asks for what is wanted by now.
    fn ask(&mut self) {
        while self.session.may_ask() {
            let filters = (self.shared.subscriptions.lock()).take_new(FILTERS_AT_ONCE);
            if filters.is_empty() {
                return;
            }
            if let Some(packet) = self.session.subscribe(filters) {
                self.send(packet);
            }
        }
    }

    /// Takes back what has not been wanted for a while.
    fn sweep(&mut self) {
        let filters = self.shared.subscriptions.lock().sweep();
        for filters in filters.chunks(FILTERS_AT_ONCE) {
            if let Some(packet) = self.session.unsubscribe(filters.to_vec()) {
                self.send(packet);
            }
        }
    }

    /// Whether the client is closed and nothing is left to say.
    fn is_done(&self) -> bool {
        self.closing
            && self.output.is_empty()
            && !self.written
            && self.session.is_idle()
            && self.shared.outbox.is_empty()
    }

    /// Ends the connection as it should be.
    pub(super) async fn disconnect(mut self) -> Result<(), Ended> {
        self.send(Outgoing::Disconnect);
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// Acknowledges what is handled by now.
    fn acknowledge(&mut self) {
        let handled = std::mem::take(&mut *self.shared.handled.lock());
        for number in handled {
            self.session.handled(number);
        }
        while let Some(packet) = self.session.acknowledge() {
            self.send(packet);
        }
    }

    /// What was ready is on its way.
    fn settle_unsent(&mut self) {
        for receipt in self.unsent.drain(..) {
            receipt.settle(Ok(()));
        }
    }

    fn publish(&mut self, held: Held) {
        let Held { publish, receipt } = held;
        let owner = self.shared.owner.as_ref();
        let message = Message {
            retain: publish.is_retained()
                || owner.is_some_and(|owner| owner.retains(&publish.topic)),
            topic: Bytes::from(publish.topic),
            payload: Bytes::from(publish.payload),
            qos: publish.qos,
            correlation: publish.correlation.map(Bytes::from),
        };
        let size = session::size(&message);
        match self.session.publish(message) {
            Some(packet) => {
                match (&packet, receipt) {
                    (Outgoing::Publish { id: Some(id), .. }, Some(receipt)) => {
                        self.session.attach(*id, receipt);
                    }
                    (_, receipt) => self.unsent.extend(receipt),
                }
                self.send(packet);
            }
            None => self.drop_message(size, "no free packet identifier"),
        }
    }

    fn send(&mut self, packet: Outgoing) {
        let message = match &packet {
            Outgoing::Publish { id, message, .. } => Some((*id, session::size(message))),
            _ => None,
        };
        match (self.codec.write(packet, &mut self.output), message) {
            (Ok(()), Some((None, size))) => self.shared.outbox.settle(size),
            (Ok(()), _) => {}
            (Err(error), Some((id, size))) => {
                // A message that cannot be sent would break every connection anew.
                if let Some(id) = id {
                    self.session.take_back(id);
                }
                self.drop_message(size, &error.to_string());
            }
            (Err(error), None) => tracing::warn!(%error, "packet not sent"),
        }
    }

    /// Hands a command over. One of QoS 1 or 2 is acknowledged once it is safe: the store has it,
    /// or the broker its answer.
    fn deliver(&self, delivery: &Delivery, number: Option<u64>) {
        let message = crate::host::Message {
            topic: delivery.topic.clone(),
            payload: delivery.payload.to_vec(),
            expiry: delivery.expiry,
            reply: delivery.reply.clone(),
        };
        let (Some(number), Some(origin)) = (number, inbox::origin(delivery)) else {
            return self.commands.deliver(message);
        };
        let shared = Arc::clone(self.shared);
        let receipt = Receipt::of_message(origin, move |_| {
            // Whatever became of it, it has been taken.
            shared.handled.lock().push(number);
            shared.control.notify_one();
        });
        self.commands.deliver_durably(message, receipt);
    }

    fn drop_message(&mut self, size: usize, reason: &str) {
        self.shared.outbox.settle(size);
        self.shared.outbox.count_dropped(1);
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%reason, "message not published; further ones are counted but not logged");
        }
    }

    fn handle(&mut self, packet: Incoming) -> Result<(), Ended> {
        for fact in self.session.handle(packet) {
            match fact {
                Fact::Send(packet) => self.send(packet),
                Fact::Command(delivery) => {
                    let number = self.session.number_of(&delivery);
                    let owner = self.shared.owner.as_ref();
                    if let Some(owner) = owner.filter(|it| it.concerns(&delivery.topic)) {
                        owner.heard(&delivery.topic, &delivery.payload);
                    } else if !self.closing && self.commands.is_command(&delivery.topic) {
                        self.deliver(&delivery, number);
                        continue;
                    }
                    if let Some(number) = number {
                        self.session.handled(number);
                    }
                }
                Fact::Settled(size) => self.shared.outbox.settle(size),
                Fact::Rejected(size, topic, reason) => {
                    self.shared.outbox.settle(size);
                    self.shared.outbox.refused();
                    let topic = topic.unwrap_or_default();
                    let topic = String::from_utf8_lossy(&topic);
                    limited!(
                        WARN,
                        self.shared.outbox.counters(),
                        monotonic(),
                        PublishRefused,
                        %topic,
                        %reason,
                        "the broker refuses a message: allow the gateway's user to publish to this topic there"
                    );
                }
                Fact::FilterRefused(filter, reason) => {
                    let counters = self.shared.outbox.counters();
                    counters.subscriptions_refused.add_shared(1);
                    limited!(
                        WARN,
                        counters,
                        monotonic(),
                        SubscriptionRefused,
                        %filter,
                        %reason,
                        "the broker refuses a subscription, so its commands do not arrive: allow the gateway's user to subscribe to this filter there"
                    );
                }
                Fact::TakenOver => return Err(Ended::TakenOver),
                Fact::End(reason) => return Err(Ended::Said(reason)),
            }
        }
        Ok(())
    }
}

impl<S> Drop for Connection<'_, S> {
    /// Messages of QoS 0 are lost with a connection: nothing more comes of them.
    fn drop(&mut self) {
        for receipt in self.unsent.drain(..) {
            receipt.settle(Ok(()));
        }
    }
}

/// Writes some of `output`, or flushes when it is empty. Cancelling loses nothing.
async fn push_out(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut BytesMut,
) -> Result<(), Ended> {
    if output.is_empty() {
        return Ok(writer.flush().await?);
    }
    match writer.write_buf(output).await? {
        0 => Err(Ended::Closed),
        _ => Ok(()),
    }
}

/// The rhythm of PINGREQ; none with a keep-alive of zero.
fn pings(seconds: u16) -> Option<Interval> {
    let period = Duration::from_secs(seconds.into());
    (seconds > 0).then(|| {
        let mut interval = tokio::time::interval_at(Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    })
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
