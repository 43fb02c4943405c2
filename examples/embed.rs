//! The smallest host: prints the messages of the gateway, and reads commands from standard input.
//!
//!     cargo run --example embed -- listeners.udp.default.bind=127.0.0.1:5683
//!
//! Each argument sets a key of `docs/configuration.md`. A line of the input is a topic and a
//! command, such as
//!
//!     lwm2m/sim-0/dn {"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}
//!
//! A device to talk to: `lwm2m-gateway simulate --server coap://127.0.0.1`.

use std::error::Error;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::{ConfigSource, Gateway, Host, Message, Publish};

/// Stands for a broker.
struct Terminal;

/// Called from the threads of the gateway. A host that cannot accept a message at once must queue it.
impl Host for Terminal {
    fn publish(&self, batch: &mut Vec<Publish>) {
        let mut out = io::stdout().lock();
        for message in batch.drain(..) {
            let json = String::from_utf8_lossy(&message.payload);
            // The reader is gone: nothing can be done about it.
            let _ = writeln!(out, "{} {json}", message.topic);
        }
    }

    /// A line of the input may have any topic.
    fn subscribe(&self, _filter: &str, _qos: u8) {}

    fn unsubscribe(&self, _filter: &str) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut source = ConfigSource::default();
    for setting in std::env::args().skip(1) {
        let (key, value) = setting.split_once('=').ok_or("arguments are KEY=VALUE")?;
        source.set(key, value);
    }
    let (config, warnings) = source.read().map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    for warning in warnings {
        writeln!(io::stderr(), "{warning}")?;
    }
    let gateway = Gateway::start(config, Arc::new(Terminal))?;
    for (name, address) in gateway.listeners() {
        writeln!(io::stderr(), "listening {name}={address}")?;
    }
    for line in io::stdin().lines() {
        let line = line?;
        let (topic, json) = line.split_once(' ').unwrap_or((&line, ""));
        gateway.deliver(Message {
            topic: topic.to_owned(),
            payload: json.into(),
            expiry: None,
            reply: None,
        });
    }
    gateway.stop(Duration::from_secs(5));
    Ok(())
}
