//! Mosquitto's plugin interface, version 5, as of 2.0.8 to 2.1.2. The broker's functions are
//! looked up when the plugin is loaded: a library that needed them for linking could be loaded by
//! nothing but Mosquitto.

#![allow(unsafe_code)] // dlsym, calls into the broker

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem;
use std::ptr;

/// `MOSQ_EVT_*`
pub(super) mod event {
    use std::ffi::c_int;

    pub(in super::super) const RELOAD: c_int = 1;
    pub(in super::super) const MESSAGE: c_int = 7;
    pub(in super::super) const TICK: c_int = 9;
}

/// `MOSQ_ERR_*`
pub(super) mod status {
    use std::ffi::c_int;

    pub(in super::super) const SUCCESS: c_int = 0;
    pub(in super::super) const INVAL: c_int = 3;
    pub(in super::super) const UNKNOWN: c_int = 13;
    pub(in super::super) const ALREADY_EXISTS: c_int = 31;
}

/// `MOSQ_LOG_*`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Info = 0x01,
    Warning = 0x04,
    Error = 0x08,
    Debug = 0x10,
}

/// `struct mosquitto_opt`: a `plugin_opt_KEY VALUE` line.
#[repr(C)]
pub(super) struct PluginOption {
    pub(super) key: *const c_char,
    pub(super) value: *const c_char,
}

/// `struct mosquitto_evt_message`
#[repr(C)]
pub(super) struct MessageEvent {
    _future: *mut c_void,
    pub(super) client: *const c_void,
    pub(super) topic: *const c_char,
    pub(super) payload: *const u8,
    pub(super) properties: *const c_void,
    _reason_string: *const c_char,
    pub(super) payload_len: u32,
    pub(super) qos: u8,
    _reason_code: u8,
    _retain: u8,
    _future2: [*mut c_void; 4],
}

/// A message for the broker, beside its topic.
pub(super) struct Outgoing<'a> {
    pub(super) payload: &'a [u8],
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// A list of the broker's, or NULL.
    pub(super) properties: *mut c_void,
}

/// `mosquitto_plugin_id_t`, the broker's handle of this plugin.
pub(super) type Identifier = *mut c_void;

/// `MOSQ_FUNC_generic_callback`
pub(super) type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

type Register =
    unsafe extern "C" fn(Identifier, c_int, Callback, *const c_void, *mut c_void) -> c_int;
type Unregister = unsafe extern "C" fn(Identifier, c_int, Callback, *const c_void) -> c_int;
type LogPrintf = unsafe extern "C" fn(c_int, *const c_char, ...);
type PublishCopy = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    c_int,
    *const c_void,
    c_int,
    bool,
    *mut c_void,
) -> c_int;
type ProtocolVersion = unsafe extern "C" fn(*const c_void) -> c_int;
type SetInfo = unsafe extern "C" fn(Identifier, *const c_char, *const c_char) -> c_int;

/// The broker's functions. None of them is thread-safe: they belong to the broker's main thread,
/// and so does this.
pub(super) struct Broker {
    register: Register,
    unregister: Unregister,
    log_printf: LogPrintf,
    publish_copy: PublishCopy,
    protocol_version: ProtocolVersion,
    set_info: Option<SetInfo>,
    _main_thread_only: PhantomData<*const ()>,
}

/// A function that this process does not have, so it is no Mosquitto of a version we know.
#[derive(Debug, thiserror::Error)]
#[error("this broker lacks the function {0}: use Mosquitto 2.0.8 or newer")]
pub(super) struct MissingFunction(&'static str);

impl Broker {
    /// Looks the functions up. To be called on the broker's main thread.
    pub(super) fn resolve() -> Result<Self, MissingFunction> {
        // SAFETY: each function is cast to the type the broker's headers declare it with.
        unsafe {
            Ok(Self {
                register: mem::transmute::<*mut c_void, Register>(symbol(
                    c"mosquitto_callback_register",
                )?),
                unregister: mem::transmute::<*mut c_void, Unregister>(symbol(
                    c"mosquitto_callback_unregister",
                )?),
                log_printf: mem::transmute::<*mut c_void, LogPrintf>(symbol(
                    c"mosquitto_log_printf",
                )?),
                publish_copy: mem::transmute::<*mut c_void, PublishCopy>(symbol(
                    c"mosquitto_broker_publish_copy",
                )?),
                protocol_version: mem::transmute::<*mut c_void, ProtocolVersion>(symbol(
                    c"mosquitto_client_protocol_version",
                )?),
                // Since 2.1.
                set_info: symbol(c"mosquitto_plugin_set_info")
                    .ok()
                    .map(|found| mem::transmute::<*mut c_void, SetInfo>(found)),
                _main_thread_only: PhantomData,
            })
        }
    }

    /// Tells the broker what we are called, where it wants to know.
    pub(super) fn introduce(&self, identifier: Identifier) {
        let version = CString::new(env!("CARGO_PKG_VERSION")).unwrap_or_default();
        if let Some(set_info) = self.set_info {
            // SAFETY: `identifier` is what the broker gave us; the texts are copied.
            unsafe { set_info(identifier, c"lwm2m-gateway".as_ptr(), version.as_ptr()) };
        }
    }

    /// Whether what a tick publishes goes out only after the broker's next wait: since 2.1. Before,
    /// it goes out at the beginning of the next turn.
    pub(super) const fn publishes_late(&self) -> bool {
        self.set_info.is_some()
    }

    /// Asks for the events of a kind; the result is a [`status`].
    ///
    /// # Safety
    /// `user_data` must be what `callback` expects until the events are given up.
    pub(super) unsafe fn register(
        &self,
        identifier: Identifier,
        event: c_int,
        callback: Callback,
        user_data: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's promise; these events have no data of their own.
        unsafe { (self.register)(identifier, event, callback, ptr::null(), user_data) }
    }

    /// Gives the events of a kind up.
    pub(super) fn unregister(&self, identifier: Identifier, event: c_int, callback: Callback) {
        // SAFETY: `identifier` is the broker's; what is not registered is refused.
        unsafe { (self.unregister)(identifier, event, callback, ptr::null()) };
    }

    /// Writes one line to the broker's log.
    pub(super) fn log(&self, level: Level, line: &str) {
        let line: Cow<'_, str> = if line.chars().any(char::is_control) {
            line.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect::<String>()
                .into()
        } else {
            line.into()
        };
        // NUL is a control character.
        let line = CString::new(line.into_owned()).unwrap_or_default();
        // SAFETY: the format takes one string, and gets one.
        unsafe { (self.log_printf)(level as c_int, c"%s".as_ptr(), line.as_ptr()) };
    }

    /// Publishes to everyone who has subscribed. The broker takes copies of topic and payload. Whether
    /// it took the message; its properties are the broker's then.
    ///
    /// # Safety
    /// The properties must be NULL or a list of the broker's.
    pub(super) unsafe fn publish(&self, topic: &CStr, message: &Outgoing<'_>) -> bool {
        let Ok(len) = c_int::try_from(message.payload.len()) else {
            return false;
        };
        // SAFETY: topic and payload live through the call; no client; the caller's promise.
        let result = unsafe {
            (self.publish_copy)(
                ptr::null(),
                topic.as_ptr(),
                len,
                message.payload.as_ptr().cast(),
                c_int::from(message.qos),
                message.retain,
                message.properties,
            )
        };
        result == status::SUCCESS
    }

    /// Whether a client speaks MQTT 5.
    ///
    /// # Safety
    /// `client` must come from an event that is being handled.
    pub(super) unsafe fn speaks_mqtt5(&self, client: *const c_void) -> bool {
        // SAFETY: the caller's promise; the broker takes NULL.
        unsafe { (self.protocol_version)(client) == 5 }
    }
}

pub(super) fn symbol(name: &'static CStr) -> Result<*mut c_void, MissingFunction> {
    // SAFETY: `name` is a C string; the process is searched as the linker does.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() {
        return Err(MissingFunction(name.to_str().unwrap_or_default()));
    }
    Ok(found)
}

/// Keeps this library in memory when the broker closes it: a thread that did not end within the
/// deadline goes on running its code.
pub(super) fn stay_in_memory() {
    // SAFETY: `Dl_info` is plain data; `dladdr` fills it for an address of our own.
    unsafe {
        let mut info: libc::Dl_info = mem::zeroed();
        let own = ptr::from_ref(&event::RELOAD).cast();
        if libc::dladdr(own, &mut info) != 0 && !info.dli_fname.is_null() {
            // The handle is never closed, which is the purpose.
            libc::dlopen(
                info.dli_fname,
                libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE,
            );
        }
    }
}

/// A value that only the thread it was made on gets to see.
pub(super) struct OnThread<T> {
    value: T,
    thread: libc::pthread_t,
}

// SAFETY: `get` hands the value out on its own thread only. It is dropped wherever the last owner
// is, so `T` must not mind, and a table of functions does not.
unsafe impl Send for OnThread<Broker> {}
// SAFETY: as above.
unsafe impl Sync for OnThread<Broker> {}

impl<T> OnThread<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            value,
            thread: this_thread(),
        }
    }

    /// The value, on its thread.
    pub(super) fn get(&self) -> Option<&T> {
        (this_thread() == self.thread).then_some(&self.value)
    }
}

/// Of the broker's thread too, without a handle that nobody would free.
fn this_thread() -> libc::pthread_t {
    // SAFETY: a plain call that cannot fail.
    unsafe { libc::pthread_self() }
}
