//! The server: a listening socket, connections within bounds, and its end.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::access::{Access, AccessError, Known, Sources};
use super::backend::Backend;
use super::caller::Sender;
use super::files;
use super::guard::Guarded;
use super::hub::Hub;
use super::log::FOLLOWERS;
use super::places::{Place, Places};
use super::routes;
use super::state::Shared;
use super::tls::{self, TlsError};
use crate::config::Config;
use crate::telemetry::ring;

/// How long the headers of a request may take, and a connection may be idle.
const HEADER_TIME: Duration = Duration::from_secs(15);

/// Bytes of the headers of a request.
const HEADER_BYTES: usize = 16 << 10;

/// Headers of a request.
const HEADERS: usize = 64;

/// How long requests may still be answered after the end was asked for.
const GRACE: Duration = Duration::from_secs(1);

/// After an error of the listening socket, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// How often devices are looked at that fall asleep.
const TICK: Duration = Duration::from_millis(500);

/// How long TLS may take to be agreed on.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long requests of those may go on who were let in by what is not known any more.
const REVOKED: Duration = Duration::from_secs(5);

/// Why the API cannot be served.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    /// The address cannot be bound.
    #[error("http.bind {bind}: {source}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The address cannot be bound while the API has this port of another address.
    #[error(
        "http.bind {bind}: the API has this port already, on {now}; only a restart can change the address alone"
    )]
    SamePort {
        /// The address.
        bind: SocketAddr,
        /// Where the API is.
        now: SocketAddr,
    },
    /// Tokens or users are missing or wrong.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// So are certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that is about to run.
pub(crate) struct Server {
    listener: StdListener,
    shared: Shared,
    runtime: runtime::Runtime,
    changes: mpsc::UnboundedReceiver<Change>,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// As the configuration has it, and as it is.
    addresses: Mutex<(SocketAddr, SocketAddr)>,
    stop: watch::Sender<bool>,
    changes: mpsc::UnboundedSender<Change>,
}

/// What is to be in force from now on.
#[derive(Debug)]
pub(crate) struct Change {
    bind: SocketAddr,
    listener: Option<StdListener>,
    sources: Sources,
    known: Known,
    tls: Option<Arc<ServerConfig>>,
}

impl Running {
    /// Where the API is served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses.lock().1
    }

    /// No further request is taken; those under way may be answered for [`GRACE`].
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What another configuration changes, without changing anything. Another address is bound.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub(crate) fn plan(&self, config: &Config, bind: SocketAddr) -> Result<Change, HttpError> {
        let sources = Sources::of(config);
        let known = Known::load(&sources)?;
        let tls = tls::load(&sources)?;
        let (configured, now) = *self.addresses.lock();
        let listener = match bind == configured {
            true => None,
            false => Some(listen(bind).map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse if bind.port() == now.port() => {
                    HttpError::SamePort { bind, now }
                }
                _ => HttpError::Bind { bind, source },
            })?),
        };
        Ok(Change {
            bind,
            listener,
            sources,
            known,
            tls,
        })
    }

    /// Puts that in force.
    pub(crate) fn commit(&self, change: Change) {
        let listener = change.listener.as_ref();
        if let Some(Ok(address)) = listener.map(StdListener::local_addr) {
            *self.addresses.lock() = (change.bind, address);
        }
        // An error means that the server has ended.
        let _ = self.changes.send(change);
    }
}

fn listen(bind: SocketAddr) -> io::Result<StdListener> {
    let listener = StdListener::bind(bind)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Server {
    /// Binds the address of the configuration; `None` without one.
    ///
    /// # Errors
    /// The address cannot be bound, or everybody could come.
    pub(crate) fn bind(
        config: &Config,
        backend: Arc<dyn Backend>,
        hub: Arc<Hub>,
    ) -> Result<Option<(Self, Running)>, HttpError> {
        let Some(bind) = config.http.bind else {
            return Ok(None);
        };
        let sources = Sources::of(config);
        let access = Arc::new(Access::new(Known::load(&sources)?)?);
        let tls = tls::load(&sources)?;
        let failed = |source| HttpError::Bind { bind, source };
        let listener = listen(bind).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        hub.begin();
        ring().want();
        let (stop, stopping) = watch::channel(false);
        let (to, changes) = mpsc::unbounded_channel();
        let shared = Shared {
            backend,
            hub,
            access,
            settings: sources.http.clone(),
            sources,
            tls: Arc::new(RwLock::new(tls)),
            started: Instant::now(),
            log_followers: Arc::new(Semaphore::new(FOLLOWERS)),
            stopping,
        };
        let server = Self {
            listener,
            shared,
            runtime,
            changes,
        };
        let running = Running {
            addresses: Mutex::new((bind, address)),
            stop,
            changes: to,
        };
        Ok(Some((server, running)))
    }

    /// Serves until the end; on a thread of its own.
    pub(crate) fn run(self) {
        let Self {
            listener,
            shared,
            runtime,
            changes,
        } = self;
        runtime.block_on(serve(listener, shared, changes));
        runtime.shutdown_background();
    }
}

/// A listening socket for this runtime, and a line that says so.
fn opened(listener: StdListener, shared: &Shared) -> Option<TcpListener> {
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            if let Ok(http) = listener.local_addr() {
                let tls = shared.tls.read().is_some();
                info!(%http, tls, "listening");
            }
            Some(listener)
        }
        Err(error) => {
            warn!(%error, "cannot serve the HTTP API");
            None
        }
    }
}

async fn serve(
    listener: StdListener,
    mut shared: Shared,
    mut changes: mpsc::UnboundedReceiver<Change>,
) {
    let Some(mut listener) = opened(listener, &shared) else {
        return;
    };
    let places = Places::new(shared.settings.max_connections);
    let mut stopping = shared.stopping.clone();
    let events = shared.hub.events.clone();
    tokio::spawn(async move {
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            events.expire(unix_ms());
        }
    });
    let mut files = tokio::spawn(files::watch(shared.clone()));
    let mut router = routes::router(shared.clone());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(change) = changes.recv() => {
                files.abort();
                places.resize(change.sources.http.max_connections);
                let other = change.listener;
                shared.settings = change.sources.http.clone();
                shared.sources = change.sources;
                *shared.tls.write() = change.tls;
                shared.access.replace(change.known);
                if let Some(other) = other.and_then(|other| opened(other, &shared)) {
                    listener = other;
                }
                files = tokio::spawn(files::watch(shared.clone()));
                router = routes::router(shared.clone());
                continue;
            }
            // An error means that the gateway is gone.
            _ = stopping.wait_for(|it| *it) => break,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, from)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        // While all others work it is closed at once.
        if let Some(place) = places.take(&shared.hub.closed) {
            let (router, shared) = (router.clone(), shared.clone());
            connections.spawn(async move {
                tokio::select! {
                    biased;
                    () = place.ended() => {}
                    () = accept(stream, from.ip(), router, &shared, place.clone()) => {}
                }
            });
        }
    }
    drop(listener);
    let _ = timeout(GRACE, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// Serves one connection, over TLS if there is a certificate.
async fn accept(
    stream: TcpStream,
    from: IpAddr,
    router: Router,
    shared: &Shared,
    place: Arc<Place>,
) {
    let _ = stream.set_nodelay(true);
    let stream = Guarded::new(stream);
    let tls = shared.tls.read().clone();
    match tls {
        None => converse(stream, from, router, shared, place).await,
        Some(tls) => {
            let secured = TlsAcceptor::from(tls).accept(stream);
            if let Ok(Ok(stream)) = timeout(HANDSHAKE, secured).await {
                converse(stream, from, router, shared, place).await;
            }
        }
    }
}

/// Takes requests and answers them, until one side has enough.
async fn converse<S>(stream: S, from: IpAddr, router: Router, shared: &Shared, place: Arc<Place>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let extensions = request.extensions_mut();
        extensions.insert(Sender(from));
        extensions.insert(place.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let (mut stopping, mut changes) = (shared.stopping.clone(), shared.access.changes());
    let stops = tokio::select! {
        _ = &mut connection => return,
        _ = stopping.wait_for(|it| *it) => true,
        // Whoever it was let in for may not be known any more; streams of events would go on.
        _ = changes.changed() => false,
    };
    connection.as_mut().graceful_shutdown();
    if stops {
        let _ = connection.await;
    } else {
        let _ = timeout(REVOKED, connection).await;
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
