//! A DTLS server and clients that are not ours, OpenSSL's and dimpl's, with a network between them
//! that can be bad.
//!
//! Time is the clock's, since OpenSSL's retransmission timers are, with first timeouts of 20 ms; a
//! test can put the server's clock forward.

#![allow(dead_code, unreachable_pub, unsafe_code)] // each test file uses its part
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::unwrap_used)]

use std::collections::{HashMap, VecDeque};
use std::ffi::{c_int, c_uint};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use dimpl::{Dtls, PskResolver};
use lwm2m_gateway::config::CipherSuite;
use lwm2m_gateway::credentials::Key;
use lwm2m_gateway::dtls::{
    CloseReason, Context, CredentialTicket, Identity, Options, Output, Server,
};
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::Instant;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    ErrorCode, ExtensionContext, Ssl, SslContext, SslMethod, SslOptions, SslSession, SslStream,
    SslVersion,
};
use openssl::x509::X509;

#[path = "../../src/simulate/cid.rs"]
mod cid;

/// The key of all well-known identities.
pub const KEY: &[u8] = b"0123456789abcdef";

/// Options with short timers.
pub fn options() -> Options {
    Options {
        retransmit_timeout: Duration::from_millis(20),
        ..Options::default()
    }
}

/// The suites with pre-shared keys.
pub fn suites_of_keys() -> impl Iterator<Item = CipherSuite> {
    let all = CipherSuite::ALL.into_iter();
    all.filter(|suite| !suite.has_certificates())
}

/// Address number `n` of a device.
pub fn address(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 40_000))
}

/// A server and what came out of it.
pub struct World {
    pub server: Server,
    pub context: Arc<Context>,
    pub counters: Arc<Counters>,
    pub keys: HashMap<Vec<u8>, Vec<u8>>,
    /// Questions are answered at once, unless this is set.
    pub hold_credentials: bool,
    pub asked: Vec<(CredentialTicket, SocketAddr, Identity)>,
    /// Everything but datagrams and questions.
    pub events: VecDeque<Output>,
    /// Datagrams of the server.
    pub sent: VecDeque<(SocketAddr, Vec<u8>)>,
    pub deadline: Option<Instant>,
    start: Clock,
    skew: Duration,
}

impl World {
    pub fn new(options: &Options) -> Self {
        Self::with_context(Arc::new(Context::new(options).unwrap()))
    }

    /// With a server beside that of another world.
    pub fn with_context(context: Arc<Context>) -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            server: Server::new(Arc::clone(&context), [7; 32], Arc::clone(&counters)),
            context,
            counters,
            keys: HashMap::from([(b"device".to_vec(), KEY.to_vec())]),
            hold_credentials: false,
            asked: Vec::new(),
            events: VecDeque::new(),
            sent: VecDeque::new(),
            deadline: None,
            start: Clock::now(),
            skew: Duration::ZERO,
        }
    }

    pub fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed() + self.skew
    }

    /// Puts the server's clock forward.
    pub fn pass(&mut self, time: Duration) {
        self.skew += time;
        self.server.handle_timeout(self.now());
        self.drain();
    }

    pub fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.server.handle_datagram(self.now(), from, datagram);
        self.drain();
    }

    pub fn answer(&mut self, ticket: CredentialTicket, key: Option<&[u8]>) {
        let key = key.map(|key| Key::new(key.to_vec()));
        self.server.handle_credential(self.now(), ticket, key);
        self.drain();
    }

    pub fn send(&mut self, to: SocketAddr, payload: &[u8]) {
        self.server.send(self.now(), to, payload).unwrap();
        self.drain();
    }

    pub fn close(&mut self, peer: SocketAddr) {
        self.server.close(self.now(), peer);
        self.drain();
    }

    /// Lets timers run that are due.
    pub fn tick(&mut self) {
        if self.deadline.is_some_and(|deadline| deadline <= self.now()) {
            self.server.handle_timeout(self.now());
            self.drain();
        }
    }

    pub fn drain(&mut self) {
        loop {
            match self.server.poll_output() {
                Output::Transmit { to, datagram } => self.sent.push_back((to.remote, datagram)),
                Output::CredentialWanted {
                    ticket,
                    peer,
                    identity,
                } => {
                    if self.hold_credentials {
                        self.asked.push((ticket, peer.remote, identity));
                    } else {
                        let key = self.keys.get(identity.as_bytes()).cloned();
                        let key = key.map(Key::new);
                        self.server.handle_credential(self.now(), ticket, key);
                    }
                }
                Output::Idle(deadline) => {
                    self.deadline = deadline;
                    return;
                }
                event => self.events.push_back(event),
            }
        }
    }

    /// The datagrams for `to` so far, in order.
    pub fn take_sent(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let (mine, others) = self
            .sent
            .drain(..)
            .partition::<Vec<_>, _>(|(t, _)| *t == to);
        self.sent = others.into();
        mine.into_iter().map(|(_, datagram)| datagram).collect()
    }

    pub fn established(&mut self) -> Option<(SocketAddr, Identity, bool, CipherSuite)> {
        match self.events.pop_front()? {
            Output::Established {
                peer,
                identity,
                resumed,
                suite,
                ..
            } => Some((peer.remote, identity, resumed, suite)),
            other => panic!("not established: {other:?}"),
        }
    }

    pub fn received(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        match self.events.pop_front()? {
            Output::Received { from, payload, .. } => Some((from.remote, payload)),
            other => panic!("not received: {other:?}"),
        }
    }

    pub fn closed(&mut self) -> Option<(SocketAddr, CloseReason)> {
        match self.events.pop_front()? {
            Output::Closed { peer, reason, .. } => Some((peer.remote, reason)),
            other => panic!("not closed: {other:?}"),
        }
    }
}

/// A DTLS client.
pub trait Client {
    fn handle_datagram(&mut self, datagram: &[u8]);
    fn handle_timers(&mut self);
    /// Datagrams to send.
    fn take_sent(&mut self) -> Vec<Vec<u8>>;
    fn is_connected(&self) -> bool;
    fn has_failed(&self) -> bool;
    fn is_closed(&self) -> bool;
    fn send(&mut self, payload: &[u8]);
    fn take_received(&mut self) -> Vec<Vec<u8>>;
    fn close(&mut self);
}

/// What OpenSSL's client reads from and writes to.
#[derive(Default)]
pub struct Pipe {
    input: VecDeque<Vec<u8>>,
    output: Vec<Vec<u8>>,
}

impl io::Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(datagram) = self.input.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl io::Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.output.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

unsafe extern "C" {
    fn DTLS_set_timer_cb(
        ssl: *mut openssl_sys::SSL,
        callback: extern "C" fn(*mut openssl_sys::SSL, c_uint) -> c_uint,
    );
    fn SSL_renegotiate(ssl: *mut openssl_sys::SSL) -> c_int;
}

extern "C" fn short_timeout(_: *mut openssl_sys::SSL, previous: c_uint) -> c_uint {
    if previous == 0 {
        20_000
    } else {
        (previous * 2).min(200_000)
    }
}

/// OpenSSL as client.
pub struct OpensslClient {
    stream: SslStream<Pipe>,
    connected: bool,
    failed: Option<String>,
    closed: bool,
    received: Vec<Vec<u8>>,
    framing: Option<cid::Framing>,
}

/// How OpenSSL's client differs from the ordinary.
#[derive(Clone)]
pub struct ClientOptions {
    pub identity: Vec<u8>,
    pub key: Vec<u8>,
    pub suites: &'static str,
    pub mtu: u32,
    pub session: Option<SslSession>,
    pub version: Option<SslVersion>,
    /// One more in the ClientHello, with its number.
    pub extension: Option<(u16, &'static [u8])>,
    /// Groups for ECDHE instead of OpenSSL's.
    pub groups: Option<&'static str>,
    /// The connection id that it offers, perhaps an empty one.
    pub id: Option<&'static [u8]>,
    /// Its certificate and the private key of that.
    pub certificate: Option<(X509, PKey<Private>)>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            identity: b"device".to_vec(),
            key: KEY.to_vec(),
            suites: "PSK-AES128-CCM8",
            mtu: 1200,
            session: None,
            version: None,
            extension: None,
            groups: None,
            id: None,
            certificate: None,
        }
    }
}

impl OpensslClient {
    pub fn new(options: ClientOptions) -> Self {
        let mut builder = SslContext::builder(SslMethod::dtls_client()).unwrap();
        builder
            .set_max_proto_version(Some(SslVersion::DTLS1_2))
            .unwrap();
        builder.set_cipher_list(options.suites).unwrap();
        builder.set_security_level(0);
        builder.set_options(SslOptions::NO_QUERY_MTU);
        let (identity, key) = (options.identity, options.key);
        builder.set_psk_client_callback(move |_, _, to_identity, to_key| {
            to_identity[..identity.len()].copy_from_slice(&identity);
            to_identity[identity.len()] = 0;
            to_key[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
        if let Some(groups) = options.groups {
            builder.set_groups_list(groups).unwrap();
        }
        if let Some((certificate, key)) = &options.certificate {
            builder.set_certificate(certificate).unwrap();
            builder.set_private_key(key).unwrap();
        }
        if let Some(version) = options.version {
            builder.set_min_proto_version(Some(version)).unwrap();
            builder.set_max_proto_version(Some(version)).unwrap();
        }
        if let Some((number, body)) = options.extension {
            let here = ExtensionContext::CLIENT_HELLO;
            builder
                .add_custom_ext(
                    number,
                    here,
                    move |_, _, _| Ok(Some(body)),
                    |_, _, _, _| Ok(()),
                )
                .unwrap();
        }
        let index = options
            .id
            .map(|id| (cid::offer(&mut builder, id.to_vec()).unwrap(), id));
        let mut ssl = Ssl::new(&builder.build()).unwrap();
        let framing = index.map(|(index, id)| cid::Framing::new(&mut ssl, index, id));
        ssl.set_mtu(options.mtu).unwrap();
        ssl.set_connect_state();
        if let Some(session) = &options.session {
            // SAFETY: sessions are shared between contexts only in this thread.
            unsafe { ssl.set_session(session).unwrap() };
        }
        let stream = SslStream::new(ssl, Pipe::default()).unwrap();
        // SAFETY: the object lives; the callback takes anything.
        unsafe { DTLS_set_timer_cb(Self::raw(&stream), short_timeout) };
        let mut client = Self {
            stream,
            connected: false,
            failed: None,
            closed: false,
            received: Vec::new(),
            framing,
        };
        client.drive();
        client
    }

    /// Whether the server uses connection ids.
    pub fn has_ids(&self) -> bool {
        let framing = self.framing.as_ref();
        framing.is_some_and(|framing| framing.server_id(self.stream.ssl()).is_some())
    }

    /// Zeros behind the content of each record.
    pub fn pad(&mut self, padding: usize) {
        self.framing.as_mut().unwrap().padding = padding;
    }

    fn raw(stream: &SslStream<Pipe>) -> *mut openssl_sys::SSL {
        std::ptr::from_ref(stream.ssl()).cast_mut().cast()
    }

    /// The session to resume later.
    pub fn session(&self) -> SslSession {
        self.stream.ssl().session().unwrap().to_owned()
    }

    pub fn suite(&self) -> &'static str {
        self.stream.ssl().current_cipher().unwrap().name()
    }

    pub fn failure(&self) -> &str {
        self.failed.as_deref().unwrap_or_default()
    }

    pub fn renegotiate(&mut self) {
        // SAFETY: the object lives.
        assert_eq!(unsafe { SSL_renegotiate(Self::raw(&self.stream)) }, 1);
        let _ = self.stream.do_handshake();
    }

    fn drive(&mut self) {
        if self.failed.is_some() {
            return;
        }
        if !self.connected {
            match self.stream.do_handshake() {
                Ok(()) => self.connected = true,
                Err(error) if error.code() == ErrorCode::WANT_READ => return,
                Err(error) => {
                    self.failed = Some(error.to_string());
                    return;
                }
            }
        }
        let mut buffer = vec![0; 20_000];
        loop {
            match self.stream.ssl_read(&mut buffer) {
                Ok(length) => self.received.push(buffer[..length].to_vec()),
                Err(error) if error.code() == ErrorCode::WANT_READ => return,
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                    self.closed = true;
                    return;
                }
                Err(error) => {
                    self.failed = Some(error.to_string());
                    return;
                }
            }
        }
    }
}

impl Client for OpensslClient {
    fn handle_datagram(&mut self, datagram: &[u8]) {
        let datagram = match &mut self.framing {
            Some(framing) => framing.inward(self.stream.ssl(), datagram),
            None => datagram.to_vec(),
        };
        // Nothing of it is left when a record with an id is damaged.
        if datagram.is_empty() {
            return;
        }
        self.stream.get_mut().input.push_back(datagram);
        self.drive();
    }

    fn handle_timers(&mut self) {
        if !self.connected {
            // Control 74 is DTLSv1_handle_timeout.
            // SAFETY: the object lives.
            unsafe {
                openssl_sys::SSL_ctrl(Self::raw(&self.stream), 74, 0, std::ptr::null_mut());
            }
        }
        self.drive();
    }

    fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let sent = std::mem::take(&mut self.stream.get_mut().output);
        let Some(framing) = &mut self.framing else {
            return sent;
        };
        let ssl = self.stream.ssl();
        let sent = sent.into_iter();
        sent.map(|datagram| framing.outward(ssl, datagram))
            .collect()
    }

    fn is_connected(&self) -> bool {
        self.connected
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn send(&mut self, payload: &[u8]) {
        assert_eq!(self.stream.ssl_write(payload).unwrap(), payload.len());
    }

    fn take_received(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.received)
    }

    fn close(&mut self) {
        let _ = self.stream.shutdown();
    }
}

struct Resolver(Vec<u8>);

impl PskResolver for Resolver {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

/// dimpl as client.
pub struct DimplClient {
    dtls: Dtls,
    sent: Vec<Vec<u8>>,
    connected: bool,
    failed: bool,
    closed: bool,
    received: Vec<Vec<u8>>,
}

impl DimplClient {
    pub fn new(identity: &[u8], key: &[u8], mtu: usize) -> Self {
        let config = dimpl::Config::builder()
            .with_psk_client(identity.to_vec(), Arc::new(Resolver(key.to_vec())))
            .mtu(mtu)
            .flight_start_rto(Duration::from_millis(20))
            .flight_retries(20)
            .build()
            .unwrap();
        let mut dtls = Dtls::new_12_psk(Arc::new(config), Clock::now());
        dtls.set_active(true);
        let mut client = Self {
            dtls,
            sent: Vec::new(),
            connected: false,
            failed: false,
            closed: false,
            received: Vec::new(),
        };
        client.handle_timers();
        client
    }

    fn drain(&mut self) {
        let mut buffer = vec![0; 4096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(packet) => self.sent.push(packet.to_vec()),
                dimpl::Output::Connected => self.connected = true,
                dimpl::Output::ApplicationData(data) => self.received.push(data.to_vec()),
                dimpl::Output::CloseNotify => self.closed = true,
                dimpl::Output::Timeout(_) => return,
                _ => (),
            }
        }
    }
}

impl Client for DimplClient {
    fn handle_datagram(&mut self, datagram: &[u8]) {
        self.failed |= self.dtls.handle_packet(datagram).is_err();
        self.drain();
    }

    fn handle_timers(&mut self) {
        self.failed |= self.dtls.handle_timeout(Clock::now()).is_err();
        self.drain();
    }

    fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    fn is_connected(&self) -> bool {
        self.connected
    }

    fn has_failed(&self) -> bool {
        self.failed
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn send(&mut self, payload: &[u8]) {
        self.dtls.send_application_data(payload).unwrap();
        self.drain();
    }

    fn take_received(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.received)
    }

    fn close(&mut self) {
        self.dtls.close().unwrap();
        self.drain();
    }
}

/// How bad the network is: chances in percent.
#[derive(Clone, Copy, Default)]
pub struct Network {
    pub lose: u64,
    pub duplicate: u64,
    pub delay: u64,
    pub truncate: u64,
    pub flip: u64,
    pub seed: u64,
}

impl Network {
    /// The same share of each trouble.
    pub fn bad(percent: u64, seed: u64) -> Self {
        Self {
            lose: percent,
            duplicate: percent,
            delay: percent,
            truncate: percent,
            flip: percent,
            seed,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        // Knuth's linear congruential generator.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_041);
        (self.seed >> 33) % below
    }

    fn strikes(&mut self, percent: u64) -> bool {
        self.random(100) < percent
    }

    /// What arrives of `datagrams` and of those delayed before, which are in `late`.
    fn pass(&mut self, datagrams: Vec<Vec<u8>>, late: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut arrived = Vec::new();
        let before = std::mem::take(late);
        for mut datagram in datagrams {
            if self.strikes(self.lose) {
                continue;
            }
            if self.strikes(self.duplicate) {
                arrived.push(datagram.clone());
            }
            if self.strikes(self.truncate) {
                let length = self.random(datagram.len() as u64 + 1);
                datagram.truncate(usize::try_from(length).unwrap());
            }
            if self.strikes(self.flip) && !datagram.is_empty() {
                let bit = self.random(datagram.len() as u64 * 8);
                datagram[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            }
            if self.strikes(self.delay) {
                late.push(datagram);
            } else {
                arrived.push(datagram);
            }
        }
        arrived.extend(before);
        arrived
    }
}

/// Passes datagrams to and fro until `done`, or for ten seconds. Returns whether it is done.
pub fn run_until(
    world: &mut World,
    client: &mut dyn Client,
    at: SocketAddr,
    mut network: Network,
    mut done: impl FnMut(&World, &dyn Client) -> bool,
) -> bool {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let end = Clock::now() + Duration::from_secs(10);
    while !done(world, client) {
        if Clock::now() > end {
            return false;
        }
        let sent = client.take_sent();
        let to_client = world.take_sent(at);
        let is_quiet = sent.is_empty() && to_client.is_empty();
        for datagram in network.pass(sent, &mut up) {
            world.datagram(at, &datagram);
        }
        for datagram in network.pass(to_client, &mut down) {
            client.handle_datagram(&datagram);
        }
        if is_quiet {
            std::thread::sleep(Duration::from_millis(1));
            client.handle_timers();
            world.tick();
        }
    }
    true
}

/// Runs over a good network until both are connected.
pub fn connect(world: &mut World, client: &mut dyn Client, at: SocketAddr) {
    let connected = run_until(world, client, at, Network::default(), |world, client| {
        let is_established =
            |event: &Output| matches!(event, Output::Established { peer, .. } if *peer == at);
        client.is_connected() && world.events.iter().any(is_established)
    });
    let counters = world.counters.snapshot();
    let counters: Vec<_> = counters.into_iter().filter(|(_, n)| *n > 0).collect();
    assert!(connected, "not connected: {counters:?}");
    // What either side repeated because this machine is slow.
    client.take_sent();
    world.take_sent(at);
}

/// Payloads go both ways.
pub fn assert_talks(world: &mut World, client: &mut dyn Client, at: SocketAddr) {
    client.send(b"up");
    exchange(world, client, at);
    assert_eq!(world.received(), Some((at, b"up".to_vec())));
    world.send(at, b"down");
    exchange(world, client, at);
    assert_eq!(client.take_received(), [b"down"]);
}

/// Passes what both have to say, both ways, once.
pub fn exchange(world: &mut World, client: &mut dyn Client, at: SocketAddr) {
    for datagram in client.take_sent() {
        world.datagram(at, &datagram);
    }
    for datagram in world.take_sent(at) {
        client.handle_datagram(&datagram);
    }
}
