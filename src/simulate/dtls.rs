//! DTLS 1.2 with a pre-shared key or a certificate, as a client: OpenSSL over datagrams in memory. It reads no
//! clock and owns no socket; OpenSSL alone looks at the time, for its retransmissions.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    self, ErrorCode, ShutdownState, Ssl, SslContext, SslMethod, SslOptions, SslStream,
    SslVerifyMode, SslVersion,
};

use super::certificates::Certificate;
use super::cid::{self, Framing, ServerId};
use crate::credentials::Key;

/// Largest datagram of a handshake, in bytes of UDP payload.
const MTU: u32 = 1280;
/// How often OpenSSL is asked whether a flight is due again: it repeats after 1 s, 2 s, 4 s ...
const POKE: Duration = Duration::from_millis(250);
/// A handshake without an end is given up; a server says nothing about a wrong key.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Messages kept until the handshake is done.
const MAX_WAITING: usize = 16;
/// Largest plaintext of a record (RFC 5246 §6.2.1).
const MAX_PLAINTEXT: usize = 1 << 14;

/// Who a device is to the server.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) identity: String,
    pub(super) key: Key,
    /// What it shows instead of a key.
    pub(super) certificate: Option<Arc<Certificate>>,
}

/// What all sessions of a run share.
pub(super) struct Client {
    context: SslContext,
    credentials: Index<Ssl, Credentials>,
    /// Where connections keep the server's id, if they offer to use ids.
    ids: Option<Index<Ssl, ServerId>>,
}

/// OpenSSL's side of a connection, and how its records look on the wire.
struct Connection {
    stream: SslStream<Datagrams>,
    framing: Option<Framing>,
}

impl Connection {
    fn take_in(&mut self, datagram: &[u8]) {
        let datagram = match &mut self.framing {
            Some(framing) => framing.inward(self.stream.ssl(), datagram),
            None => datagram.to_vec(),
        };
        // Nothing of it is left when a record with an id is damaged.
        if !datagram.is_empty() {
            self.stream.get_mut().incoming.push_back(datagram);
        }
    }

    fn give_out(&mut self, wire: &mut Vec<Vec<u8>>) {
        let written = std::mem::take(&mut self.stream.get_mut().outgoing);
        let Some(framing) = &mut self.framing else {
            wire.extend(written);
            return;
        };
        for datagram in written {
            wire.push(framing.outward(self.stream.ssl(), datagram));
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("the handshake did not finish within 20 s; perhaps the key is wrong")]
    Timeout,
    #[error("the server closed the session")]
    Closed,
    #[error("{0}")]
    OpenSsl(String),
}

impl Client {
    /// A client that offers `ciphers`, names as in OpenSSL with colons between them, and connection ids
    /// for what it sends (`ids`): it listens at its own address and needs none. With `authorities`, a
    /// file, the server must show a certificate that one of them issued.
    pub(super) fn new(
        ciphers: &str,
        ids: bool,
        authorities: Option<&Path>,
    ) -> Result<Self, ErrorStack> {
        let credentials = Ssl::new_ex_index::<Credentials>()?;
        let mut builder = SslContext::builder(SslMethod::dtls_client())?;
        builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
        // OpenSSL counts the 64-bit tag of CCM8 as too weak for its default level.
        builder.set_security_level(0);
        builder.set_cipher_list(ciphers)?;
        builder.set_options(SslOptions::NO_QUERY_MTU);
        builder.set_verify(SslVerifyMode::NONE);
        if let Some(file) = authorities {
            builder.set_ca_file(file)?;
            builder.set_verify(SslVerifyMode::PEER);
        }
        builder.set_psk_client_callback(move |ssl, _hint, identity, key| {
            Ok(ssl
                .ex_data(credentials)
                .and_then(|mine| copy(mine, identity, key))
                .unwrap_or(0))
        });
        let ids = ids.then(|| cid::offer(&mut builder, Vec::new()));
        Ok(Self {
            ids: ids.transpose()?,
            context: builder.build(),
            credentials,
        })
    }

    fn open(&self, credentials: &Credentials) -> Result<Connection, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        if let Some(certificate) = &credentials.certificate {
            ssl.set_certificate(&certificate.own)?;
            for issuer in &certificate.chain {
                ssl.add_chain_cert(issuer.clone())?;
            }
            ssl.set_private_key(&certificate.key)?;
        }
        ssl.set_ex_data(self.credentials, credentials.clone());
        ssl.set_mtu(MTU)?;
        let framing = self.ids.map(|index| Framing::new(&mut ssl, index, &[]));
        let stream = SslStream::new(ssl, Datagrams::default())?;
        Ok(Connection { stream, framing })
    }
}

/// Fills OpenSSL's buffers; `None` when one is too small. The identity ends with a zero byte.
fn copy(credentials: &Credentials, identity: &mut [u8], key: &mut [u8]) -> Option<usize> {
    let name = credentials.identity.as_bytes();
    let (end, rest) = identity.split_at_mut_checked(name.len())?;
    end.copy_from_slice(name);
    *rest.first_mut()? = 0;
    let secret = credentials.key.as_bytes();
    key.get_mut(..secret.len())?.copy_from_slice(secret);
    Some(secret.len())
}

/// Datagrams on their way into and out of OpenSSL; each call of it is about one of them.
#[derive(Default)]
struct Datagrams {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(datagram) = self.incoming.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let length = datagram.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), datagram.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

impl Write for Datagrams {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The connection of one device: made when the device has something to say, and made again after
/// it was lost.
pub(super) struct Session {
    credentials: Credentials,
    state: State,
}

enum State {
    Idle,
    Handshaking {
        connection: Connection,
        poke_at: Instant,
        give_up_at: Instant,
        waiting: Vec<Vec<u8>>,
    },
    Established(Connection),
}

impl Session {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            state: State::Idle,
        }
    }

    /// Sends a message: as a record when there is a session, after the handshake otherwise.
    /// Datagrams go to `wire`.
    pub(super) fn send(
        &mut self,
        client: &Client,
        now: Instant,
        message: Vec<u8>,
        wire: &mut Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        match &mut self.state {
            State::Established(connection) => {
                let sent = connection.stream.ssl_write(&message);
                connection.give_out(wire);
                match sent {
                    Ok(_) => Ok(()),
                    Err(error) => self.end(failure(&error)),
                }
            }
            // What is repeated meanwhile need not be sent twice afterwards.
            State::Handshaking { waiting, .. } => {
                if waiting.len() < MAX_WAITING && !waiting.contains(&message) {
                    waiting.push(message);
                }
                Ok(())
            }
            State::Idle => {
                let connection = client
                    .open(&self.credentials)
                    .map_err(|error| Failure::OpenSsl(error.to_string()))?;
                self.state = State::Handshaking {
                    connection,
                    poke_at: now + POKE,
                    give_up_at: now + HANDSHAKE_TIMEOUT,
                    waiting: vec![message],
                };
                self.handshake(wire).map(|_| ())
            }
        }
    }

    /// Takes a datagram of the server; returns the messages in it. Datagrams go to `wire`.
    pub(super) fn receive(
        &mut self,
        datagram: &[u8],
        wire: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let (State::Handshaking { connection, .. } | State::Established(connection)) =
            &mut self.state
        else {
            return Ok(Vec::new());
        };
        connection.take_in(datagram);
        if !self.handshake(wire)? {
            return Ok(Vec::new());
        }
        self.read(wire)
    }

    /// When [`Session::on_timeout`] is to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Handshaking {
                poke_at,
                give_up_at,
                ..
            } => Some(*poke_at.min(give_up_at)),
            State::Idle | State::Established(_) => None,
        }
    }

    /// Repeats what the server did not answer.
    pub(super) fn on_timeout(
        &mut self,
        now: Instant,
        wire: &mut Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        let State::Handshaking {
            poke_at,
            give_up_at,
            ..
        } = &mut self.state
        else {
            return Ok(());
        };
        if *give_up_at <= now {
            return self.end(Failure::Timeout);
        }
        if *poke_at <= now {
            *poke_at = now + POKE;
            // With nothing to read OpenSSL looks at its timer.
            self.handshake(wire)?;
        }
        Ok(())
    }

    /// Says goodbye (close_notify), if there is anybody.
    pub(super) fn close(&mut self, wire: &mut Vec<Vec<u8>>) {
        if let State::Established(connection) = &mut self.state {
            // The answer is not waited for: the socket goes away with the process.
            let _ = connection.stream.shutdown();
            connection.give_out(wire);
        }
        self.state = State::Idle;
    }

    /// Whether there is a connection.
    pub(super) const fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Goes on with the handshake; whether it is done. What waited for its end is sent.
    fn handshake(&mut self, wire: &mut Vec<Vec<u8>>) -> Result<bool, Failure> {
        let State::Handshaking { connection, .. } = &mut self.state else {
            return Ok(self.is_established());
        };
        let done = connection.stream.connect();
        connection.give_out(wire);
        match done {
            Ok(()) => {}
            Err(error) if would_block(&error) => return Ok(false),
            Err(error) => return self.end(failure(&error)),
        }
        if let State::Handshaking {
            mut connection,
            waiting,
            ..
        } = std::mem::replace(&mut self.state, State::Idle)
        {
            let written = waiting
                .iter()
                .try_for_each(|message| connection.stream.ssl_write(message).map(|_| ()));
            connection.give_out(wire);
            written.map_err(|error| failure(&error))?;
            self.state = State::Established(connection);
        }
        Ok(true)
    }

    fn read(&mut self, wire: &mut Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let State::Established(connection) = &mut self.state else {
            return Ok(Vec::new());
        };
        let stream = &mut connection.stream;
        let mut messages = Vec::new();
        let mut buffer = [0; MAX_PLAINTEXT];
        let ended = loop {
            match stream.ssl_read(&mut buffer) {
                Ok(length) => messages.push(buffer.get(..length).unwrap_or_default().to_vec()),
                Err(error) if would_block(&error) => break None,
                Err(error) => break Some(failure(&error)),
            }
        };
        if stream.get_shutdown().contains(ShutdownState::RECEIVED) {
            let _ = stream.shutdown();
        }
        connection.give_out(wire);
        match ended {
            // What came with the last datagrams is of no use without a way to answer it.
            Some(failure) => self.end(failure),
            None => Ok(messages),
        }
    }

    fn end<T>(&mut self, failure: Failure) -> Result<T, Failure> {
        self.state = State::Idle;
        Err(failure)
    }
}

fn would_block(error: &ssl::Error) -> bool {
    matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE)
}

fn failure(error: &ssl::Error) -> Failure {
    match (error.code(), error.ssl_error()) {
        (ErrorCode::ZERO_RETURN, _) => Failure::Closed,
        (_, Some(stack)) => Failure::OpenSsl(
            stack
                .errors()
                .first()
                .and_then(|error| error.reason())
                .map_or_else(|| error.to_string(), str::to_owned),
        ),
        _ => Failure::OpenSsl(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
