//! What systemd is told (sd_notify(3)): lines in a datagram to the socket that `NOTIFY_SOCKET` names.
//! Without that variable nothing happens.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What became of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It serves: the first time, or again after a reload.
    Ready,
    /// It serves, with the configuration of before, since the new one is wrong.
    NotReloaded,
    /// It reads its configuration again.
    Reloading,
    /// It ends.
    Stopping,
}

/// Tells the service manager. That nobody hears it is no reason to stop.
pub(crate) fn notify(state: State) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state.lines()) {
        tracing::warn!("NOTIFY_SOCKET: {error}");
    }
}

impl State {
    fn lines(self) -> &'static str {
        match self {
            Self::Ready => "READY=1\nSTATUS=Serving",
            Self::NotReloaded => {
                "READY=1\nSTATUS=Reload failed: still running with the previous configuration"
            }
            Self::Reloading => "RELOADING=1\nSTATUS=Reading the configuration",
            Self::Stopping => "STOPPING=1\nSTATUS=Stopping",
        }
    }
}

fn send(socket: &OsStr, lines: &str) -> io::Result<()> {
    // An `@` stands for the NUL before an abstract name.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    // A manager that stands still must not hold us up.
    from.set_nonblocking(true)?;
    from.send_to_addr(lines.as_bytes(), &address).map(drop)
}
