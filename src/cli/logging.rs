//! Log lines on standard error, as text or JSON.

mod fields;
mod journal;
mod libraries;
mod writer;

use std::io::{self, IsTerminal as _};
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Log;
use crate::telemetry::Counters;
use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, registry::LookupSpan};

use super::say;
use fields::{Fields, JsonWriter};
use journal::JournalWriter;
use libraries::Libraries;
use writer::LogWriter;

/// Libraries that say more than an operator of a gateway wants to read; a filter of one's own that
/// names them wins.
const QUIET: &str =
    "rmqtt=warn,rmqtt::shared=error,rmqtt_net=warn,rmqtt_codec=warn,rustls=warn,mio=warn";

/// How long the end of the process waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The filter cannot be read.
    #[error("log.level: {0}")]
    Filter(#[from] ParseError),
    /// There is a log already.
    #[error("log: {0}")]
    Init(#[from] TryInitError),
    /// No descriptor or thread for it.
    #[error("log: {0}")]
    System(#[from] io::Error),
}

/// The log of this process.
pub(crate) struct Logging(LogWriter);

impl Logging {
    /// The end of the process: waits for the last lines, but not for a reader that stands still.
    pub(crate) fn end(self, done: Result<(), String>) -> ExitCode {
        let is_read = self.0.flush(PATIENCE);
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if is_read => say::failure(&[error]),
            Err(_) => ExitCode::FAILURE,
        }
    }
}

/// Starts the log of this process. Lines that are dropped are counted in `counters`.
pub(crate) fn start(log: &Log, counters: Arc<Counters>) -> Result<Logging, LogError> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{}", log.level))?;
    let writer = LogWriter::to_standard_error(counters)?;
    let color = !log.json && io::stderr().is_terminal();
    tracing_subscriber::registry()
        .with(filter)
        .with(Libraries::new(log.interval, writer.suppressed()))
        .with(Kept)
        .with(lines(log.json, color, journal::is_read(), writer.clone()))
        .try_init()?;
    // The hook of the standard library writes to standard error itself, and waits there.
    panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(Logging(writer))
}

/// Keeps the last lines for who asks for them by HTTP.
struct Kept;

impl<S: Subscriber> Layer<S> for Kept {
    #[cfg(feature = "http")]
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        crate::telemetry::ring().push(event);
    }
}

/// Each event as a line, with all texts of others escaped. The journal, if that reads them, has the
/// time of each by itself.
fn lines<S, W>(
    json: bool,
    color: bool,
    is_journal: bool,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer();
    let writer = JournalWriter {
        writer,
        is_read: is_journal,
    };
    if json {
        let lines = lines.json().flatten_event(true);
        Box::new(lines.with_writer(JsonWriter(writer)))
    } else {
        let lines = lines.with_ansi(color).with_target(false);
        let lines = lines.fmt_fields(Fields).with_writer(writer);
        if is_journal {
            Box::new(lines.without_time())
        } else {
            Box::new(lines)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use crate::printable::is_hidden;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, color: bool, log: impl FnOnce()) -> String {
        logged_to(json, color, false, log)
    }

    fn logged_to(json: bool, color: bool, is_journal: bool, log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let lines = lines(json, color, is_journal, move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn fields_look_as_ever() {
        let line = logged(false, false, || {
            let nobody = None::<u64>;
            tracing::warn!(peer = %"127.0.0.1:1", name = "a b", n = 5, nobody, "no {}", "way");
        });
        assert!(
            line.ends_with(" WARN no way peer=127.0.0.1:1 name=\"a b\" n=5\n"),
            "{line}"
        );
    }

    #[test]
    fn the_journal_learns_how_grave_a_line_is() {
        let log = || {
            tracing::error!("a");
            tracing::warn!("b");
            tracing::info!("c");
        };
        let text = logged_to(false, false, true, log);
        assert_eq!(text, "<3>ERROR a\n<4> WARN b\n<6> INFO c\n");
        let json = logged_to(true, false, true, || tracing::warn!("b"));
        assert!(json.starts_with("<4>{"), "{json}");
        assert_eq!(json.lines().count(), 1);
    }

    proptest! {
        #[test]
        fn c15_an_event_is_one_line_in_every_format(text in any::<String>()) {
            for (json, color) in [(false, false), (false, true), (true, false)] {
                let log = || {
                    tracing::info!(endpoint = text.as_str(), shown = %text, debug = ?text, "of {text}");
                };
                let mut line = logged(json, color, log);
                prop_assert_eq!(line.pop(), Some('\n'));
                if color {
                    // Ours are the only ones.
                    for code in ["\u{1b}[0m", "\u{1b}[2m", "\u{1b}[3m", "\u{1b}[32m"] {
                        line = line.replace(code, "");
                    }
                }
                prop_assert!(!line.contains(is_hidden), "{:?}", line);
                if json {
                    let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
                    prop_assert_eq!(&fields["shown"], &text);
                    prop_assert_eq!(&fields["endpoint"], &text);
                }
            }
        }
    }
}
