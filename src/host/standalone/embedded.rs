//! The embedded broker: `rmqtt` as a library, in this process, without a socket between it and
//! the gateway. Messages of its clients are seen by a hook, ours go straight to its router.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
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
use rmqtt::types::{
    AuthResult, ClientId, From as Origin, FromType as OriginType, Id, Publish as RoutedPublish,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

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
    /// The task that routes our messages.
    forwarding: Mutex<Option<JoinHandle<()>>>,
    /// Sessions whose marker has come out at the end of their queue; see [`settle`].
    markers: Markers,
}

type Markers = Arc<Mutex<HashSet<ClientId>>>;

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
            forwarding: Mutex::default(),
            markers: Arc::default(),
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
            markers: Arc::clone(&self.markers),
        };
        runtime.block_on(register(&context, hook));
        let origin = Origin::from_system(self.id());
        let forwarding = forward(context.clone(), origin, Arc::clone(&self.outbox));
        *self.forwarding.lock() = Some(runtime.spawn(forwarding));
        let server = MqttServer::new(context).listener_by_id(listener, 1).build();
        runtime.spawn(async move {
            if let Err(error) = server.run().await {
                tracing::error!(%error, "the embedded broker has ended");
            }
        });
    }

    fn id(&self) -> Id {
        Id::from(self.context.node.id(), self.client_id.as_str().into())
    }

    /// Waits until connected subscribers have what is theirs, then ends the broker's threads.
    pub(super) fn close(&self, deadline: Duration) {
        let Some(runtime) = self.runtime.lock().take() else {
            return;
        };
        let end = Instant::now() + deadline;
        self.outbox.end();
        let forwarding = self.forwarding.lock().take();
        let handed_over = async {
            if let Some(forwarding) = forwarding {
                let _ = forwarding.await;
                settle(&self.context, self.id(), &self.markers).await;
            }
        };
        if runtime
            .block_on(async { tokio::time::timeout(deadline, handed_over).await })
            .is_err()
        {
            tracing::warn!("subscribers have not taken every message before the end");
        }
        runtime.shutdown_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// Waits until every connected session has sent what it was given, and got it acknowledged.
///
/// A session's inbox cannot be looked into, so each gets a marker behind everything else: a
/// message that has expired. When its turn has come it is not sent but reported as dropped.
async fn settle(context: &ServerContext, id: Id, markers: &Markers) {
    const STEP: Duration = Duration::from_millis(5);
    let mut sessions = Vec::new();
    for entry in context.extends.shared().await.iter() {
        let Some(session) = entry.session() else {
            continue;
        };
        if !session.connected().await.unwrap_or(false) {
            continue;
        }
        let message = MqttPublish {
            dup: false,
            retain: false,
            qos: QoS::AtMostOnce,
            topic: "$marker".into(),
            packet_id: None,
            payload: Default::default(),
            properties: Some(PublishProperties {
                message_expiry_interval: Some(NonZeroU32::MIN),
                ..PublishProperties::default()
            }),
        };
        let message = RoutedPublish::new(Box::new(message), None, None, Some(0));
        let marker = Origin::from_admin(id.clone());
        if entry.publish(marker, message).await.is_ok() {
            sessions.push(session);
        }
    }
    for session in sessions {
        // One that disconnects meanwhile is not waited for.
        while session.connected().await.unwrap_or(false)
            && (!markers.lock().contains(&session.id.client_id)
                || !session.out_inflight().read().await.is_empty())
        {
            tokio::time::sleep(STEP).await;
        }
    }
}

/// Hands our messages to the router, in order, without a task or a channel for each.
async fn forward(context: ServerContext, origin: Origin, outbox: Arc<Outbox>) {
    let mut batch = Vec::with_capacity(BATCH);
    while outbox.take(BATCH, &mut batch).await {
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
    markers: Markers,
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
                        .map(NonZeroU32::get),
                });
                if publish.retain {
                    // A retained command would be executed anew with every later subscription.
                    let mut once = (*publish).clone();
                    once.retain = false;
                    return (true, Some(HookResult::Publish(once)));
                }
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
