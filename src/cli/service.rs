//! A gateway with its broker, from start to end: what `run` and `demo` have in common.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::config::read::ConfigWarning;
use crate::engine::PortableSession;
use crate::host::standalone::{Broker, BrokerError, Commands};
use crate::host::{Host, Message};
use crate::mqtt::Origin;
use crate::runtime::Gateway;
use crate::store::Receipt;
use crate::telemetry::Counters;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::notify::{State, notify};
use super::options::GatewayOptions;

/// Time to drain at the end.
const DEADLINE: Duration = Duration::from_secs(5);

/// A running gateway with its broker.
pub(crate) struct Service {
    options: GatewayOptions,
    config: Config,
    pub(crate) gateway: Gateway,
    broker: Arc<Broker>,
    host_counters: Arc<Counters>,
    /// Until it serves.
    signals: Option<Signals>,
}

struct ToGateway(Gateway);

impl Commands for ToGateway {
    fn is_command(&self, topic: &str) -> bool {
        self.0.is_command(topic)
    }

    fn deliver(&self, message: Message) {
        self.0.deliver(message);
    }

    fn deliver_durably(&self, message: Message, receipt: Receipt) {
        self.0.deliver_durably(message, receipt);
    }

    fn taken_before(&self) -> Vec<Origin> {
        self.0.stored_origins()
    }

    fn export(&self, endpoint: &str) -> Option<PortableSession> {
        self.0.export(endpoint)
    }

    fn import(&self, endpoint: &str, session: PortableSession) -> bool {
        self.0.import(endpoint, session)
    }
}

impl Service {
    /// Starts everything; `wrap` may put something between gateway and broker.
    ///
    /// # Errors
    ///
    /// One line that says what keeps it from starting.
    pub(crate) fn start(
        options: GatewayOptions,
        config: Config,
        warnings: &[ConfigWarning],
        host_counters: Arc<Counters>,
        wrap: impl FnOnce(Arc<Broker>) -> Arc<dyn Host>,
    ) -> Result<Self, String> {
        // Before anybody can know that it runs: a signal would kill it.
        let signals = Signals::new()?;
        for warning in warnings {
            warn!(key = warning.key, "{}", warning.message);
        }
        let broker = Broker::new(&config, Arc::clone(&host_counters)).map_err(no_broker)?;
        let broker = Arc::new(broker);
        match config.store.directory() {
            Some(path) => info!(path = %path.display(), "using the store (store.path)"),
            None => info!(
                "running without a store: a restart loses all devices and commands (store.path)"
            ),
        }
        let gateway = Gateway::start(config.clone(), wrap(Arc::clone(&broker))).map_err(line)?;
        broker.open(Arc::new(ToGateway(gateway.clone())));
        for (name, address) in gateway.listeners() {
            match name.split_once(':') {
                Some(("dtls", name)) => info!(dtls = %address, name, "listening"),
                Some((_, name)) => info!(udp = %address, name, "listening"),
                None => info!(%address, name, "listening"),
            }
        }
        if let Some(address) = broker.address() {
            info!(mqtt = %address, "listening");
        }
        Ok(Self {
            options,
            config,
            gateway,
            broker,
            host_counters,
            signals: Some(signals),
        })
    }

    /// Serves until SIGTERM, SIGINT or `enough`, then drains and ends.
    pub(crate) fn serve(mut self, enough: impl Future<Output = ()>) {
        notify(State::Ready);
        if let Some(mut signals) = self.signals.take() {
            signals.runtime.block_on(async {
                tokio::pin!(enough);
                loop {
                    tokio::select! {
                        _ = signals.terminate.recv() => break,
                        _ = signals.interrupt.recv() => break,
                        () = &mut enough => break,
                        _ = signals.hangup.recv() => self.reload(),
                        _ = signals.statistics.recv() => self.log_statistics(),
                    }
                }
            });
            // What a task of ours still waits for, such as a line from a terminal, may not come.
            signals.runtime.shutdown_background();
        }
        self.stop();
    }

    /// Where the embedded broker listens.
    pub(crate) fn mqtt_address(&self) -> Option<SocketAddr> {
        self.broker.address()
    }

    /// Ends gateway and broker within the deadline: takes no more commands, answers what was taken,
    /// and hands the answers over.
    fn stop(&self) {
        notify(State::Stopping);
        info!("stopping");
        let end = Instant::now() + DEADLINE;
        self.broker.pause();
        self.gateway.stop(DEADLINE);
        self.broker
            .close(end.saturating_duration_since(Instant::now()));
        self.log_statistics();
        info!("stopped");
    }

    /// Reads the configuration again, and tells the service manager.
    fn reload(&mut self) {
        notify(State::Reloading);
        notify(match self.read_again() {
            true => State::Ready,
            false => State::NotReloaded,
        });
    }

    /// Whether there is a new configuration; a wrong one is refused as a whole.
    fn read_again(&mut self) -> bool {
        let (config, warnings) = match self.options.load() {
            Ok(loaded) => loaded,
            Err(errors) => {
                for error in errors {
                    error!("configuration not reloaded: {error}");
                }
                return false;
            }
        };
        for warning in warnings {
            warn!(key = warning.key, "{}", warning.message);
        }
        let log = (&config.log.level, config.log.json);
        if config.mqtt != self.config.mqtt || log != (&self.config.log.level, self.config.log.json)
        {
            warn!("changes of mqtt and log take effect at the next start");
        }
        if let Err(error) = self.broker.reload(&config) {
            error!("the broker keeps its previous users and rules: {error}");
        }
        match self.gateway.reload(config.clone()) {
            Ok(()) => {
                self.config = config;
                true
            }
            Err(error) => {
                error!("configuration not reloaded: {error}");
                false
            }
        }
    }

    fn log_statistics(&self) {
        let mut statistics = self.gateway.statistics().0;
        for (name, count) in self.host_counters.snapshot() {
            *statistics.entry(name).or_default() += count;
        }
        let text = serde_json::to_string(&statistics).unwrap_or_default();
        info!(counters = %text, "statistics");
    }
}

/// The signals that it acts on, from now on.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    statistics: Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(line)?;
        let listen = |kind| {
            let _inside = runtime.enter();
            signal(kind).map_err(line)
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            statistics: listen(SignalKind::user_defined1())?,
            runtime,
        })
    }
}

/// Why there is no broker, and what to do about it.
fn no_broker(error: BrokerError) -> String {
    match &error {
        BrokerError::Bind { address, source } if source.kind() == ErrorKind::AddrInUse => {
            format!(
                "{error}. If another broker listens there, use that one with --broker mqtt://{}, or give another port with --mqtt PORT",
                reachable(*address)
            )
        }
        _ => error.to_string(),
    }
}

/// Where a program on this machine finds a listener.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn line(error: impl Display) -> String {
    error.to_string()
}
