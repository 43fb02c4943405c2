//! System calls about the process as a whole, for the program and for the files it reads, and what
//! the mode of such a file means.

#![allow(unsafe_code)] // prctl(2), setrlimit(2), geteuid(2), tcgetattr(3), malloc_trim(3)

#[cfg(any(feature = "internals", feature = "standalone"))]
use std::io;

/// Keeps the memory of this process, which holds keys, out of core dumps, and other processes of
/// its user from reading it (`PR_SET_DUMPABLE`, see proc(5) and ptrace(2)).
///
/// # Errors
/// What the system says.
#[cfg(any(feature = "internals", feature = "standalone"))]
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is read during the call only.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })?;
    let off: libc::c_ulong = 0;
    // SAFETY: this option takes one number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, off, off, off, off) })
}

/// How the terminal on standard input was set, to be set again: an editor of lines changes it.
#[cfg(any(feature = "internals", feature = "standalone"))]
pub struct Terminal(libc::termios);

#[cfg(any(feature = "internals", feature = "standalone"))]
impl Terminal {
    /// `None`: there is none.
    pub fn of_standard_input() -> Option<Self> {
        let mut settings = std::mem::MaybeUninit::uninit();
        // SAFETY: fills the settings during the call only.
        let result = unsafe { libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()) };
        // SAFETY: the call has succeeded, so it has filled them.
        (result == 0).then(|| Self(unsafe { settings.assume_init() }))
    }

    /// Sets it as it was.
    pub fn restore(&self) {
        // SAFETY: the settings are read during the call only.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const self.0) };
    }
}

/// Gives free pages of the heap back to the system, where the C library would keep them.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and locks what it works on.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The user whose rights this process has.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: it takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

#[cfg(any(feature = "internals", feature = "standalone"))]
fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Why a file of secrets with this mode is refused: everybody can read it, or change it. `None`:
/// its owner and its group alone can.
pub fn open_to_everyone(mode: u32) -> Option<String> {
    let shown = mode & 0o7777;
    let what = match mode & 0o006 {
        0 => return None,
        0o004 => "read",
        0o002 => "write",
        _ => "read and write",
    };
    Some(format!(
        "every user of this machine can {what} (mode {shown:04o})"
    ))
}
