//! Bytes between a client and the broker.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::guests::Ticket;
use super::shared::{Ended, Shared};

/// What begins a header of version 2 of the PROXY protocol, section 2.2 of its specification.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// PROXY of version 2, TCP over IPv6, and the length of the addresses.
const KIND: [u8; 4] = [0x21, 0x21, 0, 36];

/// A client on its way in.
pub(super) struct Entrance<'a> {
    pub(super) shared: &'a Shared,
    peer: SocketAddr,
    identity: Option<String>,
    /// When it has to have logged in.
    pub(super) until: Instant,
}

impl<'a> Entrance<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        peer: SocketAddr,
        identity: Option<String>,
        until: Instant,
    ) -> Self {
        Self {
            shared,
            peer,
            identity,
            until,
        }
    }

    /// A connection to the broker, which ends with its ticket.
    pub(super) async fn connect(&mut self) -> io::Result<(TcpStream, Ticket)> {
        let identity = self.identity.take();
        let ticket = self.shared.guests.enter(self.peer, identity);
        let ticket = ticket.map_err(io::Error::other)?;
        let mut inside = TcpStream::connect(self.shared.inside).await?;
        inside.set_nodelay(true)?;
        inside.write_all(&header(ticket.number)).await?;
        Ok((inside, ticket))
    }
}

/// Serves a client whose bytes are MQTT.
pub(super) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut entrance: Entrance<'_>,
    stranger: SemaphorePermit<'_>,
) -> Result<(), Ended> {
    let (mut inside, ticket) = entrance.connect().await?;
    let relayed = copy_bidirectional(&mut stream, &mut inside);
    in_time(relayed, entrance.until, &ticket, stranger).await?;
    Ok(())
}

/// Goes on with `relayed`, without an end once the client has logged in.
pub(super) async fn in_time<T, E: Into<Ended>>(
    relayed: impl Future<Output = Result<T, E>>,
    until: Instant,
    ticket: &Ticket,
    stranger: SemaphorePermit<'_>,
) -> Result<T, Ended> {
    tokio::pin!(relayed);
    tokio::select! {
        done = &mut relayed => return done.map_err(Into::into),
        () = tokio::time::sleep_until(until) => return Err(Ended::TooSlow),
        () = ticket.inside.notified() => drop(stranger),
    }
    relayed.await.map_err(Into::into)
}

fn header(ticket: Ipv6Addr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend(KIND);
    header.extend(ticket.octets());
    header.extend(Ipv6Addr::LOCALHOST.octets());
    // Ports, which mean nothing here.
    header.extend([0, 1, 0, 1]);
    header
}
