//! Signals are the host's: none may be delivered to a thread of the gateway.

#![allow(unsafe_code)] // pthread_sigmask

use std::mem::MaybeUninit;
use std::ptr;

/// Blocks every signal in the calling thread.
pub(crate) fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set it is given, `pthread_sigmask` reads it.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}
