//! Datagrams that need no answer: made by their number, sent as fast as the system takes them.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, MessageType};

use crate::{Counts, Options, Run};

/// Writes the datagram of a number.
pub(crate) type Make = fn(&Options, u64) -> Vec<u8>;

/// Datagrams for one system call.
const BATCH: usize = 64;

/// Most bytes of a datagram over IPv4.
const LARGEST: usize = 65_507;

/// The datagrams of a kind of flood.
pub(crate) fn kind(name: &str) -> Option<Make> {
    Some(match name {
        "junk" => junk,
        "ping" => ping,
        "reset" => reset,
        "register" => register,
        "register-blocks" => register_blocks,
        "update" => update,
        "send" => send,
        "large" => large,
        _ => return None,
    })
}

/// Sends the datagrams in turn over the sockets, and counts what comes back.
pub(crate) fn run((options, pace, counts): Run<'_>, make: Make) {
    let sockets: Vec<UdpSocket> = (0..options.sockets.max(1))
        .map(|_| socket(options))
        .collect();
    let batch = if options.size > 4096 { 8 } else { BATCH };
    for socket in sockets.iter().cycle() {
        let Some((first, number)) = pace.next(batch as u64) else {
            break;
        };
        let datagrams: Vec<Vec<u8>> = (first..first + number)
            .map(|index| make(options, index))
            .collect();
        send_batch(socket, &datagrams, counts);
        receive(socket, counts);
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    for socket in &sockets {
        receive(socket, counts);
    }
}

/// A socket with the source address of the flood, which never blocks for answers.
pub(crate) fn socket(options: &Options) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::V4(SocketAddrV4::new(options.from, 0)))
        .expect("a socket at the source address");
    socket.connect(options.to).expect("the target");
    socket
}

/// One `sendmmsg`, which waits for room in the socket's buffer.
fn send_batch(socket: &UdpSocket, datagrams: &[Vec<u8>], counts: &Counts) {
    let mut parts: Vec<libc::iovec> = datagrams
        .iter()
        .map(|datagram| libc::iovec {
            iov_base: datagram.as_ptr().cast_mut().cast(),
            iov_len: datagram.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: all zero is a valid `mmsghdr`: no name, no parts, no control data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let mut done = 0;
    while done < messages.len() {
        let rest = &mut messages[done..];
        // SAFETY: `rest` points at messages whose parts point at datagrams, all alive; the system
        // only reads the datagrams.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
        let Ok(sent @ 1..) = usize::try_from(sent) else {
            // An ICMP error of an earlier datagram is told once, the next call goes on.
            counts.failed();
            done += 1;
            continue;
        };
        let bytes = datagrams[done..done + sent].iter().map(Vec::len).sum();
        counts.sent(sent as u64, bytes);
        done += sent;
    }
}

/// Takes what has come.
pub(crate) fn receive(socket: &UdpSocket, counts: &Counts) {
    let mut buffer = [0; 2048];
    socket.set_nonblocking(true).expect("a socket");
    while let Ok(length) = socket.recv(&mut buffer) {
        counts.received(length);
    }
    socket.set_nonblocking(false).expect("a socket");
}

/// Pseudo-random bytes, the same for the same number (splitmix64).
fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((z ^ (z >> 31)).to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn mid(index: u64) -> u16 {
    index as u16
}

fn request(index: u64, code: Code) -> Builder {
    Builder::new(
        MessageType::Confirmable,
        code,
        mid(index),
        &index.to_be_bytes(),
    )
}

fn size(options: &Options, default: usize) -> usize {
    match options.size {
        0 => default,
        size => size.min(LARGEST - 512),
    }
}

fn junk(options: &Options, index: u64) -> Vec<u8> {
    let length = 1 + (index as usize * 37) % size(options, 1200);
    let mut bytes = noise(index, length);
    // Every second one begins as CoAP does.
    if index.is_multiple_of(2) {
        bytes[0] = 0x40 | bytes[0] & 0x3f;
    }
    bytes
}

fn ping(_: &Options, index: u64) -> Vec<u8> {
    let [high, low] = mid(index).to_be_bytes();
    vec![0x40, 0, high, low]
}

/// Resets, and acknowledgements with and without a response, for nothing.
fn reset(_: &Options, index: u64) -> Vec<u8> {
    let [high, low] = mid(index).to_be_bytes();
    match index % 3 {
        0 => vec![0x70, 0, high, low],
        1 => vec![0x60, 0, high, low],
        _ => [&[0x68, 0x45, high, low][..], &noise(index, 8), b"\xffx"].concat(),
    }
}

/// Each Register has an endpoint of its own, and query items up to the size.
fn register(options: &Options, index: u64) -> Vec<u8> {
    let mut builder = request(index, Code::POST)
        .option(option::URI_PATH, *b"rd")
        .uint(option::CONTENT_FORMAT, 40)
        .option(option::URI_QUERY, format!("ep={}-{index}", options.name))
        .option(option::URI_QUERY, *b"lt=30")
        .option(option::URI_QUERY, *b"lwm2m=1.1");
    for item in 0..options.size.min(LARGEST - 512) / 250 {
        builder = builder.option(
            option::URI_QUERY,
            format!("{item:0>8x}={}", "x".repeat(238)),
        );
    }
    builder.payload(*b"</1/0>,</3/0>").build()
}

/// The first block of a Register whose rest never comes.
fn register_blocks(options: &Options, index: u64) -> Vec<u8> {
    request(index, Code::POST)
        .option(option::URI_PATH, *b"rd")
        .uint(option::CONTENT_FORMAT, 40)
        .option(option::URI_QUERY, format!("ep={}-{index}", options.name))
        .option(option::URI_QUERY, *b"lt=30")
        .uint(option::BLOCK1, 0x0e)
        .payload(vec![b' '; 1024])
        .build()
}

fn update(_: &Options, index: u64) -> Vec<u8> {
    let location: String = noise(index, 8).iter().map(|b| format!("{b:02x}")).collect();
    request(index, Code::POST)
        .option(option::URI_PATH, *b"rd")
        .option(option::URI_PATH, location)
        .build()
}

/// A Send of nobody who is registered.
fn send(options: &Options, index: u64) -> Vec<u8> {
    let text = "x".repeat(size(options, 1000));
    request(index, Code::POST)
        .option(option::URI_PATH, *b"dp")
        .uint(option::CONTENT_FORMAT, 110)
        .payload(format!(r#"[{{"n":"/3/0/0","vs":"{text}"}}]"#))
        .build()
}

/// As large as datagrams get: thousands of options, few of which mean something.
fn large(options: &Options, index: u64) -> Vec<u8> {
    let mut builder = request(index, Code::POST).option(option::URI_PATH, *b"rd");
    for item in 0..size(options, LARGEST - 512) / 5 {
        builder = builder.option(option::URI_QUERY, format!("{:03x}", item & 0xfff));
    }
    builder.build()
}
