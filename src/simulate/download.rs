//! Fetches a firmware by its URI over CoAP, block by block (RFC 7959 §2.4), on a thread of its own:
//! one after the other, so that a thousand devices do not make a thousand threads.

use std::io;
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::image::MAX_IMAGE;
use super::wire::{BLOCK_EXPONENT, Block, Kind, Message, code, option};

const ACK_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RETRANSMIT: u32 = 4;
/// How long a server may take for an answer that it has announced.
const SEPARATE: Duration = Duration::from_secs(30);
/// Blocks that were not asked for, until the transfer is given up.
const MAX_STRAYS: u32 = 10;

/// Why an image does not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("expected coap://host:port/path with a host that can be resolved")]
    Uri,
    #[error("it is larger than {MAX_IMAGE} bytes")]
    TooLarge,
    #[error("no answer")]
    Silence,
    #[error("{0}")]
    Refused(String),
    #[error("its blocks do not fit together")]
    Broken,
    #[error("{0}")]
    Socket(#[from] io::Error),
}

/// An image, or why it does not come, and whose it is.
type Fetched = (usize, Result<Vec<u8>, Failure>);

/// The images of all devices of a run.
#[derive(Debug)]
pub(super) struct Downloads {
    jobs: Option<Sender<(usize, String)>>,
    sender: Sender<Fetched>,
    results: Receiver<Fetched>,
}

impl Downloads {
    pub(super) fn new() -> Self {
        let (sender, results) = mpsc::channel();
        Self {
            jobs: None,
            sender,
            results,
        }
    }

    /// Fetches what a device wants; [`Downloads::next`] has it later.
    pub(super) fn fetch(&mut self, device: usize, uri: String) {
        let results = self.sender.clone();
        let jobs = self.jobs.get_or_insert_with(|| {
            let (sender, jobs) = mpsc::channel::<(usize, String)>();
            let work = move || {
                for (device, uri) in jobs {
                    if results.send((device, fetch(&uri))).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("download".to_owned());
            // Without a thread nobody takes the job, which shows below.
            drop(thread.spawn(work));
            sender
        });
        if jobs.send((device, uri)).is_err() {
            let failure = Failure::Socket(io::Error::other("cannot start a thread"));
            let _ = self.sender.send((device, Err(failure)));
        }
    }

    /// The next image that is here, or will not come, and whose it is.
    pub(super) fn next(&self) -> Option<Fetched> {
        self.results.try_recv().ok()
    }
}

/// Fetches what a `coap://` URI names.
fn fetch(uri: &str) -> Result<Vec<u8>, Failure> {
    let target = Target::of(uri).ok_or(Failure::Uri)?;
    let addresses = target
        .authority
        .to_socket_addrs()
        .map_err(|_| Failure::Uri)?;
    let address = addresses.into_iter().next().ok_or(Failure::Uri)?;
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    let mut conversation = Conversation {
        socket,
        mid: u16::try_from(std::process::id() & 0xffff).unwrap_or(0),
    };
    let mut image = Vec::new();
    let mut exponent = BLOCK_EXPONENT;
    let mut strays = 0;
    loop {
        let number = u32::try_from(image.len() >> (exponent + 4)).map_err(|_| Failure::TooLarge)?;
        let asked = Block {
            number,
            more: false,
            exponent,
        };
        let answer = conversation.ask(&target, asked)?;
        if answer.code != code::CONTENT {
            return Err(Failure::Refused(answer.reason()));
        }
        let Some(option) = answer.uint(option::BLOCK2) else {
            return Ok(answer.payload);
        };
        let block = Block::from_uint(option).ok_or(Failure::Broken)?;
        if block.offset() != image.len() {
            strays += 1;
            if strays > MAX_STRAYS {
                return Err(Failure::Broken);
            }
            continue;
        }
        if block.more && answer.payload.len() != block.size() {
            return Err(Failure::Broken);
        }
        image.extend(&answer.payload);
        if image.len() > MAX_IMAGE {
            return Err(Failure::TooLarge);
        }
        if !block.more {
            return Ok(image);
        }
        exponent = block.exponent;
    }
}

struct Target {
    /// Host and port.
    authority: String,
    path: Vec<Vec<u8>>,
    query: Vec<Vec<u8>>,
}

impl Target {
    fn of(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("coap://")?;
        let (authority, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:5683")
        };
        let parts = |text: &str, separator: char| {
            let parts = text.split(separator).filter(|part| !part.is_empty());
            parts.map(decoded).collect::<Option<Vec<_>>>()
        };
        Some(Self {
            authority,
            path: parts(path, '/')?,
            query: parts(query, '&')?,
        })
    }
}

/// Without percent signs (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(16 * high + low).ok()?);
    }
    Some(out)
}

struct Conversation {
    socket: UdpSocket,
    mid: u16,
}

impl Conversation {
    /// The answer to one request, which is repeated until there is one (RFC 7252 §4.2).
    fn ask(&mut self, target: &Target, block: Block) -> Result<Message, Failure> {
        self.mid = self.mid.wrapping_add(1);
        let token = self.mid.to_be_bytes().to_vec();
        let mut request = Message::new(Kind::Confirmable, code::GET, self.mid, token.clone());
        for segment in &target.path {
            request.add(option::URI_PATH, segment.clone());
        }
        for item in &target.query {
            request.add(option::URI_QUERY, item.clone());
        }
        request.add_uint(option::BLOCK2, block.to_uint());
        let request = request.write();
        for attempt in 0..=MAX_RETRANSMIT {
            self.socket.send(&request)?;
            let mut end = Instant::now() + ACK_TIMEOUT * (1 << attempt);
            while let Some(message) = self.receive(end)? {
                if message.code == code::EMPTY && message.mid == self.mid {
                    match message.kind {
                        Kind::Acknowledgement => end = Instant::now() + SEPARATE,
                        Kind::Reset => return Err(Failure::Refused("reset".to_owned())),
                        Kind::Confirmable | Kind::NonConfirmable => {}
                    }
                } else if message.token == token && message.code >= 0x40 {
                    if message.kind == Kind::Confirmable {
                        let ack = Message::empty(Kind::Acknowledgement, message.mid);
                        self.socket.send(&ack.write())?;
                    }
                    return Ok(message);
                }
            }
        }
        Err(Failure::Silence)
    }

    /// The next message that comes before `end`.
    fn receive(&self, end: Instant) -> Result<Option<Message>, Failure> {
        let mut buffer = [0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    if let Some(message) = Message::read(datagram) {
                        return Ok(Some(message));
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let target = Target::of("coap://[::1]:7/a%20b/c?x=1&y").unwrap();
        assert_eq!(target.authority, "[::1]:7");
        assert_eq!(target.path, [b"a b".to_vec(), b"c".to_vec()]);
        assert_eq!(target.query, [b"x=1".to_vec(), b"y".to_vec()]);
        assert_eq!(Target::of("coap://host/x").unwrap().authority, "host:5683");
        for wrong in [
            "http://x/",
            "coap://h/%",
            "coap://h/%4",
            "coap://h/%zz",
            "x",
        ] {
            assert!(Target::of(wrong).is_none(), "{wrong}");
        }
    }
}
