//! The command `demo`: gateway, broker and one simulated device in one process, with what goes
//! over MQTT on the screen and commands from the keyboard.

mod command;
mod show;

use std::io::{self, BufRead as _, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::config::Config;
use crate::config::broker_url::BrokerUrl;
use crate::host::standalone::Broker;
use crate::host::{Host, Message, Publish, Subscriptions};
use crate::memory::Memory;
use crate::runtime::Gateway;
use crate::simulate;
use crate::telemetry::Counters;
use clap::Parser;
use tokio::sync::Notify;

use super::options::GatewayOptions;
use super::service::Service;
use super::{logging, say};

pub(crate) const AFTER_HELP: &str = "\
Type help for the commands. Without a terminal the demo reads one value by itself and runs until
SIGTERM. Everything on the screen also goes over MQTT: the demo prints the topics, and the
mosquitto_pub line that does the same as what is typed.";

/// Messages on their way to the screen; what comes faster is not shown.
const ON_SCREEN: usize = 1000;

/// What `simulate` takes, as a command line of its own.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct DeviceArguments {
    #[command(flatten)]
    options: simulate::Options,
}

/// Shows what the gateway publishes, and passes it on to the broker.
struct Screen {
    broker: Arc<Broker>,
    messages: SyncSender<Publish>,
}

impl Host for Screen {
    fn attach(&self, memory: &Arc<Memory>) {
        self.broker.attach(memory);
    }

    fn publish(&self, batch: &mut Vec<Publish>) {
        for publish in batch.iter() {
            let _ = self.messages.try_send(publish.clone());
        }
        self.broker.publish(batch);
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        self.broker.subscribe(filter, qos);
    }

    fn unsubscribe(&self, filter: &str) {
        self.broker.unsubscribe(filter);
    }

    fn subscriptions(&self) -> Subscriptions {
        self.broker.subscriptions()
    }
}

pub(crate) fn demo(mut options: GatewayOptions) -> ExitCode {
    if options.config.is_none() && options.log.is_empty() {
        // The screen belongs to the messages.
        options.log.push("warn".to_owned());
    }
    options.protect();
    let (config, warnings) = match options.load() {
        Ok(loaded) => loaded,
        Err(errors) => return say::failure(&errors),
    };
    let counters = Arc::new(Counters::default());
    let logging = match logging::start(&config.log, counters.clone()) {
        Ok(logging) => logging,
        Err(error) => return say::failure(&[error]),
    };
    let (messages, shown) = sync_channel(ON_SCREEN);
    let wrap = |broker| -> Arc<dyn Host> { Arc::new(Screen { broker, messages }) };
    let done =
        Service::start(options, config.clone(), &warnings, counters, wrap).and_then(|service| {
            let (_device, quit) = play(&service, config, shown)?;
            service.serve(async move { quit.notified().await });
            Ok(())
        });
    logging.end(done)
}

/// Starts device, screen and keyboard. The device ends when its handle is dropped.
fn play(
    service: &Service,
    config: Config,
    shown: Receiver<Publish>,
) -> Result<(simulate::Handle, Arc<Notify>), String> {
    let listeners = service.gateway.listeners();
    let udp = listeners.iter().find(|(name, _)| name.starts_with("udp:"));
    let udp = udp.map(|(_, address)| reachable(*address));
    let udp = udp.ok_or("no UDP listener for the device, give --udp")?;
    let mqtt = match (service.mqtt_address(), &config.mqtt.broker) {
        (Some(address), _) => {
            let address = reachable(address);
            (address.ip().to_string(), address.port())
        }
        (None, Some(url)) => {
            let url: BrokerUrl = url.parse()?;
            (url.host, url.port)
        }
        (None, None) => return Err("no broker".to_owned()),
    };
    let player = Arc::new(Player {
        gateway: service.gateway.clone(),
        config,
        mqtt,
        device: OnceLock::new(),
        interactive: io::stdin().is_terminal(),
    });
    let server = format!("coap://{udp}");
    let device = ["--server", &server, "--endpoint-prefix", "demo-"];
    let device = DeviceArguments::try_parse_from(device).map_err(|error| error.to_string())?;
    say::out(format_args!("listening udp={udp} (devices)"));
    say::out(format_args!(
        "listening mqtt={}:{} (applications; to see the same: mosquitto_sub {} -v -t 'lwm2m/#')",
        player.mqtt.0,
        player.mqtt.1,
        player.mqtt_options()
    ));
    let device = simulate::spawn(device.options).map_err(|error| error.to_string())?;
    let quit = Arc::new(Notify::new());
    let keyboard = (Arc::clone(&player), Arc::clone(&quit));
    spawn("screen", move || player.watch(&shown))?;
    spawn("keyboard", move || keyboard.0.listen(&keyboard.1))?;
    Ok((device, quit))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    // Not joined: both threads wait for input that may never come.
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Where a program on this machine finds a listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

struct Player {
    gateway: Gateway,
    config: Config,
    mqtt: (String, u16),
    /// The endpoint name, as soon as the device has registered.
    device: OnceLock<Arc<str>>,
    interactive: bool,
}

impl Player {
    /// Options of mosquitto's programs that lead to the broker.
    fn mqtt_options(&self) -> String {
        format!("-h {} -p {}", self.mqtt.0, self.mqtt.1)
    }

    /// Prints messages until there are no more.
    fn watch(&self, shown: &Receiver<Publish>) {
        while let Ok(publish) = shown.recv() {
            say::out(show::message(&publish));
            if self.device.set(Arc::clone(&publish.endpoint)).is_ok() {
                if self.interactive {
                    say::out("\nThe device has registered. Try: read /3/0/0   (help for more)\n");
                } else {
                    self.act("read /3/0/0");
                }
            }
        }
    }

    /// Carries out what is typed, until `quit` or the end of a terminal's input.
    fn listen(&self, quit: &Notify) {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match line.trim() {
                "" => {}
                "quit" | "exit" => return quit.notify_one(),
                "help" | "?" => say::out(command::HELP),
                line => self.act(line),
            }
        }
        if self.interactive {
            quit.notify_one();
        }
    }

    /// Sends a command to the device, as an application would.
    fn act(&self, line: &str) {
        let Some(device) = self.device.get() else {
            return say::out("The device has not registered yet.");
        };
        let payload = match command::parse(line) {
            Ok(payload) => payload,
            Err(reason) => return say::out(reason),
        };
        let topic = command::topic(&self.config, device);
        say::out(format_args!(
            "$ mosquitto_pub {} -t {} -m {}",
            self.mqtt_options(),
            command::quoted(&topic),
            command::quoted(&payload)
        ));
        self.gateway.deliver(Message {
            topic,
            payload: payload.into_bytes(),
            expiry: None,
            reply: None,
        });
    }
}
