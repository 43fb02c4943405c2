//! What the broker asks and tells us: commands, logins, messages that it drops.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::codec::v5::{PublishAckReason, PublishProperties};
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{AuthResult, FromType as OriginType, PublishAclResult, PublishResult};

use super::super::common::Commands;
use super::super::outbox::Outbox;
use super::forward;
use super::gate::{Gate, Verdict};
use super::held::Ledger;
use super::logins::Logins;
use crate::host::{Message, ReplyTo};

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
    ] {
        register.add(asked, Box::new(hook.clone())).await;
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

/// The one user that is let in.
#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Vec<u8>,
}

/// See the module.
#[derive(Clone)]
pub(super) struct BrokerHook {
    pub(super) commands: Arc<dyn Commands>,
    pub(super) user: Option<User>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) gate: Arc<Gate>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) logins: Arc<Logins>,
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
        if is_command && self.gate.verdict(client) != Verdict::Refused {
            let properties = publish.properties.as_ref();
            let message = Message {
                topic: publish.topic.to_string(),
                payload: publish.payload.to_vec(),
                expiry: properties
                    .and_then(|properties| properties.message_expiry_interval)
                    .map(NonZeroU32::get),
                reply: properties.and_then(reply_to).map(Box::new),
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

    async fn authenticate(&self, connect: &rmqtt::types::ConnectInfo, user: &User) -> AuthResult {
        let right = || {
            connect.username().is_some_and(|name| **name == *user.name)
                && connect
                    .password()
                    .is_some_and(|password| same(password, &user.password))
        };
        let source = connect.id().remote_addr.map(|address| address.ip());
        match self.logins.attempt(source, right).await {
            true => AuthResult::Allow(false, None),
            false => AuthResult::BadUsernameOrPassword,
        }
    }
}

#[async_trait]
impl Handler for BrokerHook {
    // The trait leaves out the lifetime, and async-trait wants the same here.
    #[allow(elided_lifetimes_in_paths)]
    async fn hook(&self, parameter: &Parameter, result: Option<HookResult>) -> ReturnType {
        match parameter {
            Parameter::MessagePublish(session, _, publish) => {
                return (true, Some(self.published(*session, publish).await));
            }
            Parameter::MessagePublishCheckAcl(session, publish)
                if self.commands.is_command(&publish.topic) =>
            {
                if let Some(refused) = self.refusal(session).await {
                    let refused = HookResult::PublishAclResult(PublishAclResult(refused));
                    return (false, Some(refused));
                }
            }
            Parameter::MessageDropped(to, origin, publish, _) => match (origin.typ(), to) {
                (OriginType::System, _) => self.outbox.count_dropped(1),
                (OriginType::Admin, Some(session)) => {
                    if let Some(number) = forward::marker(&publish.topic) {
                        self.gate.marker_out(&session.client_id, number);
                    }
                }
                _ => {}
            },
            Parameter::ClientAuthenticate(connect) => {
                if let Some(user) = &self.user {
                    let verdict = self.authenticate(connect, user).await;
                    return (false, Some(HookResult::AuthResult(verdict)));
                }
            }
            _ => {}
        }
        (true, result)
    }
}

/// Compares secrets in a time that does not tell how much of them is right.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let unlike = given
        .iter()
        .zip(expected)
        .fold(0, |unlike, (a, b)| unlike | (a ^ b));
    given.len() == expected.len() && unlike == 0
}
