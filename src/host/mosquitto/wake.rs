//! Makes the broker's main loop turn at once when the gateway has something for it.
//!
//! The broker's only regular event is the tick, once a turn of its loop, and an idle loop turns
//! every 100 ms, or every few seconds. Two ways make it turn: a descriptor of ours in the broker's
//! own `epoll` set, and a signal to its main thread. The first leans on how the broker uses that
//! set, so it is taken only where the set looks as expected and after it was seen to work; the
//! signal is next, and without either messages wait for the tick.

#![allow(unsafe_code)] // eventfd, epoll, signals

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::epoll::{self, EventSet};
use crate::runtime::block_signals;

/// `plugin_opt_wakeup`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wakeup {
    /// The best that works.
    Auto,
    EventFd,
    Signal,
    Tick,
}

impl Wakeup {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "eventfd" => Some(Self::EventFd),
            "signal" => Some(Self::Signal),
            "tick" => Some(Self::Tick),
            _ => None,
        }
    }
}

/// The way in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    Tick,
    EventFd,
    Signal,
}

/// The bell: rung by the gateway's threads, answered by the broker's main thread.
pub(super) struct Bell {
    /// Rung and not yet answered.
    rung: AtomicBool,
    /// How often it was answered.
    answers: AtomicU32,
    way: AtomicU8,
    event: OwnedFd,
    ringer: Mutex<Option<JoinHandle<()>>>,
    /// The ringer's thread ends.
    ended: AtomicBool,
    process: libc::pid_t,
    /// The broker's main thread.
    thread: libc::pid_t,
}

impl Bell {
    /// To be called on the broker's main thread.
    ///
    /// # Errors
    /// No descriptor.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: plain call without pointers.
        let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            rung: AtomicBool::new(false),
            answers: AtomicU32::new(0),
            way: AtomicU8::new(Way::Tick as u8),
            // SAFETY: `raw` is a fresh descriptor that nobody else owns.
            event: unsafe { OwnedFd::from_raw_fd(raw) },
            ringer: Mutex::new(None),
            ended: AtomicBool::new(false),
            // SAFETY: a plain call.
            process: unsafe { libc::getpid() },
            // SAFETY: a plain call.
            thread: unsafe { libc::gettid() },
        })
    }

    /// Asks for a turn of the broker's loop, once until it comes.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.sound();
        }
    }

    /// The turn is here. Whoever rings from now on asks for another one, so look at what is there
    /// after this call.
    pub(super) fn answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.rung.swap(false, Ordering::AcqRel);
    }

    fn sound(&self) {
        match self.way.load(Ordering::Acquire) {
            way if way == Way::EventFd as u8 => {
                let one = 1u64;
                // SAFETY: writes eight bytes from a live local. It fails only when the counter is
                // about to overflow, after 2^64 calls.
                unsafe { libc::write(self.event.as_raw_fd(), ptr::from_ref(&one).cast(), 8) };
            }
            way if way == Way::Signal as u8 => {
                if let Some(ringer) = &*self.ringer.lock() {
                    ringer.thread().unpark();
                }
            }
            _ => {}
        }
    }

    /// Uses another way; what was rung the old way is rung again.
    fn change(&self, way: Way) {
        self.way.store(way as u8, Ordering::Release);
        self.rung.store(true, Ordering::Release);
        self.sound();
    }

    fn start_ringer(self: &Arc<Self>) -> io::Result<()> {
        let bell = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("lwm2m-wake".to_owned())
            .spawn(move || {
                block_signals();
                bell.signal_until_answered();
            })?;
        *self.ringer.lock() = Some(thread);
        Ok(())
    }

    /// A signal that comes before the broker waits is lost, so it is sent until it is answered.
    fn signal_until_answered(&self) {
        const FIRST: Duration = Duration::from_micros(250);
        const LAST: Duration = Duration::from_millis(64);
        let mut pause = FIRST;
        let mut answers = 0;
        while !self.ended.load(Ordering::Acquire) {
            if !self.rung.load(Ordering::Acquire) {
                thread::park();
                continue;
            }
            let answered = self.answers.load(Ordering::Relaxed);
            if answered != answers {
                answers = answered;
                pause = FIRST;
            }
            // SAFETY: plain call; the process outlives its main thread's plugin.
            unsafe {
                libc::syscall(libc::SYS_tgkill, self.process, self.thread, libc::SIGURG);
            }
            thread::park_timeout(pause);
            pause = (pause * 2).min(LAST);
        }
    }

    /// Ends the thread that sends signals.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let ringer = self.ringer.lock().take();
        if let Some(ringer) = ringer {
            ringer.thread().unpark();
            // It does nothing that could panic.
            let _ = ringer.join();
        }
    }
}

/// A turn that comes within this time was asked for: an idle broker takes 100 ms.
const SOON: Duration = Duration::from_millis(50);

/// Trials of one way: a busy machine may be late now and then.
const TRIALS: u8 = 5;

enum State {
    /// No tick yet.
    New,
    /// Rung at that time.
    Trying {
        since: Instant,
        left: u8,
    },
    Settled,
}

/// Finds out which way works. Belongs to the broker's main thread.
pub(super) struct Tuner {
    wanted: Wakeup,
    bell: Arc<Bell>,
    state: State,
    /// The broker's sets that are still to be tried.
    sets: Vec<EventSet>,
    /// The one that the bell is in.
    set: Option<EventSet>,
    handler: Option<Handler>,
}

impl Tuner {
    pub(super) fn new(wanted: Wakeup, bell: Arc<Bell>) -> Self {
        Self {
            wanted,
            bell,
            state: State::New,
            sets: Vec::new(),
            set: None,
            handler: None,
        }
    }

    /// To be called at each tick, after [`Bell::answer`].
    pub(super) fn tick(&mut self, now: Instant) {
        match self.state {
            State::Settled => {}
            State::New => {
                if matches!(self.wanted, Wakeup::Auto | Wakeup::EventFd) {
                    self.sets = epoll::sets_with_listeners();
                }
                self.next(now);
            }
            State::Trying { since, .. } if now.saturating_duration_since(since) <= SOON => {
                self.settle();
            }
            State::Trying { left: 1, .. } => self.next(now),
            State::Trying { left, .. } => {
                self.bell.ring();
                self.try_for(now, left.saturating_sub(1));
            }
        }
    }

    fn try_for(&mut self, now: Instant, left: u8) {
        self.state = State::Trying { since: now, left };
    }

    /// Tries the next way.
    fn next(&mut self, now: Instant) {
        if let Some(set) = self.set.take() {
            set.remove(&self.bell.event);
        }
        while let Some(set) = self.sets.pop() {
            if set.add(&self.bell.event).is_ok() {
                self.set = Some(set);
                self.bell.change(Way::EventFd);
                return self.try_for(now, TRIALS);
            }
        }
        let by_signal = match self.wanted {
            _ if self.handler.is_some() => false,
            Wakeup::Tick => false,
            Wakeup::EventFd => {
                warn!("plugin_opt_wakeup: eventfd does not work with this broker");
                true
            }
            Wakeup::Auto | Wakeup::Signal => true,
        };
        if by_signal && self.bell.start_ringer().is_ok() {
            self.handler = Some(Handler::install());
            self.bell.change(Way::Signal);
            return self.try_for(now, TRIALS);
        }
        self.bell.change(Way::Tick);
        self.settle();
    }

    fn settle(&mut self) {
        self.state = State::Settled;
        match self.bell.way.load(Ordering::Acquire) {
            way if way == Way::EventFd as u8 => info!(wakeup = "eventfd", "ready"),
            way if way == Way::Signal as u8 => info!(wakeup = "signal", "ready"),
            _ if self.wanted == Wakeup::Tick => info!(wakeup = "tick", "ready"),
            _ => warn!(
                wakeup = "tick",
                "nothing wakes this broker: messages of devices wait for its next turn"
            ),
        }
    }

    /// Ends what was started; the bell is silent from now on.
    pub(super) fn end(&mut self) {
        self.bell.way.store(Way::Tick as u8, Ordering::Release);
        self.bell.end();
        if let Some(handler) = self.handler.take() {
            handler.remove();
        }
    }
}

/// A handler of SIGURG that does nothing: an ignored signal would not interrupt a wait.
struct Handler {
    before: Option<libc::sigaction>,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Handler {
    /// Keeps a handler that somebody else has installed: it interrupts the wait as well.
    fn install() -> Self {
        // SAFETY: `sigaction` is plain data, and both are live locals. The handler is a function
        // of this library, which stays in memory.
        unsafe {
            let mut before: libc::sigaction = mem::zeroed();
            if libc::sigaction(libc::SIGURG, ptr::null(), &mut before) != 0
                || ![libc::SIG_DFL, libc::SIG_IGN].contains(&before.sa_sigaction)
            {
                return Self { before: None };
            }
            let mut ours: libc::sigaction = mem::zeroed();
            ours.sa_sigaction = nothing as *const () as usize;
            ours.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&mut ours.sa_mask);
            libc::sigaction(libc::SIGURG, &ours, ptr::null_mut());
            Self {
                before: Some(before),
            }
        }
    }

    fn remove(self) {
        if let Some(before) = self.before {
            // SAFETY: `before` is what the system told.
            unsafe { libc::sigaction(libc::SIGURG, &before, ptr::null_mut()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Wakeup::from_name("auto"), Some(Wakeup::Auto));
        assert_eq!(Wakeup::from_name("Auto"), None);
    }

    #[test]
    fn a_bell_sounds_once_until_it_is_answered() {
        let bell = Bell::new().unwrap();
        bell.way.store(Way::EventFd as u8, Ordering::Release);
        let sounded = || {
            let mut count = 0u64;
            // SAFETY: reads eight bytes into a live local.
            unsafe { libc::read(bell.event.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) };
            count
        };
        bell.ring();
        bell.ring();
        assert_eq!(sounded(), 1);
        bell.answer();
        assert_eq!(sounded(), 0);
        bell.ring();
        assert_eq!(sounded(), 1);
    }

    #[test]
    fn a_signal_is_repeated_until_it_is_answered() {
        use std::sync::atomic::AtomicUsize;
        static SIGNALS: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn count(_: libc::c_int) {
            SIGNALS.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: the handler only touches an atomic.
        unsafe { libc::signal(libc::SIGURG, count as *const () as usize) };
        let bell = Arc::new(Bell::new().unwrap());
        bell.start_ringer().unwrap();
        bell.change(Way::Signal);
        while SIGNALS.load(Ordering::SeqCst) < 3 {
            thread::yield_now();
        }
        bell.answer();
        bell.end();
        assert!(bell.ringer.lock().is_none());
    }
}
