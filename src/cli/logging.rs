//! Log lines on standard error, as text or JSON.

use std::io::{self, IsTerminal as _};

use lwm2m_gateway::config::Log;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// Libraries that say more than an operator of a gateway wants to read; a filter of one's own that
/// names them wins.
const QUIET: &str = "rmqtt=warn,rmqtt_net=warn,rmqtt_codec=warn,rumqttc=warn,rustls=warn,mio=warn";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The filter cannot be read.
    #[error("log.level: {0}")]
    Filter(#[from] ParseError),
    /// There is a log already.
    #[error("log: {0}")]
    Init(#[from] TryInitError),
}

/// Starts the log of this process. `color` is for a terminal.
pub(crate) fn start(log: &Log) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{}", log.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if log.json {
        registry.with(lines.json().flatten_event(true)).try_init()?;
    } else {
        let lines = lines.with_ansi(io::stderr().is_terminal());
        registry.with(lines.with_target(false)).try_init()?;
    }
    Ok(())
}
