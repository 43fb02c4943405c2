//! Clients of the broker that mean harm, over the least of MQTT 3.1.1.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::{Options, Run};

/// Clients at a time.
const THREADS: usize = 8;

/// Commands for devices that nobody has heard of, or with `--name` for that one; `--size` is of
/// the JSON.
pub(crate) fn commands((options, pace, counts): Run<'_>) {
    let mut stream = connected(options, "commands").expect("the broker");
    let (mut reader, rest) = (stream.try_clone().expect("a socket"), pace.left());
    thread::scope(|scope| {
        // Answers are not subscribed to; what comes is thrown away.
        scope.spawn(move || {
            let _ = reader.set_read_timeout(Some(Duration::from_millis(500)));
            let mut buffer = [0; 4096];
            let end = std::time::Instant::now() + rest;
            while std::time::Instant::now() < end {
                match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        });
        while let Some((index, _)) = pace.next(1) {
            let topic = match options.name.as_str() {
                "flood" => format!("lwm2m/nobody-{index}/dn/dm"),
                endpoint => format!("lwm2m/{endpoint}/dn/dm"),
            };
            let command = match options.size {
                0 => format!(r#"{{"reqID":{index},"msgType":"read","data":{{"path":"/3/0/0"}}}}"#),
                size => format!(
                    r#"{{"reqID":{index},"msgType":"write","data":{{"path":"/5/0/0","type":"Opaque","value":"{}"}}}}"#,
                    "QUJD".repeat(size / 4)
                ),
            };
            match packet(&mut stream, 0x30, &[&text(&topic), command.as_bytes()]) {
                Ok(bytes) => counts.sent(1, bytes),
                Err(_) => {
                    // The broker may close a connection that sends too much.
                    counts.failed();
                    thread::sleep(Duration::from_millis(20));
                    match connected(options, "commands") {
                        Ok(again) => stream = again,
                        Err(_) => thread::sleep(Duration::from_millis(100)),
                    }
                }
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
}

/// Connections with a CONNECT each, and wrong passwords.
pub(crate) fn connects((options, pace, counts): Run<'_>) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((index, _)) = pace.next(1) {
                    let answer = connect(options, &format!("connect-{index}"), Some("guess"));
                    match answer {
                        Ok((_, code)) => {
                            counts.sent(1, 0);
                            if code == 0 {
                                counts.received(4);
                            }
                        }
                        Err(_) => counts.failed(),
                    }
                }
            });
        }
    });
}

/// Connections that send nothing, or the half of a CONNECT, and stay.
pub(crate) fn half_open((options, pace, counts): Run<'_>) {
    let mut open = Vec::new();
    while let Some((index, _)) = pace.next(1) {
        let Ok(mut stream) = open_stream(options) else {
            counts.failed();
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if index % 2 == 1 {
            let _ = stream.write_all(b"\x10\x40\0\x04MQTT");
        }
        counts.sent(1, 0);
        open.push(stream);
    }
    thread::sleep(pace.left());
}

/// Subscribers to everything that never read.
pub(crate) fn slow_readers((options, pace, counts): Run<'_>) {
    let mut open = Vec::new();
    while let Some((index, _)) = pace.next(1) {
        let subscribed = connected(options, &format!("slow-{index}")).and_then(|mut stream| {
            packet(&mut stream, 0x82, &[&[0, 1], &text("#"), &[1]])?;
            Ok(stream)
        });
        match subscribed {
            Ok(stream) => {
                counts.sent(1, 0);
                open.push(stream);
            }
            Err(_) => counts.failed(),
        }
    }
    println!("subscribed");
    thread::sleep(pace.left());
}

fn connected(options: &Options, client: &str) -> io::Result<TcpStream> {
    match connect(options, client, None)? {
        (stream, 0) => Ok(stream),
        (_, code) => Err(io::Error::other(format!("CONNACK {code}"))),
    }
}

/// A connection and the code of its CONNACK.
fn connect(options: &Options, client: &str, password: Option<&str>) -> io::Result<(TcpStream, u8)> {
    let mut stream = open_stream(options)?;
    // Clean session; with a user and a password where one is given. No keep-alive.
    let flags = if password.is_some() { 0xc2 } else { 2 };
    let mut credentials = Vec::new();
    if let Some(password) = password {
        credentials.extend(text("admin"));
        credentials.extend(text(password));
    }
    let head = [b"\0\x04MQTT\x04".as_slice(), &[flags, 0, 0]].concat();
    packet(&mut stream, 0x10, &[&head, &text(client), &credentials])?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    Ok((stream, answer[3]))
}

/// From the flood's address, not from 127.0.0.1.
fn open_stream(options: &Options) -> io::Result<TcpStream> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain call without pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the socket was just made and has no other owner.
    let stream = unsafe { TcpStream::from_raw_fd(socket) };
    let call = |call: unsafe extern "C" fn(i32, *const libc::sockaddr, u32) -> i32,
                address: SocketAddr| {
        let SocketAddr::V4(address) = address else {
            return Err(io::Error::other("IPv4 only"));
        };
        // SAFETY: all zero is a valid address.
        let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        raw.sin_family = libc::AF_INET as u16;
        raw.sin_port = address.port().to_be();
        raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        let length = size_of::<libc::sockaddr_in>() as u32;
        // SAFETY: `raw` is an address of that length and lives for the call.
        match unsafe { call(socket, (&raw const raw).cast(), length) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    call(libc::bind, SocketAddr::from((options.from, 0)))?;
    call(libc::connect, options.to)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

fn packet(stream: &mut TcpStream, first: u8, parts: &[&[u8]]) -> io::Result<usize> {
    let mut rest = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut packet = vec![first];
    loop {
        let more = if rest > 127 { 0x80 } else { 0 };
        packet.push((rest & 127) as u8 | more);
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    stream.write_all(&packet)?;
    Ok(packet.len())
}

/// A string with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}
