//! The embedded broker: `rmqtt` as a library, in this process, without a socket between it and
//! the gateway. Messages of its clients are seen by a hook, ours go straight to its router.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use rmqtt::codec::types::{Publish as MqttPublish, QoS};
use rmqtt::codec::v5::PublishProperties;
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use rmqtt::session::SessionState;
use rmqtt::types::{AuthResult, From as Origin, Id, Publish as RoutedPublish};
use tokio::runtime::Runtime;

use super::outbox::Outbox;
use super::{BrokerError, Commands};
use crate::config::Config;
use crate::host::{Message, Publish};
use crate::telemetry::Counters;

/// QoS 1 and 2 messages on their way to one subscriber; a client of MQTT 5 may ask for fewer.
const IN_FLIGHT: u16 = 256;

/// How long a subscriber may leave the connection blocked before it is closed.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages moved to the router in one go.
const BATCH: usize = 256;

/// A broker in this process.
pub struct Embedded {
    /// Taken when the broker is closed.
    runtime: Mutex<Option<Runtime>>,
    context: ServerContext,
    /// Taken when the broker opens.
    listener: Mutex<Option<Listener>>,
    address: SocketAddr,
    outbox: Arc<Outbox>,
    client_id: String,
    user: Option<User>,
}

#[derive(Clone)]
struct User {
    name: String,
    password: Vec<u8>,
}

impl Embedded {
    pub(super) fn new(config: &Config, counters: Arc<Counters>) -> Result<Self, BrokerError> {
        let mqtt = &config.mqtt;
        let runtime = super::threads("mqtt-broker")?;
        let user = mqtt.username.as_ref().map(|name| User {
            name: name.clone(),
            password: mqtt.password.clone().unwrap_or_default().into_bytes(),
        });
        let listener = {
            // The socket registers with the reactor of the runtime.
            let _guard = runtime.enter();
            Builder::new()
                .name("mqtt")
                .laddr(mqtt.bind)
                .reuseaddr(Some(true))
                .nodelay(true)
                .allow_anonymous(user.is_none())
                .max_packet_size(super::max_packet_size(config))
                .max_inflight(NonZeroU16::new(IN_FLIGHT).unwrap_or(NonZeroU16::MIN))
                .max_mqueue_len(mqtt.max_queued)
                .send_timeout(SEND_TIMEOUT)
                // Zero: messages for an absent subscriber do not expire before its session, and
                // delivered ones carry no expiry that nobody asked for.
                .message_expiry_interval(Duration::ZERO)
                .bind()
                .and_then(Listener::tcp)
                .map_err(|error| match error.downcast::<io::Error>() {
                    Ok(source) => BrokerError::Bind {
                        address: mqtt.bind,
                        source,
                    },
                    Err(error) => BrokerError::Broker(error.to_string()),
                })?
        };
        let address = listener
            .local_addr()
            .map_err(|error| BrokerError::Broker(error.to_string()))?;
        // The busy check would turn clients away by the load of the whole machine.
        let context = runtime.block_on(ServerContext::new().busy_check_enable(false).build());
        Ok(Self {
            runtime: Mutex::new(Some(runtime)),
            context,
            listener: Mutex::new(Some(listener)),
            address,
            outbox: Arc::new(Outbox::new(mqtt.max_queued, counters)),
            client_id: mqtt.client_id.clone(),
            user,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn publish(&self, batch: &mut Vec<Publish>) {
        self.outbox.push(batch);
    }

    pub(super) fn open(&self, commands: Arc<dyn Commands>) {
        let runtime = self.runtime.lock();
        let (Some(runtime), Some(listener)) = (&*runtime, self.listener.lock().take()) else {
            return;
        };
        let context = self.context.clone();
        let hook = BrokerHook {
            commands,
            user: self.user.clone(),
            outbox: Arc::clone(&self.outbox),
        };
        runtime.block_on(register(&context, hook));
        let id = Id::from(context.node.id(), self.client_id.as_str().into());
        runtime.spawn(forward(
            context.clone(),
            Origin::from_system(id),
            Arc::clone(&self.outbox),
        ));
        let server = MqttServer::new(context).listener_by_id(listener, 1).build();
        runtime.spawn(async move {
            if let Err(error) = server.run().await {
                tracing::error!(%error, "the embedded broker has ended");
            }
        });
    }

    /// Waits until every queue is empty, then ends the broker's threads.
    pub(super) fn close(&self, deadline: Duration) {
        let Some(runtime) = self.runtime.lock().take() else {
            return;
        };
        let end = Instant::now() + deadline;
        let empty = async {
            // Twice: a message is in no queue for an instant while it moves from one to the next.
            let mut rounds_empty = 0;
            while rounds_empty < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let waiting = self.outbox.len() > 0 || sessions_have_messages(&self.context).await;
                rounds_empty = if waiting { 0 } else { rounds_empty + 1 };
            }
        };
        let _ = runtime.block_on(async { tokio::time::timeout(deadline, empty).await });
        runtime.shutdown_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// Whether a connected subscriber has messages to come.
async fn sessions_have_messages(context: &ServerContext) -> bool {
    let sessions: Vec<_> = context
        .extends
        .shared()
        .await
        .iter()
        .filter_map(|entry| entry.session())
        .collect();
    for session in sessions {
        if session.connected().await.unwrap_or(false) && !session.deliver_queue().is_empty() {
            return true;
        }
    }
    false
}

/// Hands our messages to the router, in order, without a task or a channel for each.
async fn forward(context: ServerContext, origin: Origin, outbox: Arc<Outbox>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        outbox.take(BATCH, &mut batch).await;
        for publish in batch.drain(..) {
            let qos = QoS::try_from(publish.qos).unwrap_or(QoS::AtMostOnce);
            let message = MqttPublish {
                dup: false,
                retain: false,
                qos,
                topic: publish.topic.into(),
                packet_id: None,
                payload: publish.payload.into(),
                properties: Some(PublishProperties::default()),
            };
            let message = RoutedPublish::new(Box::new(message), None, None, None);
            let routed =
                SessionState::forwards(&context, origin.clone(), message, false, None).await;
            if let Err(error) = routed {
                outbox.count_dropped(1);
                tracing::debug!(%error, "a message could not be routed");
            }
        }
    }
}

async fn register(context: &ServerContext, hook: BrokerHook) {
    let register = context.extends.hook_mgr().register();
    register
        .add(Type::MessagePublish, Box::new(hook.clone()))
        .await;
    register
        .add(Type::MessageDropped, Box::new(hook.clone()))
        .await;
    register.add(Type::ClientAuthenticate, Box::new(hook)).await;
    register.start().await;
}

/// What the broker asks and tells us.
#[derive(Clone)]
struct BrokerHook {
    commands: Arc<dyn Commands>,
    user: Option<User>,
    outbox: Arc<Outbox>,
}

#[async_trait]
impl Handler for BrokerHook {
    // The trait leaves out the lifetime, and async-trait wants the same here.
    #[allow(elided_lifetimes_in_paths)]
    async fn hook(&self, parameter: &Parameter, result: Option<HookResult>) -> ReturnType {
        match parameter {
            Parameter::MessagePublish(_, _, publish)
                if self.commands.is_command(&publish.topic) =>
            {
                self.commands.deliver(Message {
                    topic: publish.topic.to_string(),
                    payload: publish.payload.to_vec(),
                    expiry: publish
                        .properties
                        .as_ref()
                        .and_then(|properties| properties.message_expiry_interval)
                        .map(std::num::NonZeroU32::get),
                });
                if publish.retain {
                    // A retained command would be executed anew with every later subscription.
                    let mut once = (*publish).clone();
                    once.retain = false;
                    return (true, Some(HookResult::Publish(once)));
                }
            }
            Parameter::MessageDropped(_, origin, _, _) if origin.is_system() => {
                self.outbox.count_dropped(1);
            }
            Parameter::ClientAuthenticate(connect) => {
                if let Some(user) = &self.user {
                    let right = connect.username().is_some_and(|name| **name == *user.name)
                        && connect
                            .password()
                            .is_some_and(|password| same(password, &user.password));
                    let verdict = if right {
                        AuthResult::Allow(false, None)
                    } else {
                        AuthResult::BadUsernameOrPassword
                    };
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
