//! The command `healthcheck`: whether a gateway on this machine answers at its listeners, for
//! containers and for people.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Config;

use super::options::config_of;
use super::say;

/// How long one try waits for an answer, and how many tries there are.
const PATIENCE: Duration = Duration::from_millis(500);
const TRIES: u32 = 4;

/// An empty confirmable message, which is answered by a reset (RFC 7252 §4.3).
const PING: [u8; 4] = [0x40, 0, 0x7e, 0x57];
const RESET: [u8; 4] = [0x70, 0, 0x7e, 0x57];

/// First byte of a DTLS record of handshake messages, and of its first message when that is a
/// HelloVerifyRequest (RFC 6347 §4.2.2).
const HANDSHAKE: u8 = 22;
const HELLO_VERIFY_REQUEST: u8 = 3;
const RECORD_HEADER: usize = 13;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Configuration file of the gateway; each listener in it is checked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Asks each listener; 0 when all of them answer.
pub(crate) fn healthcheck(options: &Options) -> ExitCode {
    let config = match config_of(options.config.as_deref()) {
        Ok(config) => config,
        Err(errors) => return say::failure(&errors),
    };
    let silent: Vec<_> = listeners(&config)
        .into_iter()
        .filter_map(|(name, address, dtls)| {
            let error = ask(address, dtls).err()?;
            Some(format!("{name}, {address}: {error}"))
        })
        .collect();
    if silent.is_empty() {
        say::out("ok");
        return ExitCode::SUCCESS;
    }
    say::failure(&silent)
}

/// Names, addresses from this machine, and whether they speak DTLS.
fn listeners(config: &Config) -> Vec<(String, SocketAddr, bool)> {
    let udp = config.listeners.udp.iter();
    let udp = udp.map(|(name, listener)| (format!("listeners.udp.{name}"), listener, false));
    let dtls = config.listeners.dtls.iter();
    let dtls =
        dtls.map(|(name, listener)| (format!("listeners.dtls.{name}"), &listener.common, true));
    udp.chain(dtls)
        .filter(|(_, listener, _)| listener.enable)
        .map(|(name, listener, dtls)| (name, here(listener.bind), dtls))
        .collect()
}

/// An address that stands for all of them is asked at the loopback.
fn here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

fn ask(address: SocketAddr, dtls: bool) -> io::Result<()> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let question = if dtls { client_hello() } else { PING.to_vec() };
    let mut answer = [0; 256];
    for _ in 0..TRIES {
        socket.send(&question)?;
        match socket.recv(&mut answer) {
            Ok(length) if is_answer(answer.get(..length).unwrap_or_default(), dtls) => {
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

fn is_answer(datagram: &[u8], dtls: bool) -> bool {
    if dtls {
        datagram.first() == Some(&HANDSHAKE)
            && datagram.get(RECORD_HEADER) == Some(&HELLO_VERIFY_REQUEST)
    } else {
        datagram == RESET
    }
}

/// A ClientHello without a cookie, with the suite of every LwM2M device (PSK-AES128-CCM8). The gateway
/// answers it without keeping anything. Its random bytes are nobody's secret: no handshake follows.
fn client_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([0x7e; 32]);
    // No session, no cookie, one suite, no compression.
    body.extend([0, 0, 0, 2, 0xc0, 0xa8, 1, 0]);
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    let record = length.saturating_add(12);
    let mut datagram = vec![HANDSHAKE, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, record];
    // Kind, length, number of the message, offset and length of the fragment.
    datagram.extend([1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
    datagram.extend(body);
    datagram
}
