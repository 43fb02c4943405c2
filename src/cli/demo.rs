//! The command `demo`: gateway, broker and one simulated device in one process, with what goes
//! over MQTT on the screen and commands from the keyboard.

mod command;
mod keyboard;
mod show;

use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::config::Config;
use crate::config::broker_url::BrokerUrl;
use crate::host::standalone::Broker;
use crate::host::{Host, Message, Publish, Subscriptions};
use crate::memory::Memory;
use crate::printable::Printable;
use crate::runtime::Gateway;
use crate::simulate;
use crate::system::Terminal;
use crate::telemetry::Counters;
use clap::Parser;
use tokio::sync::Notify;

use self::keyboard::Keyboard;
use super::options::GatewayOptions;
use super::service::{Service, reachable};
use super::{logging, say};

pub(crate) const AFTER_HELP: &str = "\
Type help for a list of commands. Without a terminal the demo reads one value by itself and runs
until SIGTERM. The demo prints each MQTT message with its topic, and for each command that you type
the equivalent mosquitto_pub line.";

/// The usual port of the HTTP API, and how many the demo tries.
const HTTP_PORT: u16 = 8080;
const HTTP_PORTS: u16 = 20;

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
    fn name(&self) -> &'static str {
        "standalone"
    }

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

    fn takes_states(&self) -> bool {
        self.broker.takes_states()
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
    if options.config.is_none() {
        choose_addresses(&mut options);
    }
    options.protect();
    let (mut config, warnings) = match options.load() {
        Ok(loaded) => loaded,
        Err(errors) => return say::failure(&errors),
    };
    if cfg!(feature = "http") && config.http.bind.is_none() {
        config.http.bind = free_http();
        options.http = config.http.bind.map(|bind| bind.to_string());
    }
    let counters = Arc::new(Counters::default());
    let logging = match logging::start(&config.log, counters.clone()) {
        Ok(logging) => logging,
        Err(error) => return say::failure(&[error]),
    };
    let (messages, shown) = sync_channel(ON_SCREEN);
    let wrap = |broker| -> Arc<dyn Host> { Arc::new(Screen { broker, messages }) };
    let terminal = Terminal::of_standard_input();
    let done =
        Service::start(options, config.clone(), &warnings, counters, wrap).and_then(|service| {
            let (_device, quit) = play(&service, config, shown)?;
            service.serve(async move { quit.notified().await });
            Ok(())
        });
    if let Some(terminal) = terminal {
        // A line may be half typed.
        terminal.restore();
    }
    logging.end(done)
}

/// The demo is for this machine alone, and starts whatever else runs here: where the usual port is
/// taken, on a free one.
fn choose_addresses(options: &mut GatewayOptions) {
    let is_set = |start: &str| {
        options
            .settings
            .iter()
            .any(|(key, _)| key.starts_with(start))
    };
    let (udp_is_set, mqtt_is_set) = (is_set("listeners."), is_set("mqtt."));
    let usual = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let taken = |name, address: SocketAddr| {
        let port = address.port();
        say::out(format_args!(
            "{name} port {port} is in use on this machine; the demo uses a free port."
        ));
        SocketAddr::new(address.ip(), 0)
    };
    if options.udp.is_none() && options.dtls.is_none() && !udp_is_set {
        let mut address = usual(5683);
        if UdpSocket::bind(address).is_err() {
            address = taken("UDP", address);
        }
        options.udp = Some(address.to_string());
    }
    if options.mqtt.is_none() && options.broker.is_none() && !mqtt_is_set {
        let mut address = usual(1883);
        if TcpListener::bind(address).is_err() {
            address = taken("MQTT", address);
        }
        options.mqtt = Some(address.to_string());
    }
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
    let udp = udp.ok_or("there is no UDP listener for the device: give --udp")?;
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
    let (screen, keyboard) = keyboard::open();
    let player = Arc::new(Player {
        screen,
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
        "listening mqtt={}:{} (applications; to see these messages elsewhere: mosquitto_sub {} -v -t 'lwm2m/#')",
        player.mqtt.0,
        player.mqtt.1,
        player.mqtt_options()
    ));
    #[cfg(feature = "http")]
    if let Some(http) = service.gateway.http_address() {
        say::out(format_args!(
            "listening http={http} (console: http://{http}/)"
        ));
    }
    let device = simulate::spawn(device.options).map_err(|error| error.to_string())?;
    let quit = Arc::new(Notify::new());
    let (listener, enough) = (Arc::clone(&player), Arc::clone(&quit));
    spawn("screen", move || player.watch(&shown))?;
    spawn("keyboard", move || listener.listen(keyboard, &enough))?;
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

/// Where the demo serves the HTTP API unless it is told: the usual port or the next one that is
/// free.
fn free_http() -> Option<SocketAddr> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = (HTTP_PORT..HTTP_PORT + HTTP_PORTS).find(free)?;
    Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

struct Player {
    screen: keyboard::Screen,
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
            self.screen.show(show::message(&publish, self.screen.color));
            if self.device.set(Arc::clone(&publish.endpoint)).is_ok() {
                if self.interactive {
                    let hint = "The device has registered. Try: read /3/0/0   (help for more)";
                    self.screen.show(format_args!("\n{hint}\n"));
                } else {
                    self.act("read /3/0/0");
                }
            }
        }
    }

    /// Carries out what is typed, until `quit` or the end of a terminal's input.
    fn listen(&self, keyboard: Keyboard, quit: &Notify) {
        let ended = keyboard.lines(|line| {
            match line.trim() {
                "" => {}
                "quit" | "exit" => {
                    quit.notify_one();
                    return false;
                }
                "help" | "?" => self.screen.show(command::HELP),
                line => self.act(line),
            }
            true
        });
        if ended && self.interactive {
            quit.notify_one();
        }
    }

    /// Sends a command to the device, as an application would.
    fn act(&self, line: &str) {
        let Some(device) = self.device.get() else {
            return self.screen.show("The device has not registered yet.");
        };
        let payload = match command::parse(line) {
            Ok(payload) => payload,
            Err(reason) => return self.screen.show(Printable(&reason)),
        };
        let topic = command::topic(&self.config, device);
        let command = format!(
            "$ mosquitto_pub {} -t {} -m {}",
            self.mqtt_options(),
            command::quoted(&topic),
            command::quoted(&payload)
        );
        self.screen.show(Printable(&command));
        self.gateway.deliver(Message {
            topic,
            payload: payload.into_bytes(),
            expiry: None,
            reply: None,
        });
    }
}
