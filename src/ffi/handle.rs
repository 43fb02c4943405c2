//! A gateway as the host holds it: created, started, stopped, freed.

#![allow(unsafe_code)] // the handle behind the host's pointer

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tracing::{Dispatch, dispatcher, warn};

use super::boundary::{Failure, InCallback, boundary};
use super::callbacks::Callbacks;
use super::log::{Logger, filter_of};
use super::options::{Given, Options};
use super::types::lwm2m_gateway_status as Status;
use crate::config::Config;
use crate::config::read::Source;
use crate::credentials::Key;
use crate::host::{Decision, Message, ReplyTo};
use crate::runtime::{Gateway, ReloadError};
use crate::telemetry::EventLog;

/// How long a gateway that is freed without having been stopped may take to stop.
const FREE_DEADLINE: Duration = Duration::from_secs(2);

/// A gateway. Created by `lwm2m_gateway_create()` and freed by `lwm2m_gateway_free()`.
#[allow(non_camel_case_types)] // the name of the header
pub struct lwm2m_gateway {
    callbacks: Arc<Callbacks>,
    /// Where the log of this gateway goes, on any thread.
    dispatch: Dispatch,
    log_level: u32,
    /// The host's, instead of that of the configuration.
    store: Option<PathBuf>,
    gateway: OnceLock<Gateway>,
    stopped: AtomicBool,
    /// After a panic: nothing is sure any more.
    poisoned: AtomicBool,
    /// The configuration in force. Locked by whoever starts, reloads or stops.
    config: Mutex<Config>,
}

impl lwm2m_gateway {
    pub(super) fn new(
        options: Options,
        config: Option<&str>,
        store: Option<&str>,
    ) -> Result<Self, Failure> {
        let (mut config, warnings) = parse(config.unwrap_or_default())?;
        let store = store.map(PathBuf::from);
        config.store.path = store.clone().or(config.store.path);
        let log_level = options.log_level;
        let filter = filter_of(log_level, &config.log.level).map_err(|text| match log_level {
            0 => Failure::new(Status::Config, text),
            _ => Failure::argument(text),
        })?;
        let logs = options.log.is_some();
        let callbacks = Arc::new(Callbacks::new(options).map_err(system)?);
        let dispatch = if logs {
            Dispatch::new(EventLog(Logger::new(Arc::downgrade(&callbacks), filter)))
        } else {
            Dispatch::none()
        };
        dispatcher::with_default(&dispatch, || warnings.iter().for_each(|it| warn!("{it}")));
        Ok(Self {
            callbacks,
            dispatch,
            log_level,
            store,
            gateway: OnceLock::new(),
            stopped: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            config: Mutex::new(config),
        })
    }

    /// Runs `body` with the log of this gateway; a panic in it is kept here.
    ///
    /// # Safety
    /// `gateway` is NULL, or was made by `lwm2m_gateway_create()` and is not freed before this
    /// returns.
    pub(super) unsafe fn enter(
        gateway: *const Self,
        body: impl FnOnce(&Self) -> Result<(), Failure>,
    ) -> Status {
        // SAFETY: NULL or alive, as the caller promises; never handed out mutably.
        let handle = unsafe { gateway.as_ref() };
        boundary(|| {
            let handle = handle.ok_or_else(|| Failure::argument("gateway is NULL"))?;
            handle.guarded(body)
        })
    }

    fn guarded(&self, body: impl FnOnce(&Self) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.poisoned.load(Ordering::Acquire) {
            let text = "this gateway is unusable after an internal error";
            return Err(Failure::new(Status::Panic, text));
        }
        if InCallback::bare(self.callbacks.id()) {
            let text = "the callbacks log and wakeup must not call functions of the gateway";
            return Err(Failure::new(Status::Busy, text));
        }
        let poison = Poison(&self.poisoned);
        let result = dispatcher::with_default(&self.dispatch, || body(self));
        std::mem::forget(poison);
        result
    }

    pub(super) fn start(&self) -> Result<(), Failure> {
        self.outside_of_callbacks("start")?;
        let config = self.config.lock();
        self.not_stopped()?;
        if self.gateway.get().is_some() {
            return Err(Failure::state("the gateway is already started"));
        }
        let gateway = Gateway::start(config.clone(), self.callbacks.clone()).map_err(system)?;
        // Empty, as the lock is held.
        let gateway = self.gateway.get_or_init(|| gateway);
        self.callbacks.open();
        if self.stopped.load(Ordering::Acquire) {
            // Asked for meanwhile, by somebody who did not wait.
            gateway.stop(Duration::ZERO);
        }
        Ok(())
    }

    /// Copies the message if it is a command.
    pub(super) fn deliver(&self, given: &Given<'_>) -> Result<(), Failure> {
        let gateway = self.running()?;
        let receipt = given.receipt.map(|number| self.callbacks.receipt(number));
        if gateway.is_command(given.topic) {
            let reply = given.reply.as_ref();
            let message = Message {
                topic: given.topic.to_owned(),
                payload: given.payload.to_vec(),
                expiry: given.expiry,
                reply: reply.map(|it| Box::new(ReplyTo::new(it.topic, it.correlation))),
            };
            match receipt {
                Some(receipt) => gateway.deliver_durably(message, receipt),
                None => gateway.deliver(message),
            }
        }
        Ok(())
    }

    pub(super) fn is_command(&self, topic: &str) -> Result<bool, Failure> {
        Ok(self.running()?.is_command(topic))
    }

    pub(super) fn poll(&self, max: usize) -> Result<usize, Failure> {
        self.outside_of_callbacks("poll")?;
        self.callbacks.poll(max)
    }

    pub(super) fn fd(&self) -> Result<RawFd, Failure> {
        let fd = self.callbacks.fd();
        fd.ok_or_else(|| Failure::state("the gateway is not in polled mode"))
    }

    /// `None` reads the files of the configuration in force again.
    pub(super) fn reload(&self, text: Option<&str>) -> Result<(), Failure> {
        self.outside_of_callbacks("reload")?;
        self.not_stopped()?;
        let mut config = self.config.lock();
        self.not_stopped()?;
        let (mut new, warnings) = match text {
            Some(text) => parse(text)?,
            None => (config.clone(), Vec::new()),
        };
        new.store.path = self.store.clone().or(new.store.path);
        let filter = filter_of(self.log_level, &new.log.level)
            .map_err(|text| Failure::new(Status::Config, text))?;
        warnings.iter().for_each(|it| warn!("{it}"));
        if let Some(gateway) = self.gateway.get() {
            gateway.reload(new.clone()).map_err(|error| match error {
                ReloadError::Start(error) => system(error),
                ReloadError::Stopped => Failure::state(error),
            })?;
        }
        if let Some(logger) = self.dispatch.downcast_ref::<EventLog<Logger>>() {
            logger.0.set_filter(filter);
        }
        *config = new;
        Ok(())
    }

    /// All devices as JSON.
    pub(super) fn devices(&self) -> Result<String, Failure> {
        self.outside_of_callbacks("devices")?;
        json(&self.running()?.devices())
    }

    /// One device as JSON.
    pub(super) fn device(&self, endpoint: &str) -> Result<String, Failure> {
        self.outside_of_callbacks("device")?;
        let device = self.running()?.device(endpoint);
        json(&device.ok_or_else(|| not_registered(endpoint))?)
    }

    pub(super) fn kick(&self, endpoint: &str) -> Result<(), Failure> {
        let known = self.running()?.kick(endpoint);
        known.then_some(()).ok_or_else(|| not_registered(endpoint))
    }

    pub(super) fn answer_authorization(&self, id: u64, decision: Decision) -> Result<(), Failure> {
        let request = self.callbacks.authorizations.take(id);
        request.ok_or_else(|| not_asked(id))?.answer(decision);
        Ok(())
    }

    pub(super) fn answer_psk(&self, id: u64, key: Option<Key>) -> Result<(), Failure> {
        let request = self.callbacks.psk_requests.take(id);
        request.ok_or_else(|| not_asked(id))?.answer(key);
        Ok(())
    }

    /// Counters as JSON.
    pub(super) fn statistics(&self) -> Result<String, Failure> {
        let gateway = self.started()?;
        let mut counters: BTreeMap<_, _> = gateway.statistics().0;
        for (name, value) in self.callbacks.counters() {
            *counters.entry(name).or_default() += value;
        }
        json(&counters)
    }

    /// Names and addresses of the listeners as JSON.
    pub(super) fn listeners(&self) -> Result<String, Failure> {
        #[derive(serde::Serialize)]
        struct Listener {
            name: String,
            address: String,
        }
        let listeners = self.started()?.listeners().into_iter();
        let listeners: Vec<_> = listeners
            .map(|(name, address)| Listener {
                name,
                address: address.to_string(),
            })
            .collect();
        json(&listeners)
    }

    pub(super) fn stop(&self, deadline: Duration) -> Result<(), Failure> {
        self.outside_of_callbacks("stop")?;
        self.stop_within(deadline)
    }

    /// Ends everything, so that the memory can be given back.
    pub(super) fn end(&self) -> Result<(), Failure> {
        self.outside_of_callbacks("free")?;
        if self.stop_within(FREE_DEADLINE).is_err() {
            dispatcher::with_default(&self.dispatch, || {
                warn!("gateway freed while its threads are still busy");
            });
        }
        self.callbacks.close();
        Ok(())
    }

    fn stop_within(&self, deadline: Duration) -> Result<(), Failure> {
        let until = Instant::now() + deadline;
        self.stopped.store(true, Ordering::Release);
        // Whoever starts or reloads comes to an end first.
        let config: Option<MutexGuard<'_, Config>> = self.config.try_lock_for(deadline);
        let ended = self.gateway.get().is_none_or(|gateway| {
            let left = until.saturating_duration_since(Instant::now());
            dispatcher::with_default(&self.dispatch, || gateway.stop(left))
        });
        if ended && config.is_some() {
            return Ok(());
        }
        let text = "the gateway did not stop completely in time";
        Err(Failure::new(Status::Timeout, text))
    }

    /// The gateway, also when it is stopped.
    fn started(&self) -> Result<&Gateway, Failure> {
        let gateway = self.gateway.get();
        gateway.ok_or_else(|| Failure::state("the gateway is not started"))
    }

    fn running(&self) -> Result<&Gateway, Failure> {
        self.not_stopped()?;
        self.started()
    }

    fn not_stopped(&self) -> Result<(), Failure> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(Failure::state("the gateway is stopped"));
        }
        Ok(())
    }

    fn outside_of_callbacks(&self, what: &str) -> Result<(), Failure> {
        if !InCallback::of(self.callbacks.id()) {
            return Ok(());
        }
        let text = format_args!("lwm2m_gateway_{what}() must not be called from a callback");
        Err(Failure::new(Status::Busy, text))
    }
}

/// Dropped by a panic only.
struct Poison<'a>(&'a AtomicBool);

impl Drop for Poison<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn parse(text: &str) -> Result<(Config, Vec<impl std::fmt::Display + use<>>), Failure> {
    Source::parse(text).read().map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(Status::Config, lines.join("\n"))
    })
}

fn not_registered(endpoint: &str) -> Failure {
    Failure::new(
        Status::NotFound,
        format_args!("{endpoint:?} is not registered"),
    )
}

fn not_asked(id: u64) -> Failure {
    Failure::new(
        Status::NotFound,
        format_args!("no request with id {id} waits"),
    )
}

fn system(error: impl std::error::Error) -> Failure {
    Failure::new(Status::System, error)
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| system(io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, c_int, c_void};
    use std::ptr;

    use super::super::boundary::last_error;
    use super::super::types::{lwm2m_gateway_options, lwm2m_gateway_publication};
    use super::*;

    unsafe extern "C" fn take(_: *mut c_void, _: *const lwm2m_gateway_publication) -> c_int {
        0
    }

    fn handle() -> lwm2m_gateway {
        // SAFETY: integers, pointers and optional function pointers: zeros are a value.
        let mut options: lwm2m_gateway_options = unsafe { std::mem::zeroed() };
        options.publish = Some(take);
        lwm2m_gateway::new(options.try_into().unwrap(), None, None).unwrap()
    }

    #[test]
    fn a_panic_poisons_its_gateway_only() {
        let (broken, sound) = (handle(), handle());
        // SAFETY: both live to the end of the test.
        let enter = |gateway, fails: bool| unsafe {
            lwm2m_gateway::enter(gateway, |_| if fails { panic!("oh") } else { Ok(()) })
        };
        assert_eq!(enter(&raw const broken, true), Status::Panic);
        assert_eq!(enter(&raw const broken, false), Status::Panic);
        // SAFETY: the text of this thread, which nothing changes meanwhile.
        let text = unsafe { CStr::from_ptr(last_error()) };
        assert!(text.to_str().unwrap().contains("unusable"));
        assert_eq!(enter(&raw const sound, false), Status::Ok);
        assert_eq!(enter(ptr::null(), false), Status::Argument);
        assert!(broken.stop(Duration::ZERO).is_ok());
        assert!(broken.end().is_ok());
    }
}
