//! Writes what [`Sessions`] knows to the disk, by group commits, and makes sessions of it again.

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rmqtt::context::ServerContext;
use rmqtt::inflight::OutInflightMessage;
use rmqtt::session::{Session, SessionState};
use rmqtt::types::{
    ClientId, ConnectInfo, DisconnectInfo, Id, ListenerConfig, ListenerId, SessionSubs,
};

use super::held::Ledger;
use super::kept::KeptError;
use super::session_file::{Batch, Found, FoundMessage, FoundSession, Record, SessionFile, millis};
use super::sessions::Sessions;

/// How long changes are collected, and what the end of the process without a word loses at most.
const TOGETHER: Duration = Duration::from_millis(200);

/// How long a database that cannot be written is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// How often the time is written while there is nothing else.
const SEEN: Duration = Duration::from_secs(60);

/// Listeners of the broker, by their numbers.
pub(super) type Listeners = Vec<(ListenerId, ListenerConfig)>;

/// See the module.
pub(super) struct SessionKeeper {
    pub(super) sessions: Arc<Sessions>,
    /// Only with a store.
    file: Option<Arc<SessionFile>>,
    /// What could not be written, if `Some`.
    failed: Mutex<Option<Batch>>,
    /// One round after the other.
    turn: tokio::sync::Mutex<Instant>,
}

impl SessionKeeper {
    /// Opens the file in `directory`.
    pub(super) fn open(directory: &Path, sessions: Sessions) -> Result<(Self, Found), KeptError> {
        let (file, found) = SessionFile::open(directory)?;
        let keeper = Self {
            file: Some(Arc::new(file)),
            ..Self::without_file(sessions)
        };
        Ok((keeper, found))
    }

    /// For sessions that end with the process.
    pub(super) fn without_file(sessions: Sessions) -> Self {
        Self {
            sessions: Arc::new(sessions),
            file: None,
            failed: Mutex::default(),
            turn: tokio::sync::Mutex::new(Instant::now()),
        }
    }

    /// Makes sessions of what was found; those that have ended meanwhile are dropped.
    pub(super) async fn restore(
        &self,
        context: &ServerContext,
        ledger: &Arc<Ledger>,
        listeners: &Listeners,
        found: Found,
    ) {
        let now = SystemTime::now();
        let seen = i64::try_from(millis(found.seen)).unwrap_or(i64::MAX);
        let (mut restored, mut ended, mut messages) = (0usize, 0usize, 0usize);
        for session in found.sessions {
            let Some(rest) = rest(&session.record, seen, now) else {
                self.sessions.gone(session.number);
                ended += 1;
                continue;
            };
            let number = session.number;
            match self
                .restore_one(context, ledger, listeners, session, seen, rest)
                .await
            {
                Ok(count) => {
                    restored += 1;
                    messages += count;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot restore a stored MQTT session");
                    self.sessions.gone(number);
                }
            }
        }
        if restored > 0 || ended > 0 {
            tracing::info!(restored, ended, messages, "MQTT sessions restored");
        }
    }

    async fn restore_one(
        &self,
        context: &ServerContext,
        ledger: &Arc<Ledger>,
        listeners: &Listeners,
        session: FoundSession,
        seen: i64,
        rest: Duration,
    ) -> rmqtt::Result<usize> {
        let FoundSession {
            number,
            record,
            messages,
        } = session;
        let id = record.id;
        let of = |lid| listeners.iter().find(|(number, _)| *number == lid);
        // It may have come by a listener that is not there any more.
        let listener = of(id.lid).or_else(|| listeners.first());
        let Some((_, listener)) = listener.cloned() else {
            return Ok(0);
        };
        let connect = Arc::new(record.connect);
        let fitters = context.extends.fitter_mgr().await;
        let fitter = fitters.create(Arc::clone(&connect), id.clone(), listener.clone());
        drop(fitters);
        let since = record.disconnected_at.unwrap_or(seen);
        let subscriptions = record.subscriptions;
        let session = Session::new(
            id.clone(),
            context.clone(),
            fitter.max_mqueue_len(),
            listener,
            Arc::clone(&fitter),
            None,
            fitter.max_inflight(),
            record.created_at,
            connect,
            false,
            false,
            false,
            record.connected_at,
            SessionSubs::from(subscriptions.clone()),
            Some(DisconnectInfo::new(since)),
            None,
        )
        .await?;
        let next = messages.last().map_or(1, |it| it.number.saturating_add(1));
        self.sessions.restored(number, &id, next);
        let mut count = 0;
        for message in messages {
            count += usize::from(self.restore_message(&session, ledger, message).await);
        }
        let inbox = SessionState::offline_restart(session.clone(), rest).await?;
        let mut entry = context.extends.shared().await.entry(id.clone());
        entry.set(session, inbox).await?;
        let router = context.extends.router().await;
        for (filter, options) in subscriptions {
            router.add(&filter, id.clone(), options).await?;
        }
        Ok(count)
    }

    /// Whether there is room for it.
    async fn restore_message(
        &self,
        session: &Session,
        ledger: &Arc<Ledger>,
        message: FoundMessage,
    ) -> bool {
        let FoundMessage {
            number,
            origin,
            mut publish,
            flight,
        } = message;
        let client = &session.id.client_id;
        publish.payload = ledger.count(publish.topic.len(), std::mem::take(&mut publish.payload));
        let mark = self
            .sessions
            .restored_message(client, number, (&origin, &publish), flight);
        let Some(mark) = mark else {
            return false;
        };
        publish.delay_interval = Some(mark);
        let sent = flight.and_then(|it| Some((NonZeroU16::new(it.packet_id)?, it)));
        let Some((packet_id, flight)) = sent else {
            let pushed = session.deliver_queue().push((origin, publish));
            if let Err((_, publish)) = &pushed {
                self.sessions.done(client, publish);
            }
            return pushed.is_ok();
        };
        publish.packet_id = Some(packet_id);
        let status = flight.status(publish.qos);
        let message = OutInflightMessage::new(status, origin, publish);
        session.out_inflight().write().await.push_back(message);
        true
    }

    /// Goes on as long as the broker.
    pub(super) async fn keep(self: Arc<Self>, context: ServerContext) {
        let mut pause = TOGETHER;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.commit(&context).await {
                true => TOGETHER,
                false => RETRY,
            };
        }
    }

    /// Writes what has changed by now; whether that succeeds.
    pub(super) async fn commit(&self, context: &ServerContext) -> bool {
        let Some(file) = &self.file else {
            // Only what has to be forgotten by now.
            drop(self.sessions.take());
            return true;
        };
        let mut last = self.turn.lock().await;
        let before = self.failed.lock().take();
        let was_failing = before.is_some();
        if let Some(batch) = before
            && !self.write(file, batch, was_failing).await
        {
            return false;
        }
        for look in self.sessions.looks() {
            self.look(context, look.client, look.has_changed).await;
        }
        let batch = self.sessions.take();
        let is_due = last.elapsed() > SEEN && !self.sessions.is_empty();
        if batch.is_empty() && !is_due {
            return true;
        }
        *last = Instant::now();
        if !self.write(file, batch, false).await {
            return false;
        }
        if was_failing {
            tracing::info!("MQTT sessions can be written again");
        }
        true
    }

    /// Says that it fails once, not at each attempt.
    async fn write(&self, file: &Arc<SessionFile>, batch: Batch, was_failing: bool) -> bool {
        let file = Arc::clone(file);
        let written = tokio::task::spawn_blocking(move || {
            let written = file.write(&batch, SystemTime::now());
            (batch, written)
        });
        match written.await {
            Ok((_, Ok(()))) => true,
            Ok((batch, Err(error))) => {
                *self.failed.lock() = Some(batch);
                if !was_failing {
                    tracing::error!(%error, "cannot write MQTT sessions: changes will be lost when the process ends");
                }
                false
            }
            // The process ends.
            Err(_) => false,
        }
    }

    async fn look(&self, context: &ServerContext, client: ClientId, has_changed: bool) {
        let id = Id::from(context.node.id(), client.clone());
        let session = context.extends.shared().await.entry(id).session();
        let Some(session) = session else {
            // On its way from one connection to the next: what is written of it stands.
            return;
        };
        let record = match has_changed {
            true => record(&session).await,
            false => None,
        };
        let in_flight = session.out_inflight().write().await;
        let in_flight = { in_flight }.clone_inflight_messages();
        self.sessions.seen(&client, record, &in_flight);
    }
}

/// How long a session lasts yet.
fn rest(record: &Record, seen: i64, now: SystemTime) -> Option<Duration> {
    let lasts = Duration::from_secs(record.lasts.into());
    if record.lasts == u32::MAX {
        return Some(lasts);
    }
    let now = i64::try_from(millis(now)).unwrap_or(i64::MAX);
    let since = record.disconnected_at.unwrap_or(seen);
    // A clock that was put back takes nothing away.
    let gone = u64::try_from(now.saturating_sub(since)).unwrap_or_default();
    let rest = lasts.saturating_sub(Duration::from_millis(gone));
    (!rest.is_zero()).then_some(rest)
}

async fn record(session: &Session) -> Option<Record> {
    let connect = session.connect_info().await.ok()?;
    let disconnect = session.disconnect().await.ok()?;
    let lasts = session.fitter.session_expiry_interval(disconnect.as_ref());
    let disconnected_at = session.disconnected_at().await.ok()?;
    let subscriptions = session.subscriptions().await.ok()?;
    Some(Record {
        id: session.id.clone(),
        connect: without_secrets(&connect),
        created_at: session.created_at().await.ok()?,
        connected_at: session.connected_at().await.ok()?,
        disconnected_at: Some(disconnected_at).filter(|at| *at != 0),
        lasts: u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX),
        subscriptions: subscriptions.read().await.clone(),
    })
}

/// A CONNECT without what does not belong on the disk, and without the will: a connection that has
/// ended with the process has none.
fn without_secrets(connect: &ConnectInfo) -> ConnectInfo {
    let mut connect = connect.clone();
    match &mut connect {
        ConnectInfo::V3(_, connect) => {
            (connect.password, connect.last_will, connect.cert) = (None, None, None);
        }
        ConnectInfo::V5(_, connect) => {
            (connect.password, connect.last_will, connect.cert) = (None, None, None);
            (connect.auth_data, connect.user_properties) = (None, Vec::new());
        }
    }
    connect
}

/// Whether the session of a client outlasts its connection.
pub(super) async fn outlasts(session: &Session) -> bool {
    match session.connect_info().await.as_deref() {
        Ok(ConnectInfo::V3(_, connect)) => !connect.clean_session,
        Ok(ConnectInfo::V5(..)) => !session.fitter.session_expiry_interval(None).is_zero(),
        Err(_) => false,
    }
}
