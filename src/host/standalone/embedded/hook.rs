//! What the broker asks and tells us: commands, logins, messages that it drops.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use rmqtt::codec::v5::PublishAckReason;
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::types::{AuthResult, FromType as OriginType, PublishAclResult, PublishResult};

use super::super::Commands;
use super::super::outbox::Outbox;
use super::held::Ledger;
use super::logins::Logins;
use super::{Markers, User};
use crate::host::Message;

/// How long a client waits for the acknowledgement of a command while the gateway stops, so that
/// its answers can overtake its commands.
const SLOW_DOWN: Duration = Duration::from_millis(20);

/// The way of commands from the broker to the gateway, which closes at the end: a command is
/// either handed over, and then answered, or not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Held for reading while a command is handed over.
    closed: RwLock<bool>,
    /// Commands handed over.
    passed: AtomicU64,
    stopping: AtomicBool,
}

impl Gate {
    /// From now on clients are slowed down.
    pub(super) fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Commands that were handed over, to the end.
    pub(super) fn passed(&self) -> u64 {
        let _none_under_way = self.closed.write();
        self.passed.load(Ordering::Acquire)
    }

    /// Closes, unless more than `passed` commands have come through; whether it is closed.
    pub(super) fn close_after(&self, passed: u64) -> bool {
        let mut closed = self.closed.write();
        *closed = *closed || self.passed.load(Ordering::Acquire) == passed;
        *closed
    }

    /// Closes, whatever is still on its way.
    pub(super) fn close(&self) {
        *self.closed.write() = true;
    }

    fn is_closed(&self) -> bool {
        *self.closed.read()
    }

    fn hand_over(&self, commands: &dyn Commands, message: Message) {
        let closed = self.closed.read();
        if !*closed {
            self.passed.fetch_add(1, Ordering::AcqRel);
            commands.deliver(message);
        }
    }
}

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

/// See the module.
#[derive(Clone)]
pub(super) struct BrokerHook {
    pub(super) commands: Arc<dyn Commands>,
    pub(super) user: Option<User>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) markers: Markers,
    pub(super) gate: Arc<Gate>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) logins: Arc<Logins>,
}

impl BrokerHook {
    /// Takes what is a command; the message that goes on to subscribers.
    async fn published(&self, publish: &rmqtt::types::Publish) -> HookResult {
        let is_command = self.commands.is_command(&publish.topic);
        if is_command {
            let message = Message {
                topic: publish.topic.to_string(),
                payload: publish.payload.to_vec(),
                expiry: publish
                    .properties
                    .as_ref()
                    .and_then(|properties| properties.message_expiry_interval)
                    .map(NonZeroU32::get),
            };
            self.gate.hand_over(&*self.commands, message);
            if self.gate.stopping.load(Ordering::Acquire) {
                tokio::time::sleep(SLOW_DOWN).await;
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
            Parameter::MessagePublish(_, _, publish) => {
                return (true, Some(self.published(publish).await));
            }
            Parameter::MessagePublishCheckAcl(_, publish)
                if self.gate.is_closed() && self.commands.is_command(&publish.topic) =>
            {
                // With the connection goes the acknowledgement; the client sends it again.
                let refused = PublishResult::reason_code(
                    PublishAckReason::ImplementationSpecificError,
                    Some("the gateway has stopped".into()),
                    true,
                );
                let refused = HookResult::PublishAclResult(PublishAclResult(refused));
                return (false, Some(refused));
            }
            Parameter::MessageDropped(to, origin, _, _) => match (origin.typ(), to) {
                (OriginType::System, _) => self.outbox.count_dropped(1),
                (OriginType::Admin, Some(session)) => {
                    self.markers.lock().insert(session.client_id.clone());
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
