//! What all servers of a listener share: OpenSSL's context with the sessions that can be resumed.

use std::sync::Arc;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion,
};

use parking_lot::Mutex;

use super::failures::Failures;
use super::openssl::{self as ext, Stream};
use super::psk;
use super::shares::{Limits, Shares};
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
    /// Sessions of the whole listener, of about 35 kB each. For more, the one that was not used for
    /// the longest time is closed, of those of the credential that has most.
    pub max_sessions: usize,
    /// Sessions of one credential, whatever suffixes it presents. For more, one of its own is closed.
    pub max_sessions_per_credential: usize,
    /// Sessions of one source. For more, one of its own is closed.
    pub max_sessions_per_source: usize,
    /// Sessions of the whole listener that can be resumed, about 1 kB each; 0 turns it off.
    pub session_cache: usize,
    /// How long after its handshake a session can be resumed.
    pub session_timeout: Duration,
    /// Sessions that were not used for so long are closed.
    pub idle_timeout: Option<Duration>,
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
    /// For the sessions that can be resumed.
    _cache: Option<Reservation>,
    openssl: SslContext,
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

/// What a handshake, a session and a session that can be resumed take, in bytes, about.
const HANDSHAKE_BYTES: usize = 50_000;
const SESSION_BYTES: usize = 36_000;
const CACHED_BYTES: usize = 1_000;

/// OpenSSL's least.
const MIN_MTU: u16 = 256;

impl Context {
    /// Sets OpenSSL up.
    ///
    /// # Errors
    ///
    /// When there is no suite or group, or OpenSSL lacks one.
    pub fn new(options: &Options) -> Result<Self, DtlsError> {
        if options.suites.is_empty() {
            return Err(DtlsError::NoSuite);
        }
        if options.groups.is_empty() {
            return Err(DtlsError::NoGroup);
        }
        let mut builder = SslContext::builder(SslMethod::dtls_server())?;
        builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
        builder.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
        let names: Vec<_> = options
            .suites
            .iter()
            .map(|suite| suite.openssl_name())
            .collect();
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
        // At most an eighth of what sessions have.
        let memory = options.memory.as_ref();
        let most = memory.map_or(usize::MAX, |it| it.limit(Kind::Sessions) / 8 / CACHED_BYTES);
        let cached = options.session_cache.min(most);
        let cache = memory.map(|it| Reservation::forced(it, Kind::Sessions, cached * CACHED_BYTES));
        if cached == 0 {
            builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        } else {
            builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
            // OpenSSL makes room as soon as it would have so many: there is always one less.
            let size = cached.saturating_add(1);
            builder.set_session_cache_size(i32::try_from(size).unwrap_or(i32::MAX));
            ext::set_session_timeout(&mut builder, options.session_timeout);
        }
        // An OpenSSL object is made only for a hello whose cookie was verified before.
        builder.set_cookie_verify_cb(|_, _| true);
        builder.set_psk_server_callback(|ssl, identity, key| Ok(psk::answer(ssl, identity, key)));
        Ok(Self {
            options: options.clone(),
            shares: Arc::new(Mutex::new(Shares::new(Limits {
                all: options.max_sessions,
                per_credential: options.max_sessions_per_credential,
                per_source: options.max_sessions_per_source,
            }))),
            failures: Mutex::new(Failures::new(options.max_failures)),
            _cache: cache,
            openssl: builder.build(),
        })
    }

    /// Bytes for a handshake, or nothing without an account.
    pub(super) fn reserve_handshake(&self) -> Result<Option<Reservation>, Full> {
        let memory = self.options.memory.as_ref();
        memory
            .map(|it| Reservation::new(it, Kind::Handshakes, HANDSHAKE_BYTES))
            .transpose()
    }

    /// Bytes for a session, whether there is room or not.
    pub(super) fn reserve_session(&self) -> Option<Reservation> {
        let memory = self.options.memory.as_ref()?;
        Some(Reservation::forced(memory, Kind::Sessions, SESSION_BYTES))
    }

    /// Whether sessions take more than they may.
    pub(super) fn is_over(&self) -> bool {
        let memory = self.options.memory.as_ref();
        memory.is_some_and(|it| it.used(Kind::Sessions) > it.limit(Kind::Sessions))
    }

    /// Forgets the sessions that could be resumed: for credentials that are not valid any more.
    /// Sessions in use go on.
    pub fn flush_sessions(&self) {
        ext::flush_sessions(&self.openssl);
    }

    /// A new OpenSSL object, waiting for a handshake.
    pub(super) fn stream(&self) -> Result<Stream, ErrorStack> {
        let mut ssl = Ssl::new(&self.openssl)?;
        psk::attach(&mut ssl, self.options.retransmit_timeout)?;
        ssl.set_mtu(u32::from(self.options.mtu.max(MIN_MTU)))?;
        ssl.set_accept_state();
        Stream::new(ssl)
    }
}
