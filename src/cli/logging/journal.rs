//! Lines for the journal of systemd: each says how grave it is, as sd-daemon(3) has it.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether standard error goes to the journal: `JOURNAL_STREAM` then names its device and inode
/// (systemd.exec(5)). A process that inherits the variable and writes elsewhere has other ones.
pub(super) fn is_read() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(file) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else {
        return false;
    };
    file.metadata()
        .is_ok_and(|data| stream == format!("{}:{}", data.dev(), data.ino()))
}

/// Lines on their way to `W`, each with its priority in front when the journal reads them.
pub(super) struct JournalWriter<W> {
    pub(super) writer: W,
    pub(super) is_read: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for JournalWriter<W> {
    type Writer = JournalLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        JournalLine {
            writer: self.writer.make_writer(),
            priority: "",
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        JournalLine {
            writer: self.writer.make_writer_for(metadata),
            priority: if self.is_read {
                priority(*metadata.level())
            } else {
                ""
            },
        }
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// See [`JournalWriter`].
pub(super) struct JournalLine<W> {
    writer: W,
    priority: &'static str,
}

impl<W: Write> Write for JournalLine<W> {
    /// A whole line. It goes on in one piece, since others write beside it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.priority.is_empty() {
            self.writer.write_all(line)?;
        } else {
            self.writer
                .write_all(&[self.priority.as_bytes(), line].concat())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
