//! The way of log lines to standard error: a bounded queue and a thread of its own, so that a pipe
//! that nobody reads stops nobody but that thread.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::telemetry::{Counters, INTERVAL};
use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait, at most; as many again may be on their way out.
const CAPACITY: usize = 1 << 20;

/// How long to wait when a descriptor that does not block takes no more.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes log lines and never waits. What finds no room is dropped, counted, and told of as soon as
/// lines flow again.
#[derive(Clone)]
pub(crate) struct LogWriter(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There are lines, or the thread has written what it had.
    changed: Condvar,
    counters: Arc<Counters>,
    /// Lines of libraries that were left out since that was last told.
    suppressed: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// The thread has lines in its hands.
    writing: bool,
    /// Lines dropped since that was last told.
    dropped: u64,
}

impl LogWriter {
    /// Starts the thread. It ends with the process.
    ///
    /// # Errors
    /// The system refuses a descriptor or a thread.
    pub(crate) fn to_standard_error(counters: Arc<Counters>) -> io::Result<Self> {
        // A descriptor of our own: the lock of `std::io::stderr` would be held as long as a write
        // takes, and whoever panics or says good-bye would wait for it.
        let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Self::start(out, counters)
    }

    fn start(out: impl Write + Send + 'static, counters: Arc<Counters>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            counters,
            suppressed: Arc::default(),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(out))?;
        Ok(Self(shared))
    }

    /// Where lines of libraries are counted that were left out; that is told with the next lines.
    pub(crate) fn suppressed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.suppressed)
    }

    /// Waits until all lines are out, but not longer than `patience`. Whether they are.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut state = self.0.state.lock();
        while state.writing || !state.waiting.is_empty() {
            if self.0.changed.wait_until(&mut state, end).timed_out() {
                return !state.writing && state.waiting.is_empty();
            }
        }
        true
    }
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len().saturating_add(line.len()) > CAPACITY {
            state.dropped = state.dropped.saturating_add(1);
            drop(state);
            self.counters.log_lines_dropped.add_shared(1);
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
    }

    fn run(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        let mut told = Instant::now();
        let mut flows = true;
        loop {
            let mut state = self.state.lock();
            state.writing = false;
            if state.waiting.is_empty() {
                self.changed.notify_all();
            }
            while state.waiting.is_empty() {
                self.changed.wait(&mut state);
            }
            mem::swap(&mut lines, &mut state.waiting);
            state.writing = true;
            // Now that there is room, and only while somebody reads: this makes lines, too.
            let dropped = match flows {
                true => mem::take(&mut state.dropped),
                false => 0,
            };
            drop(state);
            if dropped > 0 {
                tracing::warn!(
                    dropped,
                    "log lines dropped: nothing reads standard error fast enough"
                );
            }
            let lost = write(&mut out, &lines);
            lines.clear();
            flows = lost == 0;
            if !flows {
                self.counters.log_lines_dropped.add_shared(lost);
                self.state.lock().dropped += lost;
            } else if told.elapsed() > INTERVAL {
                told = Instant::now();
                let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
                if suppressed > 0 {
                    tracing::warn!(suppressed, "repeated lines of libraries left out");
                }
            }
        }
    }
}

/// Writes lines out. Returns how many are lost because nobody will ever read them.
fn write(out: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(count) if count > 0 => lines = lines.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Standard error is shared: whoever has the other end may have made it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            _ => return lines.iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
    0
}

impl Write for LogWriter {
    /// A whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Takes a write for each permit, and shows what came.
    struct Gate {
        permits: Receiver<io::Result<usize>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.permits.recv().map_err(io::Error::other)??;
            let bytes = bytes.get(..most).unwrap_or(bytes);
            self.written.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Permits = Sender<io::Result<usize>>;

    fn gate() -> (LogWriter, Arc<Counters>, Permits, Receiver<Vec<u8>>) {
        let (permit, permits) = channel();
        let (written, came) = channel();
        let counters = Arc::new(Counters::default());
        let writer = LogWriter::start(Gate { permits, written }, counters.clone()).unwrap();
        (writer, counters, permit, came)
    }

    #[test]
    fn c10_a_reader_that_stands_still_stops_nobody_and_lines_are_counted() {
        let (mut writer, counters, permit, came) = gate();
        let line = [b'x'; 1023]
            .iter()
            .chain(b"\n")
            .copied()
            .collect::<Vec<_>>();
        // Until the thread has the first lines and waits in `write`.
        writer.write_all(&line).unwrap();
        while !writer.0.state.lock().writing {
            thread::yield_now();
        }
        for _ in 0..5000 {
            writer.write_all(&line).unwrap();
        }
        let waiting = CAPACITY / line.len();
        assert_eq!(counters.log_lines_dropped.get(), 5000 - waiting as u64);
        assert!(writer.0.state.lock().waiting.len() <= CAPACITY);
        assert!(!writer.flush(Duration::ZERO));
        // It flows again: what waited comes, in whole lines.
        let mut bytes = 0;
        while bytes < (waiting + 1) * line.len() {
            permit.send(Ok(100_000)).unwrap();
            bytes += came.recv().unwrap().len();
        }
        assert_eq!(bytes, (waiting + 1) * line.len());
        assert!(writer.flush(Duration::from_secs(60)));
        assert_eq!(writer.0.state.lock().dropped, 0);
    }

    #[test]
    fn c10_lines_that_nobody_will_read_are_counted() {
        let (mut writer, counters, permit, _came) = gate();
        permit.send(Err(io::ErrorKind::Interrupted.into())).unwrap();
        permit.send(Err(io::ErrorKind::WouldBlock.into())).unwrap();
        permit.send(Ok(2)).unwrap();
        permit.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        writer.write_all(b"lost\n").unwrap();
        assert!(writer.flush(Duration::from_secs(60)));
        assert_eq!(counters.log_lines_dropped.get(), 1);
    }
}
