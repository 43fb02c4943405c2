//! What the broker asks and tells us: commands, logins, messages that it drops.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::codec::v5::{PublishAckReason, PublishProperties, SubscribeAckReason};
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ConnectInfo, FromType as OriginType, Id, LastWill, PublishAclResult, PublishResult,
    Reason, SubscribeAclResult,
};

use super::super::common::Commands;
use super::super::outbox::Outbox;
use super::access::{Access, Doors};
use super::acl::Wish;
use super::forward;
use super::front::{Guest, Guests};
use super::gate::{Gate, Verdict};
use super::held::Ledger;
use super::logins::Logins;
use super::session_keeper::outlasts;
use super::sessions::Sessions;
use crate::host::{Message, ReplyTo};
use crate::telemetry::Counters;

/// Number of the listener behind TLS and WebSocket.
pub(super) const INSIDE: u16 = 2;

/// Messages that a connected client gets in a moment.
const MOMENT: usize = 16;

/// Between the last message to a client that goes on to send commands at the end, and its
/// disconnection: with what it has sent unread, the system may throw away what is not there yet.
const GOODBYE: Duration = Duration::from_millis(500);

pub(super) async fn register(context: &ServerContext, hook: BrokerHook) {
    let register = context.extends.hook_mgr().register();
    for asked in [
        Type::MessagePublish,
        Type::MessageDropped,
        Type::ClientAuthenticate,
        Type::ClientConnected,
        Type::ClientDisconnected,
        Type::SessionSubscribed,
        Type::SessionUnsubscribed,
        Type::SessionTerminated,
        Type::MessageAcked,
    ] {
        register.add(asked, Box::new(hook.clone())).await;
    }
    if hook.doors.now().has_rules() {
        // The broker asks these for every message.
        for asked in [
            Type::ClientSubscribeCheckAcl,
            Type::MessagePublishCheckAcl,
            Type::MessageExpiryCheck,
        ] {
            register.add(asked, Box::new(hook.clone())).await;
        }
    }
    register.start().await;
}

/// Lets commands through only while the gate is open. Not before the end, since the broker asks
/// this for every message.
pub(super) async fn guard(context: &ServerContext, hook: BrokerHook) {
    let register = context.extends.hook_mgr().register();
    register
        .add(Type::MessagePublishCheckAcl, Box::new(hook))
        .await;
    register.start().await;
}

/// See the module.
#[derive(Clone)]
pub(super) struct BrokerHook {
    pub(super) commands: Arc<dyn Commands>,
    pub(super) doors: Doors,
    /// Who came in by TLS or WebSocket.
    pub(super) guests: Option<Guests>,
    pub(super) counters: Arc<Counters>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) gate: Arc<Gate>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) logins: Arc<Logins>,
    /// Those that outlast their connection.
    pub(super) sessions: Arc<Sessions>,
}

fn reply_to(properties: &PublishProperties) -> Option<ReplyTo> {
    let topic = properties.response_topic.as_deref()?;
    let correlation = properties.correlation_data.as_deref();
    Some(ReplyTo::new(topic, correlation))
}

impl BrokerHook {
    /// Takes what is a command; the message that goes on to subscribers.
    async fn published(
        &self,
        session: Option<&Session>,
        publish: &rmqtt::types::Publish,
    ) -> HookResult {
        let is_command = self.commands.is_command(&publish.topic);
        let client = session.map(|it| &it.id.client_id);
        // The broker asks for the rules only after this. A will without a session was asked for when
        // its client came (`allows_will`).
        let may = || session.is_none_or(|it| self.allows(it, Wish::Write, &publish.topic));
        if is_command && self.gate.verdict(client) != Verdict::Refused && may() {
            let properties = publish.properties.as_ref();
            let message = Message {
                topic: publish.topic.to_string(),
                payload: publish.payload.to_vec(),
                expiry: properties
                    .and_then(|properties| properties.message_expiry_interval)
                    .map(NonZeroU32::get),
                reply: (properties.and_then(reply_to))
                    .filter(|reply| session.is_none_or(|it| self.may_name(it, reply.topic())))
                    .map(Box::new),
            };
            self.gate.hand_over(&*self.commands, message);
            if let Some(session) = session
                && self.gate.verdict(Some(&session.id.client_id)) == Verdict::Owed
            {
                self.mark_behind_answer(session).await;
            }
        }
        let mut counted = publish.clone();
        counted.payload = self
            .ledger
            .count(publish.topic.len(), publish.payload.clone());
        // A retained command would be executed anew with every later subscription.
        counted.retain = publish.retain && !is_command;
        HookResult::Publish(counted)
    }

    /// The answer to a command at the end needs a marker behind it. With more before it than a
    /// moment's worth, only the older marker is made void: acknowledgements and commands take
    /// turns, and the client waits for neither.
    async fn mark_behind_answer(&self, session: &Session) {
        if session.deliver_queue().len() > MOMENT {
            self.gate.mark(session.id.client_id.clone());
        } else {
            forward::routed(&self.outbox).await;
            forward::mark(session.context(), session, &self.gate).await;
        }
    }

    /// What the client is told of a command that came at the end.
    async fn refusal(&self, session: &Session) -> Option<PublishResult> {
        match self.gate.verdict(Some(&session.id.client_id)) {
            Verdict::Through | Verdict::Owed => None,
            Verdict::Refused => {
                tokio::time::sleep(GOODBYE).await;
                Some(PublishResult::reason_code(
                    PublishAckReason::ImplementationSpecificError,
                    Some("the gateway is stopping".into()),
                    true,
                ))
            }
        }
    }

    /// Judges a CONNECT.
    async fn let_in(&self, connect: &ConnectInfo) -> AuthResult {
        let access = self.doors.now();
        let id = connect.id();
        let guest = self.guest(id);
        if guest.is_none() && is_inside(id) {
            // Somebody on this machine has found the way that only our own threads may take.
            return AuthResult::NotAuthorized;
        }
        let identity = guest.as_ref().and_then(|guest| guest.identity.as_deref());
        let name = identity.or_else(|| connect.username().map(|name| &**name));
        if !allows_will(connect, name, &access) {
            return AuthResult::NotAuthorized;
        }
        let verdict = match access.is_open() || identity.is_some() {
            true => AuthResult::Allow(false, None),
            false => {
                let peer = guest.as_ref().map(|guest| guest.peer).or(id.remote_addr);
                self.authenticate(connect, peer, &access).await
            }
        };
        if let (Some(guests), Some(guest), AuthResult::Allow(..)) = (&self.guests, &guest, &verdict)
        {
            guests.logged_in(guest);
        }
        verdict
    }

    fn guest(&self, id: &Id) -> Option<Guest> {
        let guests = self.guests.as_ref().filter(|_| is_inside(id))?;
        guests.find(id.remote_addr)
    }

    /// Lets somebody act in the name of a session: its user, and its client identifier.
    fn as_client<R>(
        &self,
        session: &Session,
        act: impl FnOnce(&Access, (Option<&str>, &str)) -> R,
    ) -> R {
        let guest = self.guest(&session.id);
        let identity = guest.as_ref().and_then(|guest| guest.identity.as_deref());
        let user = identity.or(session.id.username.as_deref());
        act(&self.doors.now(), (user, &session.id.client_id))
    }

    async fn authenticate(
        &self,
        connect: &ConnectInfo,
        address: Option<SocketAddr>,
        access: &Access,
    ) -> AuthResult {
        let name = connect.username().map(|name| &**name);
        let password = connect.password().map(|password| &**password);
        // A hash may take its time.
        let right = || tokio::task::block_in_place(|| access.lets_in(name, password));
        let source = address.map(|address| address.ip());
        if self.logins.attempt(source, right).await {
            return AuthResult::Allow(false, None);
        }
        self.counters.mqtt_logins_failed.add_shared(1);
        let (client_id, peer) = (&connect.id().client_id, address.map(|it| it.to_string()));
        tracing::debug!(user = name, %client_id, peer, "MQTT login failed");
        AuthResult::BadUsernameOrPassword
    }

    fn allows(&self, session: &Session, wish: Wish, topic: &str) -> bool {
        self.as_client(session, |access, who| access.allows(who, wish, topic))
    }

    /// Whether an answer may go to `topic` because this client wants it there.
    fn may_name(&self, session: &Session, topic: &str) -> bool {
        self.allows(session, Wish::Read, topic) || self.allows(session, Wish::Write, topic)
    }

    /// Something that the rules do not allow.
    fn denied(&self, session: &Session, what: &str, topic: &str) {
        self.counters.mqtt_denied.add_shared(1);
        self.as_client(session, |_, (user, client_id)| {
            tracing::debug!(
                user,
                client_id,
                topic,
                "{what} is not allowed (mqtt.acl_file)"
            );
        });
    }
}

#[async_trait]
impl Handler for BrokerHook {
    // The trait leaves out the lifetime, and async-trait wants the same here.
    #[allow(elided_lifetimes_in_paths)]
    async fn hook(&self, parameter: &Parameter, result: Option<HookResult>) -> ReturnType {
        if let Parameter::MessageDropped(Some(to), _, publish, _) = parameter {
            self.sessions.done(&to.client_id, publish);
        }
        match parameter {
            Parameter::MessagePublish(session, _, publish) => {
                return (true, Some(self.published(*session, publish).await));
            }
            Parameter::MessagePublishCheckAcl(session, publish)
                if !self.allows(session, Wish::Write, &publish.topic) =>
            {
                self.denied(session, "to write", &publish.topic);
                let refused = PublishAclResult::rejected(false, None);
                return (false, Some(HookResult::PublishAclResult(refused)));
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                let filter = &subscribe.topic_filter;
                let may =
                    |access: &Access, who: (Option<&str>, &str)| access.allows_filter(who, filter);
                if !self.as_client(session, may) {
                    self.denied(session, "to subscribe", filter);
                    let refused =
                        SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized);
                    return (false, Some(HookResult::SubscribeAclResult(refused)));
                }
            }
            // Not those that mark how far a session is.
            Parameter::MessageExpiryCheck(session, origin, publish)
                if !matches!(origin.typ(), OriginType::Admin)
                    && !self.allows(session, Wish::Read, &publish.topic) =>
            {
                return (false, Some(HookResult::MessageExpiry));
            }
            Parameter::MessagePublishCheckAcl(session, publish)
                if self.commands.is_command(&publish.topic) =>
            {
                if let Some(refused) = self.refusal(session).await {
                    let refused = HookResult::PublishAclResult(PublishAclResult(refused));
                    return (false, Some(refused));
                }
            }
            Parameter::ClientConnected(session)
            | Parameter::ClientDisconnected(session, _)
            | Parameter::SessionSubscribed(session, _)
            | Parameter::SessionUnsubscribed(session, _)
            | Parameter::SessionTerminated(session, _)
            | Parameter::MessageAcked(session, _, _) => {
                note(&self.sessions, session, parameter).await;
            }
            Parameter::MessageDropped(to, origin, publish, reason) => match (origin.typ(), to) {
                // What the rules keep from a subscriber is not lost; messages of ours do not expire.
                (OriginType::System, _) if matches!(reason, Reason::MessageExpiration) => {}
                (OriginType::System, _) => self.outbox.count_dropped(1),
                (OriginType::Admin, Some(session)) => {
                    if let Some(number) = forward::marker(&publish.topic) {
                        self.gate.marker_out(&session.client_id, number);
                    }
                }
                _ => {}
            },
            Parameter::ClientAuthenticate(connect) => {
                let verdict = self.let_in(connect).await;
                return (false, Some(HookResult::AuthResult(verdict)));
            }
            _ => {}
        }
        (true, result)
    }
}

/// What happens to a session that may outlive the process.
async fn note(sessions: &Sessions, session: &Session, parameter: &Parameter<'_>) {
    match parameter {
        Parameter::ClientConnected(_) => {
            let is_resumed = session.session_present().await.unwrap_or(false);
            sessions.connected(&session.id, outlasts(session).await, is_resumed);
        }
        Parameter::ClientDisconnected(..) => sessions.disconnected(&session.id),
        Parameter::SessionTerminated(..) => sessions.ended(&session.id),
        Parameter::MessageAcked(_, _, publish) => sessions.done(&session.id.client_id, publish),
        _ => sessions.changed(&session.id),
    }
}

/// Whether a client may publish what it leaves for its end; nobody asks for it then.
fn allows_will(connect: &ConnectInfo, name: Option<&str>, access: &Access) -> bool {
    let who = (name, &*connect.id().client_id);
    let will = connect.last_will();
    will.is_none_or(|will| {
        let topic = match &will {
            LastWill::V3(will) => &will.topic,
            LastWill::V5(will) => &will.topic,
        };
        access.allows(who, Wish::Write, topic)
    })
}

/// Whether a client has come by the listener behind TLS and WebSocket.
fn is_inside(id: &Id) -> bool {
    id.lid == INSIDE
}
