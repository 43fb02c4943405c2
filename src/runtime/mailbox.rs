//! Where other threads leave what they have for a shard: a bounded queue with an eventfd that wakes
//! it.

#![allow(unsafe_code)] // eventfd

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::mail::Mail;
use crate::engine::CommandInput;
use crate::memory::{Kind, Memory};

#[derive(Debug, Default)]
struct Inner {
    mail: Vec<Mail>,
    /// Charged for it.
    bytes: usize,
    /// Nobody takes anything any more.
    closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    wake: OwnedFd,
    memory: Arc<Memory>,
}

impl Mailbox {
    pub(super) fn new(memory: Arc<Memory>) -> io::Result<Self> {
        // SAFETY: plain call without pointers.
        let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a fresh descriptor that nobody else owns.
        let wake = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self {
            inner: Mutex::new(Inner::default()),
            wake,
            memory,
        })
    }

    /// Leaves something. A command comes back when the account of memory has no room for it, or
    /// when the mailbox is closed, which leaves everything else undone.
    pub(super) fn push(&self, mail: Mail) -> Result<(), CommandInput> {
        let bytes = mail.bytes();
        let mail = match mail {
            Mail::Command(input) => {
                if self.memory.try_reserve(Kind::Mailboxes, bytes).is_err() {
                    return Err(input);
                }
                Mail::Command(input)
            }
            // What is on its way already must arrive.
            other => {
                self.memory.reserve(Kind::Mailboxes, bytes);
                other
            }
        };
        self.put(mail, bytes)
    }

    /// Leaves something that may get lost: what anybody can send. False: there was no room.
    pub(super) fn push_if_room(&self, mail: Mail) -> bool {
        let bytes = mail.bytes();
        if self.memory.try_reserve(Kind::Mailboxes, bytes).is_err() {
            return false;
        }
        self.put(mail, bytes).is_ok()
    }

    /// Leaves what is charged for already.
    fn put(&self, mail: Mail, bytes: usize) -> Result<(), CommandInput> {
        let mut inner = self.inner.lock();
        if inner.closed {
            drop(inner);
            self.memory.release(Kind::Mailboxes, bytes);
            return match mail {
                Mail::Command(input) => Err(input),
                _ => Ok(()),
            };
        }
        inner.bytes += bytes;
        inner.mail.push(mail);
        let first = inner.mail.len() == 1;
        drop(inner);
        // Whoever finds the box empty wakes the shard; it takes everything at once.
        if first {
            self.wake();
        }
        Ok(())
    }

    fn wake(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a live local. It fails only when the counter is about
        // to overflow, and then the shard is awake anyway.
        unsafe { libc::write(self.wake.as_raw_fd(), ptr::from_ref(&one).cast(), 8) };
    }

    /// Takes nothing more; what was left before stays to be taken.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
    }

    /// Takes everything; `into` must be empty and its room is kept. Returns the bytes to be given
    /// back to [`Kind::Mailboxes`] once all of it is done.
    pub(super) fn take(&self, into: &mut Vec<Mail>) -> usize {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into a live local; "would block" leaves it alone.
        unsafe { libc::read(self.wake.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) };
        let mut inner = self.inner.lock();
        mem::swap(&mut inner.mail, into);
        mem::take(&mut inner.bytes)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Dialect;
    use crate::memory::Shares;

    fn command(payload: usize) -> Mail {
        Mail::Command(CommandInput {
            order: 0,
            endpoint: "ep".into(),
            mount: "lwm2m/ep/".into(),
            dialect: Dialect::Current,
            payload: vec![b'x'; payload],
            expiry: None,
            origin: None,
            reply: None,
        })
    }

    #[test]
    fn bounded_in_bytes_for_commands_only() {
        let memory = Arc::new(Memory::new(Shares::new(10 << 20, true)));
        let limit = memory.limit(Kind::Mailboxes);
        let mailbox = Mailbox::new(memory.clone()).unwrap();
        let mut pushed = 0;
        while mailbox.push(command(1000)).is_ok() {
            pushed += 1;
        }
        assert!((limit / 2000..limit / 1000).contains(&pushed), "{pushed}");
        assert!(mailbox.push(Mail::Stop).is_ok());
        let mut mail = Vec::new();
        let bytes = mailbox.take(&mut mail);
        assert_eq!(mail.len(), pushed + 1);
        assert!(mailbox.push(command(1000)).is_err(), "it is not done yet");
        memory.release(Kind::Mailboxes, bytes);
        assert!(mailbox.push(command(1000)).is_ok());
        let bytes = mailbox.take(&mut Vec::new());
        memory.release(Kind::Mailboxes, bytes);
        assert_eq!(memory.used(Kind::Mailboxes), 0);
    }

    #[test]
    fn c8_commands_come_back_from_a_closed_mailbox() {
        let memory = Arc::new(Memory::new(Shares::new(10 << 20, true)));
        let mailbox = Mailbox::new(memory.clone()).unwrap();
        assert!(mailbox.push(command(10)).is_ok());
        mailbox.close();
        assert!(mailbox.push(command(10)).is_err());
        assert!(mailbox.push(Mail::Stop).is_ok());
        let mut mail = Vec::new();
        let bytes = mailbox.take(&mut mail);
        assert!(matches!(mail[..], [Mail::Command(_)]));
        memory.release(Kind::Mailboxes, bytes);
        assert_eq!(memory.used(Kind::Mailboxes), 0);
    }
}
