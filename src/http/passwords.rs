//! Passwords of requests, checked so that no sender takes the time of others: one check at a time on
//! a thread of its own, few that wait for it, a pause for addresses that fail, and what was right a
//! while ago is known by a keyed hash.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::caller::Caller;
use super::users::{MAX_PASSWORD, Users};
use crate::mac::keyed;

/// Requests that wait for their check or are in it.
const WAITING: usize = 16;

/// How long a password that was right is not checked again, and how many are known.
const KNOWN: Duration = Duration::from_secs(300);
const MOST_KNOWN: usize = 256;

/// An address may fail so often before it has to pause: 1 s, then twice as long each time.
const FREE: u32 = 3;
const LONGEST: Duration = Duration::from_secs(64);

/// Addresses that failed, and how long that counts.
const MOST_FAILED: usize = 4096;
const FORGET: Duration = Duration::from_secs(600);

/// What came of a check.
#[derive(Debug)]
pub(super) enum Verdict {
    Right(Caller),
    Wrong,
    /// Nothing was checked: the address has to pause so many seconds.
    Pause(u64),
    /// Nothing was checked: too many wait.
    Busy,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn pause(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(6)).min(LONGEST),
        }
    }

    fn until(&self) -> Instant {
        self.last + self.pause()
    }
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<[u8; 32], (Caller, Instant)>,
    failed: HashMap<IpAddr, Failures>,
}

impl Memory {
    fn known(&self, key: &[u8; 32], now: Instant) -> Option<Caller> {
        let (caller, until) = self.known.get(key)?;
        (now < *until).then(|| caller.clone())
    }

    /// How long the address still has to wait, in whole seconds.
    fn pause(&self, from: IpAddr, now: Instant) -> Option<u64> {
        let until = self.failed.get(&from)?.until();
        let left = until.checked_duration_since(now)?;
        (!left.is_zero()).then(|| left.as_secs() + 1)
    }

    fn right(&mut self, key: [u8; 32], caller: &Caller, from: IpAddr, now: Instant) {
        self.failed.remove(&from);
        if self.known.len() >= MOST_KNOWN {
            self.known.retain(|_, (_, until)| now < *until);
            let first = self.known.iter().min_by_key(|(_, (_, until))| *until);
            let first = first.map(|(key, _)| *key);
            if let Some(first) = first.filter(|_| self.known.len() >= MOST_KNOWN) {
                self.known.remove(&first);
            }
        }
        self.known.insert(key, (caller.clone(), now + KNOWN));
    }

    fn wrong(&mut self, from: IpAddr, now: Instant) {
        if self.failed.len() >= MOST_FAILED && !self.failed.contains_key(&from) {
            self.failed.retain(|_, it| now < it.last + FORGET);
            let first = self.failed.iter().min_by_key(|(_, it)| it.last);
            let first = first.map(|(from, _)| *from);
            if let Some(first) = first.filter(|_| self.failed.len() >= MOST_FAILED) {
                self.failed.remove(&first);
            }
        }
        let failures = self.failed.entry(from).or_insert(Failures {
            count: 0,
            last: now,
        });
        if now >= failures.last + FORGET {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }
}

/// See the module.
pub(super) struct Passwords {
    /// Of this process: what is known is of no use elsewhere.
    key: Hmac<Sha256>,
    memory: Mutex<Memory>,
    waiting: Semaphore,
    turn: Semaphore,
}

impl Passwords {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)?;
        Ok(Self {
            key: keyed(&key),
            memory: Mutex::default(),
            waiting: Semaphore::new(WAITING),
            turn: Semaphore::new(1),
        })
    }

    /// Forgets what is known: there are other users now.
    pub(super) fn forget(&self) {
        self.memory.lock().known.clear();
    }

    /// Whose password that is.
    pub(super) async fn check(
        &self,
        users: &Arc<Users>,
        name: &str,
        password: &str,
        from: IpAddr,
    ) -> Verdict {
        let from = source(from);
        let key = self.hash(users, name, password);
        {
            let memory = self.memory.lock();
            if let Some(caller) = memory.known(&key, Instant::now()) {
                return Verdict::Right(caller);
            }
            if let Some(seconds) = memory.pause(from, Instant::now()) {
                return Verdict::Pause(seconds);
            }
        }
        // Nobody has such; and no longer text is hashed.
        if name.len() > MAX_PASSWORD || password.len() > MAX_PASSWORD {
            self.memory.lock().wrong(from, Instant::now());
            return Verdict::Wrong;
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Verdict::Busy;
        };
        let Ok(_turn) = self.turn.acquire().await else {
            return Verdict::Busy;
        };
        // Meanwhile others of the address may have failed, or this one have come through.
        {
            let memory = self.memory.lock();
            if let Some(caller) = memory.known(&key, Instant::now()) {
                return Verdict::Right(caller);
            }
            if let Some(seconds) = memory.pause(from, Instant::now()) {
                return Verdict::Pause(seconds);
            }
        }
        let (users, name) = (users.clone(), name.to_owned());
        let password = Zeroizing::new(password.to_owned());
        let checked = spawn_blocking(move || users.verify(&name, password.as_bytes()));
        let Ok(found) = checked.await else {
            return Verdict::Busy;
        };
        let mut memory = self.memory.lock();
        match found {
            Some(caller) => {
                memory.right(key, &caller, from, Instant::now());
                Verdict::Right(caller)
            }
            None => {
                memory.wrong(from, Instant::now());
                Verdict::Wrong
            }
        }
    }

    /// Of the file too: a check that began before another one was read proves nothing for that.
    fn hash(&self, users: &Arc<Users>, name: &str, password: &str) -> [u8; 32] {
        let mut mac = self.key.clone();
        mac.update(&users.number().to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Whom an address belongs to: of IPv6 a network of 64 bits, in which a sender has all addresses.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::caller::Role;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    #[test]
    fn who_fails_has_to_pause_longer_each_time() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..FREE - 1 {
            memory.wrong(address(1), start);
            assert_eq!(memory.pause(address(1), start), None);
        }
        for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
            memory.wrong(address(1), start);
            assert_eq!(memory.pause(address(1), start), Some(pause + 1));
            assert_eq!(memory.pause(address(1), at(pause)), None);
            assert_eq!(memory.pause(address(2), start), None);
        }
        memory.wrong(address(1), at(FORGET.as_secs()));
        assert_eq!(memory.pause(address(1), at(FORGET.as_secs())), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let caller = Caller {
            name: "ann".into(),
            role: Role::Read,
        };
        let key = |number: u32| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            key
        };
        for number in 0..10_000 {
            let now = start + Duration::from_millis(number.into());
            memory.wrong(address(number), now);
            memory.right(key(number), &caller, address(u32::MAX), now);
        }
        assert_eq!(memory.failed.len(), MOST_FAILED);
        assert_eq!(memory.known.len(), MOST_KNOWN);
        let end = start + Duration::from_secs(10);
        assert!(memory.known(&key(9_999), end).is_some());
        assert!(memory.known(&key(0), end).is_none());
        assert!(memory.known(&key(9_999), end + KNOWN).is_none());
    }

    #[test]
    fn an_ipv6_network_is_one_sender() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
