//! A descriptor that is readable while something waits.

#![allow(unsafe_code)] // eventfd

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

#[derive(Debug)]
pub(super) struct Wake(OwnedFd);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: plain call without pointers.
        let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a fresh descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Makes it readable.
    pub(super) fn set(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a live local. It fails when the counter is full, which
        // is readable as well.
        unsafe { libc::write(self.fd(), ptr::from_ref(&one).cast(), 8) };
    }

    /// Makes it not readable.
    pub(super) fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into a live local; "would block" leaves it alone.
        unsafe { libc::read(self.fd(), ptr::from_mut(&mut count).cast(), 8) };
    }
}
