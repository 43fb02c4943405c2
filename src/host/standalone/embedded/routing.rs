//! The broker library's table of sessions, as one that lets [`Sessions`] see what comes for those that
//! outlive the process, and that loses and reorders nothing while such a session goes from one
//! connection to the next. A client that comes back at once waits for the end of its last connection,
//! where the library would turn it away.

use std::sync::Arc;

use async_trait::async_trait;
use rmqtt::Result;
use rmqtt::context::ServerContext;
use rmqtt::session::Session;
use rmqtt::shared::{DefaultShared, Entry, RetainLoadCallback, Shared};
use rmqtt::types::{
    ForwardedCount, ForwardedRecipients, From as Origin, Id, IsAdmin, MsgID, NodeId,
    OfflineSession, Publish, Reason, SessionStatus, SubRelations, SubRelationsMap,
    SubsSearchParams, SubsSearchResult, Subscribe, SubscribeReturn, To, TopicFilter, Tx,
    Unsubscribe,
};

use super::sessions::{Came, Sessions};
use super::turns::{Turn, Turns};

/// What was not forwarded, and why.
type Failed = Vec<(To, Origin, Publish, Reason)>;

/// See the module.
pub(super) struct Routing {
    context: ServerContext,
    inner: DefaultShared,
    sessions: Arc<Sessions>,
    turns: Arc<Turns>,
}

impl Routing {
    pub(super) fn new(context: ServerContext, sessions: Arc<Sessions>) -> Self {
        let inner = DefaultShared::new(Some(context.clone()));
        Self {
            context,
            inner,
            sessions,
            turns: Arc::default(),
        }
    }

    fn watched(&self, inner: Box<dyn Entry>) -> Box<dyn Entry> {
        Box::new(Watched {
            context: self.context.clone(),
            inner,
            sessions: Arc::clone(&self.sessions),
            turns: Arc::clone(&self.turns),
            _turn: None,
        })
    }

    /// Hands a message to those of `relations` whose sessions outlive the process, and leaves the
    /// others there. Returns how many got it.
    fn forward(
        &self,
        origin: &Origin,
        publish: &Publish,
        relations: &mut SubRelations,
        failed: &mut Failed,
    ) -> usize {
        let mut count = 0;
        relations.retain(|(_, client, options, ids, _)| {
            if !self.sessions.has(client) {
                return true;
            }
            let mut copy = publish.clone();
            copy.dup = false;
            copy.retain = publish.retain && options.retain_as_published() == Some(true);
            copy.qos = publish.qos.less_value(options.qos());
            copy.packet_id = None;
            if let (Some(ids), Some(properties)) = (ids, copy.properties.as_mut()) {
                properties.subscription_ids.clone_from(ids);
            }
            let inbox = || self.inner.tx(client).map(|(inbox, _)| inbox);
            match self.sessions.came(client, origin.clone(), copy, inbox) {
                Came::Untracked(..) => return true,
                Came::Taken => count += 1,
                Came::Failed(origin, publish, reason) => {
                    let to = To::from(self.context.node.id(), client.clone());
                    failed.push((to, origin, publish, reason));
                }
            }
            false
        });
        count
    }
}

#[async_trait]
impl Shared for Routing {
    fn entry(&self, id: Id) -> Box<dyn Entry> {
        self.watched(self.inner.entry(id))
    }

    fn exist(&self, client_id: &str) -> bool {
        self.inner.exist(client_id)
    }

    async fn forwards(
        &self,
        msg_id: Option<MsgID>,
        from: Origin,
        publish: Publish,
    ) -> std::result::Result<ForwardedCount, (ForwardedCount, Failed)> {
        if self.sessions.is_empty() || publish.target_clientid.is_some() {
            return self.inner.forwards(msg_id, from, publish).await;
        }
        let router = self.context.extends.router().await;
        let found = router.matches(from.id.clone(), &publish.topic).await;
        drop(router);
        let mut found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot route a message");
            SubRelationsMap::default()
        });
        let Some(mut relations) = found.remove(&self.context.node.id()) else {
            return Ok(0);
        };
        let mut failed = Failed::new();
        let mut count = self.forward(&from, &publish, &mut relations, &mut failed);
        if !relations.is_empty() {
            let others = self.inner.forwards_to(from, &publish, relations, msg_id);
            let (got, more) = others
                .await
                .map_or_else(|(got, failed)| (got, failed), |got| (got, Failed::new()));
            count += got.len();
            failed.extend(more);
        }
        match failed.is_empty() {
            true => Ok(count),
            false => Err((count, failed)),
        }
    }

    async fn forwards_and_get_shareds(
        &self,
        from: Origin,
        publish: Publish,
    ) -> std::result::Result<(SubRelationsMap, ForwardedRecipients), (ForwardedRecipients, Failed)>
    {
        self.inner.forwards_and_get_shareds(from, publish).await
    }

    async fn forwards_to(
        &self,
        from: Origin,
        publish: &Publish,
        relations: SubRelations,
        msg_id: Option<MsgID>,
    ) -> std::result::Result<ForwardedRecipients, (ForwardedRecipients, Failed)> {
        self.inner
            .forwards_to(from, publish, relations, msg_id)
            .await
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Box<dyn Entry>> + Sync + Send + '_> {
        self.inner.iter()
    }

    fn random_session(&self) -> Option<Session> {
        self.inner.random_session()
    }

    async fn session_status(&self, client_id: &str) -> Option<SessionStatus> {
        self.inner.session_status(client_id).await
    }

    async fn client_states_count(&self) -> usize {
        self.inner.client_states_count().await
    }

    fn sessions_count(&self) -> usize {
        self.inner.sessions_count()
    }

    async fn query_subscriptions(&self, query: &SubsSearchParams) -> Vec<SubsSearchResult> {
        self.inner.query_subscriptions(query).await
    }

    async fn subscriptions_count(&self) -> usize {
        self.inner.subscriptions_count().await
    }

    async fn retain_load_with(
        &self,
        filter: &TopicFilter,
        callback: Arc<dyn RetainLoadCallback>,
    ) -> Result<Vec<(NodeId, MsgID)>> {
        let retained = self.context.extends.retain().await.get(filter).await?;
        callback.on_retains(retained).await
    }
}

/// A place in the table.
struct Watched {
    context: ServerContext,
    inner: Box<dyn Entry>,
    sessions: Arc<Sessions>,
    turns: Arc<Turns>,
    /// Behind the lock of the library, which is given back first.
    _turn: Option<Turn>,
}

impl Watched {
    /// Ends the connection that has the session. One that is ending by itself does not answer; the next
    /// attempt finds it gone.
    async fn displace(
        &mut self,
        clean_start: bool,
        clear_subscriptions: bool,
        is_admin: IsAdmin,
    ) -> Result<OfflineSession> {
        let first = self
            .inner
            .kick(clean_start, clear_subscriptions, is_admin)
            .await;
        match first {
            Err(_) => {
                self.inner
                    .kick(clean_start, clear_subscriptions, is_admin)
                    .await
            }
            ended => ended,
        }
    }
}

#[async_trait]
impl Entry for Watched {
    async fn try_lock(&self) -> Result<Box<dyn Entry>> {
        let turn = self.turns.take(&self.inner.id().client_id).await;
        let turn = turn.ok_or_else(|| rmqtt::Error::msg("too many connections at a time"))?;
        Ok(Box::new(Self {
            context: self.context.clone(),
            inner: self.inner.try_lock().await?,
            sessions: Arc::clone(&self.sessions),
            turns: Arc::clone(&self.turns),
            _turn: Some(turn),
        }))
    }

    fn id(&self) -> Id {
        self.inner.id()
    }

    fn id_same(&self) -> Option<bool> {
        self.inner.id_same()
    }

    async fn set(&mut self, session: Session, tx: Tx) -> Result<()> {
        let id = session.id.clone();
        if let Some((subscriptions, highest)) = self.sessions.moving_subscriptions(&id.client_id) {
            let router = self.context.extends.router().await;
            for (filter, options) in &subscriptions {
                router.add(filter, id.clone(), options.clone()).await?;
            }
            drop(router);
            session.subscriptions_extend(subscriptions).await?;
            // Those that are sent again keep their packet identifiers.
            let in_flight = session.out_inflight().write().await;
            in_flight.advance_next_id(highest);
        }
        self.inner.set(session, tx.clone()).await?;
        for (origin, publish, reason) in self.sessions.arrived(&id, &tx) {
            let hooks = self.context.extends.hook_mgr();
            hooks
                .message_dropped(Some(id.clone()), origin, publish, reason)
                .await;
        }
        Ok(())
    }

    async fn remove(&mut self) -> Result<Option<(Session, Tx)>> {
        self.inner.remove().await
    }

    async fn remove_with(&mut self, id: &Id) -> Result<Option<(Session, Tx)>> {
        self.inner.remove_with(id).await
    }

    async fn kick(
        &mut self,
        clean_start: bool,
        clear_subscriptions: bool,
        is_admin: IsAdmin,
    ) -> Result<OfflineSession> {
        let client = self.inner.id().client_id.clone();
        if clean_start || is_admin {
            return self
                .displace(clean_start, clear_subscriptions, is_admin)
                .await;
        }
        self.sessions.leave(&client);
        let kicked = self
            .displace(clean_start, clear_subscriptions, is_admin)
            .await;
        match kicked {
            Ok(OfflineSession::Exist(state)) => {
                let state = self.sessions.left(&client, state);
                Ok(OfflineSession::Exist(state))
            }
            Ok(OfflineSession::NotExist) => Ok(match self.sessions.left(&client, None) {
                Some(state) => OfflineSession::Exist(Some(state)),
                None => OfflineSession::NotExist,
            }),
            Err(error) => {
                self.sessions.stayed(&client, self.inner.tx().as_ref());
                Err(error)
            }
        }
    }

    async fn online(&self) -> bool {
        self.inner.online().await
    }

    async fn is_connected(&self) -> bool {
        self.inner.is_connected().await
    }

    fn session(&self) -> Option<Session> {
        self.inner.session()
    }

    fn exist(&self) -> bool {
        self.inner.exist()
    }

    fn tx(&self) -> Option<Tx> {
        self.inner.tx()
    }

    async fn subscribe(&self, subscribe: &Subscribe) -> Result<SubscribeReturn> {
        self.inner.subscribe(subscribe).await
    }

    async fn unsubscribe(&self, unsubscribe: &Unsubscribe) -> Result<bool> {
        self.inner.unsubscribe(unsubscribe).await
    }

    async fn publish(
        &self,
        from: Origin,
        publish: Publish,
    ) -> std::result::Result<(), (Origin, Publish, Reason)> {
        if self.sessions.is_empty() || is_marker(&from) {
            return self.inner.publish(from, publish).await;
        }
        let client = self.inner.id().client_id.clone();
        match self
            .sessions
            .came(&client, from, publish, || self.inner.tx())
        {
            Came::Untracked(from, publish) => self.inner.publish(from, publish).await,
            Came::Taken => Ok(()),
            Came::Failed(from, publish, reason) => Err((from, publish, reason)),
        }
    }

    async fn subscriptions(&self) -> Option<Vec<SubsSearchResult>> {
        self.inner.subscriptions().await
    }
}

/// Not for the client: says how far its session is.
fn is_marker(origin: &Origin) -> bool {
    matches!(origin.typ(), rmqtt::types::FromType::Admin)
}
