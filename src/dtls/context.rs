//! What all servers of a listener share: OpenSSL's context with the sessions that can be resumed.

use std::sync::Arc;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion,
};

use parking_lot::{Mutex, RwLock};

use super::certificate::Certificates;
use super::certified::Certified;
use super::connection_id::{ConnectionId, Ids};
use super::extension;
use super::failures::Failures;
use super::openssl::{self as ext, Stream};
use super::psk;
use super::resumption::Resumption;
use super::saved::SavedSession;
use super::shares::{Limits, Shares};
use super::verifier::Verifier;
use crate::config::{CipherSuite, Group};
use crate::memory::{Full, Kind, Memory, Reservation};

/// How a listener does DTLS.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cipher suites, the preferred one first. Not empty.
    pub suites: Vec<CipherSuite>,
    /// Groups for the key exchange of ECDHE suites, the preferred one first. Without any that a
    /// device has too, it gets a suite without ECDHE, or no handshake.
    pub groups: Vec<Group>,
    /// Largest datagram of a handshake in bytes, without IP and UDP headers; 256 at least. Records
    /// with payloads are sent as large as they are: CoAP keeps them small (RFC 7252 §4.6).
    pub mtu: u16,
    /// Time for a handshake, from the hello with the cookie on.
    pub handshake_timeout: Duration,
    /// First retransmission timeout of a handshake, doubling each time; 16 ms at least.
    pub retransmit_timeout: Duration,
    /// Handshakes under way at a server. Further ones are refused unless they are from a source with
    /// less of them than another, or one made no progress for long. Each takes about 45 kB.
    pub max_handshakes: usize,
    /// Handshakes of one source in a minute that may fail for want of a key before it is slowed to
    /// about as many; 0: any number. A source is an IPv4 address or a /64 of IPv6.
    pub max_failures: u32,
    /// Sessions of the whole listener, of about 0.4 kB each, 36 kB with suites whose records
    /// OpenSSL makes. For more, the one that was not used for
    /// the longest time is closed, of those of the credential that has most.
    pub max_sessions: usize,
    /// Sessions of one credential, whatever suffixes it presents. For more, one of its own is closed.
    pub max_sessions_per_credential: usize,
    /// Sessions of one source. For more, one of its own is closed.
    pub max_sessions_per_source: usize,
    /// Sessions of the whole listener that can be resumed, about 0.15 kB each; 0 turns it off.
    pub session_cache: usize,
    /// How long after its handshake a session can be resumed.
    pub session_timeout: Duration,
    /// Sessions that were not used for so long are closed.
    pub idle_timeout: Option<Duration>,
    /// Not at once: [`Output::Unused`](super::Output::Unused) says that there is one, and whoever has no
    /// use for it calls [`Server::close_unused`](super::Server::close_unused). Else it counts as used.
    pub ask_idle: bool,
    /// Whether devices that can use connection ids (RFC 9146) get one of ours.
    pub connection_ids: bool,
    /// What the ids are enciphered with; without, something random.
    pub connection_id_key: Option<[u8; 16]>,
    /// What is encrypted in records with payload and a device's id has a multiple of so many bytes; 0: no
    /// padding.
    pub padding: usize,
    /// The account of memory. Without room in it a handshake is refused, or another one gives way;
    /// for a session too many an older one is closed.
    pub memory: Option<Arc<Memory>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            suites: CipherSuite::DEFAULT.to_vec(),
            groups: Group::DEFAULT.to_vec(),
            mtu: 1200,
            handshake_timeout: Duration::from_secs(15),
            retransmit_timeout: Duration::from_secs(1),
            max_handshakes: 1000,
            max_failures: 10,
            max_sessions: 100_000,
            max_sessions_per_credential: usize::MAX,
            max_sessions_per_source: usize::MAX,
            session_cache: 10_000,
            session_timeout: Duration::from_secs(3600),
            idle_timeout: None,
            ask_idle: false,
            connection_ids: true,
            connection_id_key: None,
            padding: 0,
            memory: None,
        }
    }
}

/// Why there is no [`Context`].
#[derive(Debug, thiserror::Error)]
pub enum DtlsError {
    /// No cipher suite configured.
    #[error("no cipher suite")]
    NoSuite,
    /// No group configured.
    #[error("no group")]
    NoGroup,
    /// OpenSSL said no, perhaps to a cipher suite it was built without.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// What all servers of a listener share.
pub struct Context {
    pub(super) options: Options,
    /// Of the sessions of all servers.
    pub(super) shares: Arc<Mutex<Shares>>,
    /// Of the handshakes of all servers.
    pub(super) failures: Mutex<Failures>,
    /// Makes connection ids, if there shall be any.
    pub(super) ids: Option<Ids>,
    /// For the sessions that can be resumed.
    _cache: Option<Reservation>,
    /// How many.
    cached: usize,
    /// What certificates add to a handshake or session, in bytes.
    chain: usize,
    current: RwLock<Current>,
}

/// What new handshakes work with; those under way and sessions keep theirs.
struct Current {
    openssl: SslContext,
    /// The sessions that can be resumed, if any can.
    resumption: Option<Arc<Resumption>>,
    verifier: Option<Arc<Verifier>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// With CBC suites and the extension encrypt-then-MAC (RFC 7366), OpenSSL 3.0 ends a session when a
/// MAC is wrong: anybody could end it. Without the extension it drops the record as it should, and
/// takes the same time for each.
const NO_ENCRYPT_THEN_MAC: SslOptions = SslOptions::from_bits_retain(1 << 19);

/// What a handshake, a session of ours, one of OpenSSL's and a session that can be resumed take, in
/// bytes, about. That of a session is measured by `tests/dtls_memory.rs`, with its part of the tables.
const HANDSHAKE_BYTES: usize = 50_000;
const SESSION_BYTES: usize = 400;
const OPENSSL_SESSION_BYTES: usize = 36_000;
const CACHED_BYTES: usize = 160;
/// What the chain of a device adds to each of them.
const CHAIN_BYTES: usize = 8_000;

/// OpenSSL's least.
const MIN_MTU: u16 = 256;

impl Context {
    /// Sets OpenSSL up for pre-shared keys.
    ///
    /// # Errors
    ///
    /// When there is no suite or group, or OpenSSL lacks one.
    #[cfg(feature = "internals")]
    pub fn new(options: &Options) -> Result<Self, DtlsError> {
        Self::with_certificates(options, None)
    }

    /// Sets OpenSSL up for pre-shared keys, and for certificates where there are some.
    ///
    /// # Errors
    ///
    /// When there is no suite or group, or OpenSSL lacks one.
    pub fn with_certificates(
        options: &Options,
        certificates: Option<&Certificates>,
    ) -> Result<Self, DtlsError> {
        if options.suites.is_empty() {
            return Err(DtlsError::NoSuite);
        }
        if options.groups.is_empty() {
            return Err(DtlsError::NoGroup);
        }
        // At most an eighth of what sessions have.
        let memory = options.memory.as_ref();
        let chain = certificates.map_or(0, |_| CHAIN_BYTES);
        let each = CACHED_BYTES.saturating_add(chain);
        let most = memory.map_or(usize::MAX, |it| it.limit(Kind::Sessions) / 8 / each);
        let cached = options.session_cache.min(most);
        let bytes = cached.saturating_mul(each);
        let cache = memory.map(|it| Reservation::forced(it, Kind::Sessions, bytes));
        let current = Current::new(options, cached, certificates)?;
        let mut ids = None;
        if options.connection_ids {
            let mut key = options.connection_id_key.unwrap_or_default();
            if options.connection_id_key.is_none() {
                openssl::rand::rand_bytes(&mut key)?;
            }
            ids = Some(Ids::new(&key));
        }
        Ok(Self {
            options: options.clone(),
            shares: Arc::new(Mutex::new(Shares::new(Limits {
                all: options.max_sessions,
                per_credential: options.max_sessions_per_credential,
                per_source: options.max_sessions_per_source,
            }))),
            failures: Mutex::new(Failures::new(options.max_failures)),
            ids,
            _cache: cache,
            cached,
            chain,
            current: RwLock::new(current),
        })
    }

    /// Takes other certificates for handshakes from now on. Sessions go on, none can be resumed.
    ///
    /// # Errors
    ///
    /// As [`Context::with_certificates`]; those of before stay in force.
    pub fn set_certificates(&self, certificates: Option<&Certificates>) -> Result<(), DtlsError> {
        let current = Current::new(&self.options, self.cached, certificates)?;
        *self.current.write() = current;
        Ok(())
    }

    /// Whether the device of a session that showed this certificate would be let in now.
    pub fn trusts(&self, certified: &Certified) -> bool {
        let verifier = self.verifier();
        verifier.is_some_and(|verifier| verifier.trusts(certified))
    }

    /// Whether the device of a session of before a restart would be let in now.
    pub fn admits(&self, certified: &Certified) -> bool {
        self.trusts(certified) && !certified.has_ended()
    }

    /// Who is let in by a certificate; `None` without any.
    pub(super) fn verifier(&self) -> Option<Arc<Verifier>> {
        self.current.read().verifier.clone()
    }

    /// Bytes for a handshake, or nothing without an account.
    pub(super) fn reserve_handshake(&self) -> Result<Option<Reservation>, Full> {
        let memory = self.options.memory.as_ref();
        let bytes = HANDSHAKE_BYTES.saturating_add(self.chain.saturating_mul(2));
        memory
            .map(|it| Reservation::new(it, Kind::Handshakes, bytes))
            .transpose()
    }

    /// An account of a server's sessions, with nothing in it.
    pub(super) fn sessions_account(&self) -> Option<Reservation> {
        let memory = self.options.memory.as_ref()?;
        Some(Reservation::forced(memory, Kind::Sessions, 0))
    }

    /// Bytes of a session.
    pub(super) const fn session_bytes(&self, is_of_openssl: bool) -> usize {
        match is_of_openssl {
            false => SESSION_BYTES,
            true => OPENSSL_SESSION_BYTES.saturating_add(self.chain),
        }
    }

    /// The shard whose id a saved session bears.
    pub fn shard_of(&self, saved: &SavedSession) -> Option<u16> {
        let id = ConnectionId::from_bytes(saved.ours?);
        Some(self.ids.as_ref()?.shard(id))
    }

    /// Whether sessions take more than they may.
    pub(super) fn is_over(&self) -> bool {
        let memory = self.options.memory.as_ref();
        memory.is_some_and(|it| it.used(Kind::Sessions) > it.limit(Kind::Sessions))
    }

    /// Forgets the sessions that could be resumed: for credentials that are not valid any more.
    /// Sessions in use go on.
    pub fn flush_sessions(&self) {
        if let Some(cache) = &self.current.read().resumption {
            cache.clear();
        }
    }

    /// A new OpenSSL object, waiting for a handshake, with the id that the client's records shall bear.
    pub(super) fn stream(&self, id: Option<ConnectionId>) -> Result<Stream, ErrorStack> {
        let mut ssl = Ssl::new(&self.current.read().openssl)?;
        psk::attach(&mut ssl, self.options.retransmit_timeout)?;
        if let Some(id) = id {
            extension::offer(&mut ssl, id)?;
        }
        ssl.set_mtu(u32::from(self.options.mtu.max(MIN_MTU)))?;
        ssl.set_accept_state();
        Stream::new(ssl)
    }
}

impl Current {
    fn new(
        options: &Options,
        cached: usize,
        certificates: Option<&Certificates>,
    ) -> Result<Self, DtlsError> {
        let mut builder = SslContext::builder(SslMethod::dtls_server())?;
        builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
        builder.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
        let is_usable = |suite: &&CipherSuite| certificates.is_some() || !suite.has_certificates();
        let suites = options.suites.iter().filter(is_usable);
        let names: Vec<_> = suites.map(|suite| suite.openssl_name()).collect();
        if names.is_empty() {
            return Err(DtlsError::NoSuite);
        }
        builder.set_cipher_list(&names.join(":"))?;
        // Suites with a tag of 8 bytes count as 64 bits strong; the list above is all there is.
        builder.set_security_level(0);
        let groups: Vec<_> = options
            .groups
            .iter()
            .map(|group| group.openssl_name())
            .collect();
        builder.set_groups_list(&groups.join(":"))?;
        builder.set_options(
            SslOptions::NO_RENEGOTIATION
                | SslOptions::NO_TICKET
                | SslOptions::NO_QUERY_MTU
                | SslOptions::NO_COMPRESSION
                | SslOptions::CIPHER_SERVER_PREFERENCE
                | NO_ENCRYPT_THEN_MAC,
        );
        builder.set_mode(SslMode::AUTO_RETRY);
        // Sessions are resumed only where the same context string is set.
        builder.set_session_id_context(b"lwm2m-gateway")?;
        let mut resumption = None;
        if cached == 0 {
            builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        } else {
            let cache = Arc::new(Resumption::new(cached));
            ext::keep_sessions_in(&mut builder, &cache);
            resumption = Some(cache);
            ext::set_session_timeout(&mut builder, options.session_timeout);
        }
        if options.connection_ids {
            extension::enable(&mut builder)?;
        }
        // An OpenSSL object is made only for a hello whose cookie was verified before.
        builder.set_cookie_verify_cb(|_, _| true);
        builder.set_psk_server_callback(|ssl, identity, key| Ok(psk::answer(ssl, identity, key)));
        if let Some(certificates) = certificates {
            certificates.install(&mut builder)?;
        }
        Ok(Self {
            openssl: builder.build(),
            resumption,
            verifier: certificates.map(Certificates::verifier),
        })
    }
}
