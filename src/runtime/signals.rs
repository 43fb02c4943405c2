//! Threads of ours leave signals to the host.

#![allow(unsafe_code)] // pthread_sigmask

use std::mem;
use std::ptr;

/// Blocks every signal that can be blocked in the calling thread, so that none of the host's is
/// delivered to it.
pub(super) fn block_all() {
    // SAFETY: all-zero is a valid sigset_t, which sigfillset then fills; the call changes the
    // mask of this thread only.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}
