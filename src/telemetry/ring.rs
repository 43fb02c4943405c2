//! The last lines of the log, for who asks for them later: bounded in lines and bytes, and filled only
//! after somebody wants it. One a process: with several gateways it has the lines of all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tracing::{Event, Level};

use super::line::line_of;

/// Lines that are kept at most, and bytes of their texts. A line is at most
/// [`MAX_LINE`](super::line::MAX_LINE) bytes long.
const MOST: usize = 2000;
const MOST_BYTES: usize = 512 << 10;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// From 1, one more each time.
    pub(crate) number: u64,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// How grave it is.
    pub(crate) level: Level,
    /// Which part says it.
    pub(crate) target: &'static str,
    /// Message and fields, with texts of peers escaped.
    pub(crate) text: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LogRing {
    wanted: AtomicBool,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Of the last line.
    number: u64,
}

impl LogRing {
    const fn new() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            lines: parking_lot::const_mutex(Lines {
                lines: VecDeque::new(),
                bytes: 0,
                number: 0,
            }),
        }
    }

    /// Fills the ring from now on.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Keeps a line, if anybody wants it.
    // The time of a line is no time of the engine, and there is no other way to it from here.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn push(&self, event: &Event<'_>) {
        if self.wanted.load(Ordering::Relaxed) {
            let metadata = event.metadata();
            let (level, target) = (*metadata.level(), metadata.target());
            let at = SystemTime::now().duration_since(UNIX_EPOCH);
            let at = u64::try_from(at.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
            self.keep(at, level, target, line_of(event));
        }
    }

    fn keep(&self, at: u64, level: Level, target: &'static str, text: String) {
        let mut kept = self.lines.lock();
        kept.number += 1;
        kept.bytes += text.len();
        let number = kept.number;
        kept.lines.push_back(LogLine {
            number,
            at,
            level,
            target,
            text,
        });
        while kept.lines.len() > MOST || kept.bytes > MOST_BYTES {
            let Some(first) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= first.text.len();
        }
    }

    /// The last lines of this level or a graver one, `most` at most, the oldest first.
    pub(crate) fn last(&self, most: usize, level: Level) -> Vec<LogLine> {
        let kept = self.lines.lock();
        let fitting = kept.lines.iter().rev().filter(|line| line.level <= level);
        let mut lines: Vec<_> = fitting.take(most).cloned().collect();
        lines.reverse();
        lines
    }

    /// The lines after that number, `most` at most, and how many of them are not there any more.
    pub(crate) fn after(&self, number: u64, most: usize) -> (Vec<LogLine>, u64) {
        let kept = self.lines.lock();
        let lines = kept.lines.iter().filter(|line| line.number > number);
        let lines: Vec<_> = lines.take(most).cloned().collect();
        let first = lines.first().map_or(kept.number + 1, |line| line.number);
        (lines, first.saturating_sub(number.saturating_add(1)))
    }

    /// The number of the last line.
    pub(crate) fn number(&self) -> u64 {
        self.lines.lock().number
    }
}

/// The ring of this process.
pub(crate) fn ring() -> &'static LogRing {
    static RING: LogRing = LogRing::new();
    &RING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(ring: &LogRing, count: u64, text: &str) {
        for number in 1..=count {
            let level = match number % 2 {
                0 => Level::INFO,
                _ => Level::WARN,
            };
            ring.keep(number, level, "test", text.to_owned());
        }
    }

    #[test]
    fn the_last_lines_are_kept() {
        let ring = LogRing::new();
        fill(&ring, 5000, "text");
        let numbers = |lines: &[LogLine]| lines.iter().map(|it| it.number).collect::<Vec<_>>();
        assert_eq!(ring.lines.lock().lines.len(), MOST);
        assert_eq!(numbers(&ring.last(3, Level::TRACE)), vec![4998, 4999, 5000]);
        assert_eq!(numbers(&ring.last(2, Level::WARN)), vec![4997, 4999]);
        assert_eq!(ring.last(10_000, Level::TRACE).len(), MOST);
        let (lines, lost) = ring.after(4998, 10);
        assert_eq!((numbers(&lines), lost), (vec![4999, 5000], 0));
        let (lines, lost) = ring.after(10, 1);
        assert_eq!((numbers(&lines), lost), (vec![3001], 2990));
        assert_eq!(ring.after(5000, 10), (Vec::new(), 0));
        assert_eq!(ring.number(), 5000);
    }

    #[test]
    fn long_lines_are_fewer() {
        let ring = LogRing::new();
        fill(&ring, 3000, &"x".repeat(4096));
        let kept = ring.lines.lock();
        assert_eq!(kept.lines.len(), MOST_BYTES / 4096);
        assert_eq!(kept.bytes, MOST_BYTES);
    }

    #[test]
    fn nothing_is_kept_before_somebody_wants_it() {
        use super::super::{EventLog, TakesEvents};

        struct Keeps(&'static LogRing);
        impl TakesEvents for Keeps {
            fn wants(&self, _: &tracing::Metadata<'_>) -> bool {
                true
            }
            fn event(&self, event: &Event<'_>) {
                self.0.push(event);
            }
        }
        static RING: LogRing = LogRing::new();
        tracing::subscriber::with_default(EventLog(Keeps(&RING)), || {
            tracing::info!("before");
            RING.want();
            tracing::warn!(peer = "x\u{1b}", "after");
        });
        let lines = RING.last(10, Level::TRACE);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].at > 1_700_000_000_000);
        assert!(lines[0].text.starts_with("after peer=") && !lines[0].text.contains('\u{1b}'));
    }
}
