//! A running gateway as a resource of the VM.

use std::collections::BTreeMap;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lwm2m_gateway::{Config, EventLog, Gateway, Host, ReloadError, StartError};
use parking_lot::Mutex;
use rustler::{
    Atom, Encoder, Env, Error, LocalPid, Monitor, NifResult, Resource, ResourceArc, Term,
};
use tracing::{Dispatch, dispatcher};

use crate::atoms;
use crate::event::Event;
use crate::host::Owner;
use crate::log::Log;
use crate::options::Options;
use crate::outbox::Outbox;

/// Every gateway whose threads may still run: they have to end before the library goes.
static RUNNING: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

/// How long the end of an abandoned gateway is waited for. Its threads need half a second when
/// devices owe answers.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(10);

/// A gateway, for as long as a process holds it or its threads run.
pub(crate) struct Shared {
    gateway: Gateway,
    outbox: Arc<Outbox>,
    log: Dispatch,
    stopped: AtomicBool,
    /// Held by whoever waits for the end of the threads.
    stopping: Mutex<()>,
}

/// The resource. The gateway stops when the last process that holds it lets go. The one without a
/// gateway keeps the type, see [`crate::pin`]; no process ever has it.
pub(crate) struct Handle(Option<Arc<Shared>>);

/// The locks in there guard single steps, so a panic leaves nothing half done.
impl RefUnwindSafe for Handle {}

#[rustler::resource_impl]
impl Resource for Handle {
    fn destructor(self, _env: Env<'_>) {
        if let Some(shared) = &self.0 {
            shared.abandon();
        }
    }

    fn down<'a>(&'a self, _env: Env<'a>, _owner: LocalPid, _monitor: Monitor) {
        if let Some(shared) = &self.0 {
            shared.abandon();
        }
    }
}

/// Why a gateway does not start or takes no other configuration.
pub(crate) enum Refusal {
    Start(StartError),
    OwnerDead,
    Stopped,
}

impl Encoder for Refusal {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let error = match self {
            Self::Start(error) => error,
            Self::OwnerDead => return atoms::owner_dead().encode(env),
            Self::Stopped => return atoms::stopped().encode(env),
        };
        let kind = match error {
            StartError::Bind { .. } => atoms::bind(),
            StartError::Credentials { .. } | StartError::Certificates { .. } => {
                atoms::credentials()
            }
            StartError::Dtls { .. } => atoms::dtls(),
            StartError::Http(_) => atoms::http(),
            StartError::Models { .. } => atoms::models(),
            StartError::Store(_) => atoms::store(),
            StartError::Topic(_) => atoms::topic(),
            StartError::System { .. } => atoms::system(),
        };
        (kind, error.to_string()).encode(env)
    }
}

impl Handle {
    /// One without a gateway.
    pub(crate) fn keeper() -> Self {
        Self(None)
    }

    pub(crate) fn start(
        env: Env<'_>,
        id: u64,
        config: Config,
        options: Options,
    ) -> Result<ResourceArc<Self>, Refusal> {
        let owner = options.owner;
        let outbox = Arc::new(Outbox::new(owner, id, options.credit, options.max_queue));
        let log = Dispatch::new(EventLog(Log {
            outbox: outbox.clone(),
            level: options.log,
        }));
        let host: Arc<dyn Host> = Arc::new(Owner {
            outbox: outbox.clone(),
            options,
        });
        let gateway = dispatcher::with_default(&log, || Gateway::start(config, host))
            .map_err(Refusal::Start)?;
        let shared = Arc::new(Shared {
            gateway,
            outbox,
            log,
            stopped: AtomicBool::new(false),
            stopping: Mutex::new(()),
        });
        RUNNING.lock().push(shared.clone());
        let handle = ResourceArc::new(Self(Some(shared.clone())));
        // From here on dropping the handle is the way to stop the gateway.
        (handle.monitor(Some(env), &owner)).ok_or(Refusal::OwnerDead)?;
        shared.outbox.flush(env);
        Ok(handle)
    }

    /// The way to the owner.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.0.as_ref().map(|shared| &*shared.outbox)
    }

    /// The gateway, unless it is stopped.
    pub(crate) fn gateway(&self) -> Option<&Gateway> {
        let shared = self.0.as_ref()?;
        (!shared.stopped.load(Ordering::Acquire)).then_some(&shared.gateway)
    }

    /// Stops the gateway and waits for the end of its threads; false after `deadline`.
    pub(crate) fn stop(&self, env: Env<'_>, deadline: Duration) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            let ended = shared.stop(deadline);
            shared.outbox.flush(env);
            ended
        })
    }

    pub(crate) fn reload(&self, env: Env<'_>, config: Config) -> Result<(), Refusal> {
        let shared = self.0.as_ref().ok_or(Refusal::Stopped)?;
        let gateway = self.gateway().ok_or(Refusal::Stopped)?;
        let reloaded = dispatcher::with_default(&shared.log, || gateway.reload(config));
        shared.outbox.flush(env);
        reloaded.map_err(|error| match error {
            ReloadError::Start(error) => Refusal::Start(error),
            ReloadError::Stopped => Refusal::Stopped,
        })
    }

    pub(crate) fn statistics<'a>(&self, env: Env<'a>) -> NifResult<Term<'a>> {
        let shared = self.0.as_ref().ok_or(Error::BadArg)?;
        let mut statistics: BTreeMap<_, _> = shared.gateway.statistics().0;
        for (name, value) in shared.outbox.statistics() {
            *statistics.entry(name).or_default() += value;
        }
        let names = statistics.keys().map(|name| Atom::from_str(env, name));
        let names = names.collect::<NifResult<Vec<_>>>()?;
        let values: Vec<_> = statistics.values().copied().collect();
        Term::map_from_arrays(env, &names, &values)
    }
}

impl Shared {
    fn stop(self: &Arc<Self>, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let first = !self.stopped.swap(true, Ordering::AcqRel);
        let Some(waiting) = self.stopping.try_lock_until(until) else {
            return false;
        };
        let left = until.saturating_duration_since(Instant::now());
        let ended = dispatcher::with_default(&self.log, || self.gateway.stop(left));
        drop(waiting);
        if first {
            self.outbox.push([Event::Stopped]);
        }
        if ended {
            RUNNING.lock().retain(|it| !Arc::ptr_eq(it, self));
        }
        ended
    }

    /// Nobody listens any more. Called on a scheduler, so another thread waits for the end.
    fn abandon(self: &Arc<Self>) {
        self.outbox.close();
        if !RUNNING.lock().iter().any(|it| Arc::ptr_eq(it, self)) {
            return;
        }
        self.stopped.store(true, Ordering::Release);
        let gateway = self.clone();
        let waiting = thread::Builder::new()
            .name("lwm2m-stop".to_owned())
            .spawn(move || gateway.stop(ABANDONED_TIMEOUT));
        if waiting.is_err() {
            // Without waiting: stop_all finds it.
            self.stop(Duration::ZERO);
        }
    }
}

/// Stops all gateways; false when one still runs after `deadline`.
pub(crate) fn stop_all(env: Env<'_>, deadline: Duration) -> bool {
    let until = Instant::now() + deadline;
    let running = RUNNING.lock().clone();
    let mut all = true;
    for gateway in running {
        all &= gateway.stop(until.saturating_duration_since(Instant::now()));
        gateway.outbox.flush(env);
    }
    all
}
