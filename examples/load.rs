//! Generates load for a whole gateway: devices that register, are observed by MQTT commands, and send
//! notifications.
//!
//! ```sh
//! cargo run --release --example load -- --devices 5000 --rate 2000 --seconds 10 --pid PID
//! ```
//!
//! One thread receives the MQTT messages, one reads what the gateway sends to the devices, one
//! sends. Each device has its own socket (raise `ulimit -n`). With `--pid` it prints the CPU time of
//! the gateway's process, from `/proc/PID/stat`, and its resident memory.

// A program of its own on sockets, clocks and threads; a failure ends it with a message.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};

const USAGE: &str = "\
load [--coap 127.0.0.1:5683] [--mqtt 127.0.0.1:1883] [--mount lwm2m/] [--pid PID]
     [--devices 1000] [--rate PER_SECOND, 0 for as many as possible] [--seconds 10] [--window 200]";

struct Options {
    coap: SocketAddr,
    mqtt: SocketAddr,
    mount: String,
    pid: Option<u32>,
    devices: usize,
    rate: u64,
    seconds: u64,
    /// Devices of which an answer is awaited at a time while registering and observing.
    window: u64,
}

impl Options {
    fn from_arguments() -> Result<Self, String> {
        let mut values = HashMap::new();
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            values.insert(name, value);
        }
        let mut take =
            |name: &str, default: &str| values.remove(name).unwrap_or_else(|| default.to_owned());
        fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
            text.parse()
                .map_err(|_| format!("{text:?} is no valid value"))
        }
        let pid = take("--pid", "");
        let options = Self {
            coap: number(&take("--coap", "127.0.0.1:5683"))?,
            mqtt: number(&take("--mqtt", "127.0.0.1:1883"))?,
            mount: take("--mount", "lwm2m/"),
            pid: (!pid.is_empty()).then(|| number(&pid)).transpose()?,
            devices: number(&take("--devices", "1000"))?,
            rate: number(&take("--rate", "0"))?,
            seconds: number(&take("--seconds", "10"))?,
            window: number(&take("--window", "200"))?,
        };
        match values.keys().next() {
            Some(name) => Err(format!("unknown option {name}")),
            None => Ok(options),
        }
    }
}

/// What the threads count.
#[derive(Default)]
struct Counts {
    registered: AtomicU64,
    observed: AtomicU64,
    /// Notifications that came out at the subscriber.
    notified: AtomicU64,
}

impl Counts {
    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

struct Device {
    socket: UdpSocket,
    /// Its notification, once it is observed.
    notification: Mutex<Option<Vec<u8>>>,
}

fn main() {
    let options = match Options::from_arguments() {
        Ok(options) => options,
        Err(error) => {
            println!("{error}\n{USAGE}");
            std::process::exit(2);
        }
    };
    let counts = Arc::new(Counts::default());
    let mut mqtt = Mqtt::connect(options.mqtt).expect("MQTT broker");
    mqtt.subscribe(&format!("{}+/up/notify", options.mount))
        .expect("subscription");
    let subscriber = mqtt.stream.try_clone().expect("socket");
    let counter = counts.clone();
    thread::spawn(move || count_messages(subscriber, &counter));

    let devices: Arc<Vec<Device>> =
        Arc::new((0..options.devices).map(|_| device(&options)).collect());
    let (reader, counter) = (devices.clone(), counts.clone());
    thread::spawn(move || read_devices(&reader, &counter));

    let usage = Usage::of(options.pid);
    if let Some(pid) = options.pid {
        println!("at the start: {:.1} MiB resident", resident(pid));
    }
    stage("registrations", &options, &counts.registered, |index| {
        devices[index].socket.send(&register(index)).is_ok()
    });
    usage.report("registration", Counts::get(&counts.registered));

    let usage = Usage::of(options.pid);
    stage("observations", &options, &counts.observed, |index| {
        let topic = format!("{}load-{index}/dn/dm", options.mount);
        mqtt.publish(
            &topic,
            br#"{"msgType":"observe","data":{"path":"/3303/0/5700"}}"#,
        )
        .is_ok()
    });
    usage.report("observation", Counts::get(&counts.observed));

    // The rest of what comes before must not be counted with what follows.
    thread::sleep(Duration::from_millis(500));
    let before = Counts::get(&counts.notified);
    let usage = Usage::of(options.pid);
    let start = Instant::now();
    let sent = notify(&options, &devices);
    let sending = start.elapsed();
    let arrived = || Counts::get(&counts.notified) - before;
    let mut last = (arrived(), Instant::now());
    while arrived() < sent && last.1.elapsed() < Duration::from_secs(2) {
        thread::sleep(Duration::from_millis(20));
        if arrived() != last.0 {
            last = (arrived(), Instant::now());
        }
    }
    let whole = last.1 - start;
    println!(
        "notifications: {sent} sent at {:.0}/s, {} arrived at {:.0}/s, loss {:.2} %",
        sent as f64 / sending.as_secs_f64(),
        last.0,
        last.0 as f64 / whole.as_secs_f64(),
        100.0 * (sent - last.0.min(sent)) as f64 / sent.max(1) as f64,
    );
    usage.report("notification", last.0);
}

fn device(options: &Options) -> Device {
    let local: SocketAddr = if options.coap.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    }
    .parse()
    .expect("an address");
    let socket = UdpSocket::bind(local).expect("a socket for each device: ulimit -n");
    socket.connect(options.coap).expect("CoAP address");
    socket.set_nonblocking(true).expect("socket");
    Device {
        socket,
        notification: Mutex::new(None),
    }
}

/// Does `action` for each device with at most `--window` answers outstanding, until `done` has
/// counted them all; what is lost is done again.
fn stage(name: &str, options: &Options, done: &AtomicU64, mut action: impl FnMut(usize) -> bool) {
    let start = Instant::now();
    let all = options.devices as u64;
    for index in 0..options.devices {
        let patience = Instant::now();
        while (index as u64).saturating_sub(Counts::get(done)) >= options.window {
            if patience.elapsed() > Duration::from_secs(5) {
                break;
            }
            thread::sleep(Duration::from_micros(50));
        }
        action(index);
    }
    let patience = Instant::now();
    while Counts::get(done) < all && patience.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_micros(200));
    }
    let took = start.elapsed().as_secs_f64();
    let done = Counts::get(done);
    println!(
        "{name}: {done} of {all} in {took:.2} s, {:.0}/s",
        done as f64 / took
    );
}

/// Sends notifications of all devices in turn; returns how many.
fn notify(options: &Options, devices: &[Device]) -> u64 {
    let mut ready: Vec<(&UdpSocket, Vec<u8>)> = devices
        .iter()
        .filter_map(|device| Some((&device.socket, device.notification.lock().ok()?.clone()?)))
        .collect();
    let start = Instant::now();
    let time = Duration::from_secs(options.seconds);
    let (mut sent, mut round) = (0u64, 0u32);
    while !ready.is_empty() {
        round += 1;
        for (socket, datagram) in &mut ready {
            if sent % 64 == 0 {
                if options.rate > 0 {
                    let due = Duration::from_secs_f64(sent as f64 / options.rate as f64);
                    thread::sleep(due.saturating_sub(start.elapsed()));
                }
                if start.elapsed() >= time {
                    return sent;
                }
            }
            let [_, _, mid @ ..] = round.to_be_bytes();
            let [_, sequence @ ..] = (FIRST_SEQUENCE + round).to_be_bytes();
            datagram[2..4].copy_from_slice(&mid);
            datagram[SEQUENCE_AT..SEQUENCE_AT + 3].copy_from_slice(&sequence);
            if socket.send(datagram).is_ok() {
                sent += 1;
            }
        }
    }
    sent
}

fn register(index: usize) -> Vec<u8> {
    Builder::new(MessageType::Confirmable, Code::POST, 1, &[1])
        .option(option::URI_PATH, *b"rd")
        .uint(option::CONTENT_FORMAT, 40)
        .option(option::URI_QUERY, format!("ep=load-{index}"))
        .option(option::URI_QUERY, *b"lt=86400")
        .option(option::URI_QUERY, *b"lwm2m=1.1")
        .payload(*b"</1/0>,</3/0>,</3303/0>")
        .build()
}

/// Three bytes long from the start, so that it can be changed in place.
const FIRST_SEQUENCE: u32 = 0x01_0000;

/// Where the Observe option's value starts: header, token of eight bytes, option byte.
const SEQUENCE_AT: usize = 4 + 8 + 1;

/// Answers and notifications carry one float (TLV).
fn content(kind: MessageType, request: &Message) -> Vec<u8> {
    let mut payload = vec![0xe8, 0x16, 0x44, 0x08];
    payload.extend(21.5f64.to_be_bytes());
    Builder::new(kind, Code::CONTENT, request.mid(), request.token())
        .uint(option::OBSERVE, FIRST_SEQUENCE)
        .uint(option::CONTENT_FORMAT, 11542)
        .payload(payload)
        .build()
}

/// Takes what the gateway sends to the devices.
fn read_devices(devices: &[Device], counts: &Counts) {
    // SAFETY: plain call without pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    for (index, device) in devices.iter().enumerate() {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: index as u64,
        };
        let fd = device.socket.as_raw_fd();
        // SAFETY: `event` lives for the call.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    }
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut buffer = [0; 2048];
    loop {
        // SAFETY: `events` has room for 256.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 256, -1) };
        for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
            let device = &devices[event.u64 as usize];
            while let Ok(length) = device.socket.recv(&mut buffer) {
                let Ok(message) = Message::parse(&buffer[..length]) else {
                    continue;
                };
                if message.code() == Code::CREATED {
                    counts.registered.fetch_add(1, Ordering::Relaxed);
                } else if message.observe() == Some(0) {
                    let notification = content(MessageType::NonConfirmable, &message);
                    *device.notification.lock().unwrap() = Some(notification);
                    let answer = content(MessageType::Acknowledgement, &message);
                    let _ = device.socket.send(&answer);
                    counts.observed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// The least of MQTT 3.1.1: QoS 0.
struct Mqtt {
    stream: TcpStream,
}

impl Mqtt {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut mqtt = Self { stream };
        // Protocol name and level, clean session, no keepalive, client id.
        mqtt.packet(0x10, &[b"\0\x04MQTT\x04\x02\0\0", &text("load")[..]])?;
        mqtt.stream.read_exact(&mut [0; 4])?;
        Ok(mqtt)
    }

    fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        self.packet(0x82, &[&[0, 1], &text(filter), &[0]])?;
        self.stream.read_exact(&mut [0; 5])
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        self.packet(0x30, &[&text(topic), payload])
    }

    fn packet(&mut self, first: u8, parts: &[&[u8]]) -> io::Result<()> {
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
        self.stream.write_all(&packet)
    }
}

/// A string with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// Counts PUBLISH packets without looking into them.
fn count_messages(mut stream: TcpStream, counts: &Counts) {
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]) {
        filled += read;
        let mut at = 0;
        let mut publishes = 0;
        while let Some(length) = packet_length(&buffer[at..filled]) {
            publishes += u64::from(buffer[at] >> 4 == 3);
            at += length;
        }
        counts.notified.fetch_add(publishes, Ordering::Relaxed);
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
    println!("the broker closed the subscriber's connection");
}

/// Length of the first packet, when all of it is there.
fn packet_length(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 127) << (7 * index);
        if byte & 128 == 0 {
            let whole = 2 + index + length;
            return (bytes.len() >= whole).then_some(whole);
        }
    }
    None
}

/// CPU time and memory of the gateway's process.
struct Usage {
    pid: Option<u32>,
    before: f64,
}

impl Usage {
    fn of(pid: Option<u32>) -> Self {
        let before = pid.map_or(0.0, cpu_seconds);
        Self { pid, before }
    }

    fn report(&self, what: &str, count: u64) {
        let Some(pid) = self.pid else { return };
        let micros = (cpu_seconds(pid) - self.before) * 1e6;
        println!(
            "  {:.1} us CPU a {what}, {:.1} MiB resident",
            micros / count.max(1) as f64,
            resident(pid)
        );
    }
}

/// Resident memory of a process in MiB.
fn resident(pid: u32) -> f64 {
    let statm =
        std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process of --pid");
    let pages: f64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("statm");
    pages * 4096.0 / f64::from(1 << 20)
}

/// User and system time of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process of --pid");
    // The name of the program may hold spaces; it ends with the last parenthesis.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: f64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    // SAFETY: plain call without pointers.
    ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}
