//! Makes the broker's main loop turn at once when the gateway has something for it.
//!
//! The broker's only regular event is the tick, once a turn of its loop, and an idle loop turns
//! every 100 ms, or every few seconds. Two ways make it turn: a signal to its main thread, and a
//! descriptor of ours in the broker's own `epoll` set. The second leans on how the broker uses that
//! set, so it is taken only where it is asked for, where the set looks as expected and after it was
//! seen to work. Without either messages wait for the tick.

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
    /// What leans on nothing of the broker's own: the signal, or the tick where it does not work.
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
    /// Repeats signals that were lost.
    repeater: Mutex<Option<JoinHandle<()>>>,
    /// The repeater sleeps until it is told that the bell was rung.
    sleeps: AtomicBool,
    /// The repeater ends.
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
            repeater: Mutex::new(None),
            sleeps: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            // SAFETY: a plain call.
            process: unsafe { libc::getpid() },
            // SAFETY: a plain call.
            thread: unsafe { libc::gettid() },
        })
    }

    /// Asks for a turn of the broker's loop, once until it comes.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
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
                self.signal();
                if self.sleeps.load(Ordering::SeqCst)
                    && let Some(repeater) = &*self.repeater.lock()
                {
                    repeater.thread().unpark();
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

    fn signal(&self) {
        // SAFETY: plain call; the process outlives its main thread's plugin.
        unsafe {
            libc::syscall(libc::SYS_tgkill, self.process, self.thread, libc::SIGURG);
        }
    }

    fn start_repeater(self: &Arc<Self>) -> io::Result<()> {
        let bell = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("lwm2m-wake".to_owned())
            .spawn(move || {
                block_signals();
                bell.repeat_until_answered();
            })?;
        *self.repeater.lock() = Some(thread);
        Ok(())
    }

    /// A signal that comes just before the broker waits is lost, so one that is not answered is sent
    /// again. Whoever rings sends the first one and does not wake this thread for it, which would
    /// cost more than the signal: it looks by itself every few milliseconds while there is traffic.
    fn repeat_until_answered(&self) {
        const FIRST: Duration = Duration::from_millis(3);
        const LAST: Duration = Duration::from_millis(64);
        /// Looks without a ring before it sleeps.
        const QUIET: u8 = 16;
        let mut pause = FIRST;
        let mut quiet = 0;
        let mut seen = None;
        while !self.ended.load(Ordering::Acquire) {
            if !self.rung.load(Ordering::SeqCst) {
                (pause, seen) = (FIRST, None);
                if quiet < QUIET {
                    quiet += 1;
                } else {
                    self.sleeps.store(true, Ordering::SeqCst);
                    // Who rang before that did not see it.
                    if !self.rung.load(Ordering::SeqCst) {
                        thread::park();
                    }
                    self.sleeps.store(false, Ordering::SeqCst);
                    quiet = 0;
                }
            } else {
                quiet = 0;
                let answers = Some(self.answers.load(Ordering::Relaxed));
                pause = if answers == seen {
                    (pause * 2).min(LAST)
                } else {
                    FIRST
                };
                seen = answers;
                self.signal();
            }
            thread::park_timeout(pause);
        }
    }

    /// Sends no more signals.
    fn end(&self) {
        self.way.store(Way::Tick as u8, Ordering::Release);
        self.ended.store(true, Ordering::Release);
        let repeater = self.repeater.lock().take();
        if let Some(repeater) = repeater {
            repeater.thread().unpark();
            // It does nothing that could panic.
            let _ = repeater.join();
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
                if self.wanted == Wakeup::EventFd {
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
        if by_signal && self.bell.start_repeater().is_ok() {
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
                "the plugin cannot wake this broker: messages of devices wait until the broker wakes up by itself"
            ),
        }
    }

    /// Ends what was started; the bell is silent from now on.
    pub(super) fn end(&mut self) {
        self.bell.end();
        if let Some(handler) = self.handler.take() {
            handler.remove();
        }
    }
}

/// A handler of SIGURG that does nothing: an ignored signal would not interrupt a wait. Other plugins
/// may have one too, as the runtime of Go does: theirs is left in place, whoever came first.
struct Handler {
    before: Option<libc::sigaction>,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Handler {
    /// Keeps a handler that somebody else has installed: it interrupts the wait as well.
    fn install() -> Self {
        let before =
            current().filter(|it| [libc::SIG_DFL, libc::SIG_IGN].contains(&it.sa_sigaction));
        if before.is_some() {
            // SAFETY: `sigaction` is plain data, for which zeros are valid; `ours` is a live local.
            // The handler is a function of this library, which stays in memory.
            unsafe {
                let mut ours: libc::sigaction = mem::zeroed();
                ours.sa_sigaction = nothing as *const () as usize;
                ours.sa_flags = libc::SA_RESTART;
                libc::sigemptyset(&mut ours.sa_mask);
                libc::sigaction(libc::SIGURG, &ours, ptr::null_mut());
            }
        }
        Self { before }
    }

    /// Puts things back as they were, unless somebody has installed a handler since.
    fn remove(self) {
        let is_ours = current().is_some_and(|it| it.sa_sigaction == nothing as *const () as usize);
        if let Some(before) = self.before
            && is_ours
        {
            // SAFETY: `before` is what the system told.
            unsafe { libc::sigaction(libc::SIGURG, &before, ptr::null_mut()) };
        }
    }
}

/// What is done about SIGURG now.
fn current() -> Option<libc::sigaction> {
    // SAFETY: `sigaction` is plain data, for which zeros are valid, and a live local.
    unsafe {
        let mut current: libc::sigaction = mem::zeroed();
        (libc::sigaction(libc::SIGURG, ptr::null(), &mut current) == 0).then_some(current)
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

    /// What is done about a signal belongs to the process: one test at a time.
    static SIGURG: Mutex<()> = Mutex::new(());

    extern "C" fn of_another_plugin(_: libc::c_int) {}

    fn set_handler(handler: usize) {
        // SAFETY: the handlers of these tests touch atomics at most.
        unsafe { libc::signal(libc::SIGURG, handler) };
    }

    fn handler() -> usize {
        current().unwrap().sa_sigaction
    }

    #[test]
    fn the_handlers_of_others_stay() {
        let _one_at_a_time = SIGURG.lock();
        let theirs = of_another_plugin as *const () as usize;
        let ours = nothing as *const () as usize;
        // Nobody else.
        for before in [libc::SIG_IGN, libc::SIG_DFL] {
            set_handler(before);
            let handler_of_ours = Handler::install();
            assert_eq!(handler(), ours);
            handler_of_ours.remove();
            assert_eq!(handler(), before);
        }
        // Somebody before us.
        set_handler(theirs);
        let handler_of_ours = Handler::install();
        assert_eq!(handler(), theirs);
        handler_of_ours.remove();
        assert_eq!(handler(), theirs);
        // Somebody after us.
        set_handler(libc::SIG_DFL);
        let handler_of_ours = Handler::install();
        set_handler(theirs);
        handler_of_ours.remove();
        assert_eq!(handler(), theirs);
    }

    #[test]
    fn a_signal_is_repeated_until_it_is_answered() {
        use std::sync::atomic::AtomicUsize;
        static SIGNALS: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn count(_: libc::c_int) {
            SIGNALS.fetch_add(1, Ordering::SeqCst);
        }
        let _one_at_a_time = SIGURG.lock();
        set_handler(count as *const () as usize);
        let signals = || SIGNALS.load(Ordering::SeqCst);
        let bell = Arc::new(Bell::new().unwrap());
        bell.start_repeater().unwrap();
        for _ in 0..2 {
            let before = signals();
            bell.change(Way::Signal);
            while signals() < before + 3 {
                thread::yield_now();
            }
            bell.answer();
            // Until the repeater sleeps.
            while !bell.sleeps.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            bell.ring();
            bell.answer();
        }
        bell.end();
        assert!(bell.repeater.lock().is_none());
        let ended = signals();
        bell.ring();
        assert_eq!(signals(), ended);
    }
}
