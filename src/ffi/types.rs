//! The types of the C API, as C sees them. Their comments are the documentation of the header.

// The names are those of the header.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};

/// Version of the binary interface that this header describes. It changes only when programs built
/// with an older header can no longer use a newer library; the soname changes with it.
/// `lwm2m_gateway_abi_version()` returns the version of the loaded library.
pub const LWM2M_GATEWAY_ABI_VERSION: u32 = 0;

/// Result of a function. A number never changes its meaning. Newer libraries may return numbers
/// that are not listed here; treat them as errors.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_status {
    /// Success.
    Ok = 0,
    /// An argument is wrong: NULL, a size that does not fit, text that is not UTF-8, a number out
    /// of range. Nothing was done.
    Argument = 1,
    /// The configuration is wrong; `lwm2m_gateway_last_error()` has a line for each mistake.
    Config = 2,
    /// Not allowed in the current state: not started yet, already started, stopped, or not
    /// available in this mode.
    State = 3,
    /// Called from a callback of the same gateway in which this function is not allowed, or while
    /// another thread is in this function.
    Busy = 4,
    /// The system reported an error: an address is in use, a file cannot be read, no descriptor is
    /// available.
    System = 5,
    /// There is no such device or request, or not any more.
    NotFound = 6,
    /// The deadline passed before everything was done.
    Timeout = 7,
    /// An internal error of the gateway. It was caught before it reached the host, but this gateway
    /// can no longer be used: call only `lwm2m_gateway_stop()` and `lwm2m_gateway_free()`. Other
    /// gateways of the process are not affected.
    Panic = 8,
}

/// Which threads call the callbacks; `mode` of the options.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_mode {
    /// The gateway's threads call the callbacks as soon as there is something to report, several at
    /// the same time. Messages about one device are in order.
    Threaded = 0,
    /// Callbacks are queued until the host calls `lwm2m_gateway_poll()`, and run inside that call
    /// on the host's thread. Only `wakeup` is still called from other threads.
    Polled = 1,
}

/// Which subscriptions the gateway requests; `subscriptions` of the options.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_subscriptions {
    /// One filter with wildcards for all devices, from start to stop. A command for a device that
    /// is not registered is answered 4.04.
    Shared = 0,
    /// A filter for each device, from its registration until the registration ends.
    PerDevice = 1,
}

/// Level of a log line.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_log_level {
    /// In the options: use `log.level` of the configuration.
    Default = 0,
    /// Something does not work.
    Error = 1,
    /// Something that an operator should look at.
    Warn = 2,
    /// Information about normal operation.
    Info = 3,
    /// Single messages.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// Kind of a published message.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_kind {
    /// A report of a registration, or of its end.
    Register = 0,
    /// A report of an Update.
    Update = 1,
    /// The answer to a command.
    Response = 2,
    /// A notification of an observation.
    Notify = 3,
    /// Values that a device sent on its own (LwM2M Send).
    Send = 4,
    /// A measurement series made from an answer, a notification or a Send.
    Series = 5,
}

/// The host's decision about a device that wants to register.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_decision {
    /// The device may register.
    Allow = 0,
    /// The device may not register; it is answered 4.03.
    Deny = 1,
    /// The decision is not possible now. The device is answered 5.03 and will try again.
    Unavailable = 2,
}

/// A message for the host's broker. The gateway owns the struct and everything it points to; all of
/// it is valid until the callback returns.
#[repr(C)]
#[derive(Debug)]
pub struct lwm2m_gateway_publication {
    /// `sizeof(lwm2m_gateway_publication)` of the library, which may be newer than this header:
    /// fields are only ever added at the end.
    pub size: usize,
    /// Kind of the message.
    pub kind: lwm2m_gateway_kind,
    /// MQTT QoS: 0, 1 or 2.
    pub qos: u32,
    /// Endpoint name of the device that the message is about. UTF-8, NUL-terminated.
    pub endpoint: *const c_char,
    /// Full topic. UTF-8, NUL-terminated.
    pub topic: *const c_char,
    /// Bytes of `topic` without the NUL.
    pub topic_length: usize,
    /// JSON. Not NUL-terminated.
    pub payload: *const u8,
    /// Bytes of `payload`.
    pub payload_length: usize,
    /// In an answer published to the command's `response_topic`: the Correlation Data (MQTT 5) of
    /// the command. Otherwise NULL. Not NUL-terminated.
    pub correlation_data: *const u8,
    /// Bytes of `correlation_data`.
    pub correlation_data_length: usize,
}

/// A message from the host's broker, for `lwm2m_gateway_deliver()`. The host owns the struct and
/// everything it points to; the gateway copies what it keeps.
///
/// Begin with `memset(&message, 0, sizeof message); message.size = sizeof message;`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lwm2m_gateway_message {
    /// `sizeof(lwm2m_gateway_message)`.
    pub size: usize,
    /// Full topic, as published. UTF-8; need not be NUL-terminated.
    pub topic: *const c_char,
    /// Bytes of `topic`.
    pub topic_length: usize,
    /// Payload. May be NULL if it is empty.
    pub payload: *const u8,
    /// Bytes of `payload`.
    pub payload_length: usize,
    /// MQTT QoS of the message: 0, 1 or 2. Does not change how a command is handled.
    pub qos: u32,
    /// 1 if the message was retained (RETAIN), otherwise 0. A retained command is carried out like
    /// any other, so applications should not publish commands that way.
    pub retain: u32,
    /// 1 if `message_expiry` is set, otherwise 0.
    pub has_message_expiry: u32,
    /// What is left of the Message Expiry Interval (MQTT 5), in seconds. A command that has not
    /// been sent to its device by then is dropped and answered with an error.
    pub message_expiry: u32,
    /// Response Topic (MQTT 5): answers are also published there, if `response_topics` of the
    /// configuration allows it. NULL: none. UTF-8; need not be NUL-terminated. The gateway
    /// publishes there with the host's permissions. If the host's broker knows that the sender may
    /// not publish there, leave it out.
    pub response_topic: *const c_char,
    /// Bytes of `response_topic`.
    pub response_topic_length: usize,
    /// Correlation Data (MQTT 5). NULL: none.
    pub correlation_data: *const u8,
    /// Bytes of `correlation_data`.
    pub correlation_data_length: usize,
    /// Any number except 0: `durable` of the options is called with it when the command is safe, or
    /// when it cannot be made safe. 0: `durable` is not called.
    pub receipt: u64,
}

/// A device that wants to register. Owned by the gateway, valid until the callback returns.
#[repr(C)]
#[derive(Debug)]
pub struct lwm2m_gateway_registration {
    /// `sizeof(lwm2m_gateway_registration)` of the library, which may be newer than this header:
    /// fields are only ever added at the end.
    pub size: usize,
    /// For `lwm2m_gateway_answer_authorization()`.
    pub id: u64,
    /// Endpoint name. UTF-8, NUL-terminated.
    pub endpoint: *const c_char,
    /// Address and port as text, such as `192.0.2.1:5683` or `[2001:db8::1]:5683`. NUL-terminated.
    pub peer: *const c_char,
    /// PSK identity of the DTLS connection, or NULL without DTLS. UTF-8 (invalid bytes are
    /// replaced), NUL-terminated.
    pub identity: *const c_char,
    /// All data of the device, as a JSON object with `endpoint`, `peer`, `listener`, `identity`,
    /// `mountpoint`, `lifetime`, `version` and `query`. The query contains everything the device
    /// sent, including passwords. NUL-terminated.
    pub json: *const c_char,
}

/// A DTLS handshake that waits for its key. Owned by the gateway, valid until the callback returns.
#[repr(C)]
#[derive(Debug)]
pub struct lwm2m_gateway_psk_request {
    /// `sizeof(lwm2m_gateway_psk_request)` of the library, which may be newer than this header:
    /// fields are only ever added at the end.
    pub size: usize,
    /// For `lwm2m_gateway_answer_psk()`.
    pub id: u64,
    /// Identity as the device sent it: any bytes. Not NUL-terminated.
    pub identity: *const u8,
    /// Bytes of `identity`.
    pub identity_length: usize,
    /// Address and port of the device as text. NUL-terminated.
    pub peer: *const c_char,
    /// Listener, such as `dtls:default`. NUL-terminated.
    pub listener: *const c_char,
}

/// Publishes a message through the host's broker.
///
/// Threaded: called by the gateway's threads, and by any thread inside `lwm2m_gateway_deliver()`
/// and `lwm2m_gateway_start()`. Polled: called inside `lwm2m_gateway_poll()`.
///
/// Return 0 if the message was accepted. Any other value means that it is lost; the gateway counts
/// it as `publish_dropped`. Must not block: in threaded mode devices wait meanwhile.
pub type lwm2m_gateway_publish_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        publication: *const lwm2m_gateway_publication,
    ) -> c_int,
>;

/// Subscribes to a topic filter. `filter` is NUL-terminated and valid until the callback returns.
/// Pass each matching message to `lwm2m_gateway_deliver()`, only once even if several filters
/// match.
///
/// Threaded: called by the thread that is inside `lwm2m_gateway_start()` or
/// `lwm2m_gateway_reload()`; with subscriptions per device also by the gateway's threads. Polled:
/// called inside `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_subscribe_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, filter: *const c_char, qos: u32)>;

/// Removes a subscription. Called from the same threads as `subscribe`. `lwm2m_gateway_stop()` does
/// not remove the subscriptions that exist at that time.
pub type lwm2m_gateway_unsubscribe_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, filter: *const c_char)>;

/// Writes a line to the log. `target` is the part of the gateway that logs, `text` the line. Both
/// are UTF-8 and NUL-terminated, contain no line breaks and are valid until the callback returns.
///
/// Threaded: called by the gateway's threads, and by any thread inside any function of this
/// gateway, including `lwm2m_gateway_create()` and `lwm2m_gateway_free()`. Polled: called inside
/// `lwm2m_gateway_poll()`. In both modes, functions of the same gateway return
/// `LWM2M_GATEWAY_STATUS_BUSY` when called from this callback.
pub type lwm2m_gateway_log_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: lwm2m_gateway_log_level,
        target: *const c_char,
        text: *const c_char,
    ),
>;

/// Tells the host that callbacks wait for `lwm2m_gateway_poll()`. Called only in polled mode, by
/// the thread that queued the callback: a thread of the gateway, or any thread inside a function of
/// this gateway. One call covers everything up to the next `lwm2m_gateway_poll()`.
///
/// Use it only to wake the host's loop. Functions of the same gateway return
/// `LWM2M_GATEWAY_STATUS_BUSY` when called from it. A host that can wait for a file descriptor does
/// not need it, see `lwm2m_gateway_fd()`.
pub type lwm2m_gateway_wakeup_callback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Asks for the key of a PSK identity that the configuration does not have. Answer with
/// `lwm2m_gateway_answer_psk()`, inside the callback or later, from any thread. Until then only
/// this handshake waits.
///
/// Threaded: called by the gateway's threads. Polled: called inside `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_psk_lookup_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, request: *const lwm2m_gateway_psk_request)>;

/// Asks whether a device may register. Answer with `lwm2m_gateway_answer_authorization()`, inside
/// the callback or later, from any thread. Until then only this device waits.
///
/// Threaded: called by the gateway's threads. Polled: called inside `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_authorize_callback = Option<
    unsafe extern "C" fn(user_data: *mut c_void, registration: *const lwm2m_gateway_registration),
>;

/// Reports that a device has registered, has sent an Update or is gone. `json` is an object as in
/// `lwm2m_gateway_devices()` with `"event": "registered"` or `"updated"` (and `"restored": true` if
/// it was restored from the store), or `{"event":"gone","endpoint":"…","reason":"deregistered"}`.
/// Reasons are `deregistered`, `expired`, `kicked`, `displaced` and `listener_closed`. `json` is
/// NUL-terminated and valid until the callback returns.
///
/// Threaded: called by the gateway's threads. Polled: called inside `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_device_event_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, json: *const c_char)>;

/// Tells the host whether a command that had a `receipt` is safe. `receipt` is that number.
/// `status` is
///
/// - `OK` if every effect of the message is in the store or answered,
/// - `STATE` if there is no store,
/// - `SYSTEM` if the store cannot be written; the command continues from memory,
/// - `NOT_FOUND` if the message was not accepted: it is not a command, or it was refused, in which
///   case it is answered.
///
/// With `store.sync = "off"`, "in the store" means that the operating system has the data, not the
/// disk.
///
/// Called once for each message that was delivered with `OK`, in any order. Threaded: called by the
/// gateway's threads, or inside `lwm2m_gateway_deliver()`; must not block. Polled: called inside
/// `lwm2m_gateway_poll()`, and never dropped.
pub type lwm2m_gateway_durable_callback = Option<
    unsafe extern "C" fn(user_data: *mut c_void, receipt: u64, status: lwm2m_gateway_status),
>;

/// Options of a new gateway. Begin with
/// `memset(&options, 0, sizeof options); options.size = sizeof options;`: zeros are the defaults.
/// Only `publish` must be set.
///
/// `size` allows fields to be added at the end. A library treats the missing fields of an older,
/// shorter struct as zero. It refuses a newer, longer struct only if a field that it does not know
/// is not zero.
///
/// In callbacks of a gateway, except `log` and `wakeup`, you may call all of its functions whose
/// comments do not forbid it. You may always call functions of other gateways. Callbacks must
/// return normally: do not leave them by a C++ exception, `longjmp()`, `pthread_exit()` or
/// cancellation.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lwm2m_gateway_options {
    /// `sizeof(lwm2m_gateway_options)`.
    pub size: usize,
    /// An `lwm2m_gateway_mode`.
    pub mode: u32,
    /// An `lwm2m_gateway_subscriptions`.
    pub subscriptions: u32,
    /// Passed to each callback unchanged. Must be valid until `lwm2m_gateway_free()` has returned.
    pub user_data: *mut c_void,
    /// Required.
    pub publish: lwm2m_gateway_publish_callback,
    /// NULL: the host delivers all messages, or decides by itself which.
    pub subscribe: lwm2m_gateway_subscribe_callback,
    /// NULL in the same cases as `subscribe`.
    pub unsubscribe: lwm2m_gateway_unsubscribe_callback,
    /// NULL: no log.
    pub log: lwm2m_gateway_log_callback,
    /// An `lwm2m_gateway_log_level`: the lowest level for which `log` is called. Unless it is
    /// `DEFAULT`, `log.level` of the configuration has no effect.
    pub log_level: u32,
    /// Polled mode: how many callbacks may wait for `lwm2m_gateway_poll()`. When the queue is full,
    /// new ones are dropped, counted as `host_queue_overflow` and logged; only changes of
    /// subscriptions are never dropped. 0: 65,536.
    pub queue_limit: u32,
    /// Polled mode: how many bytes may wait, with the same effect as `queue_limit`. 0: 64 MiB.
    pub queue_bytes: u64,
    /// NULL: the host does not need to be woken.
    pub wakeup: lwm2m_gateway_wakeup_callback,
    /// NULL: keys come only from the configuration.
    pub psk_lookup: lwm2m_gateway_psk_lookup_callback,
    /// NULL: every device that can prove its identity may register.
    pub authorize: lwm2m_gateway_authorize_callback,
    /// NULL: the host does not need device events.
    pub device_event: lwm2m_gateway_device_event_callback,
    /// Directory of the store, which keeps registrations, observations and commands across
    /// restarts; `store.path` of the configuration then has no effect. UTF-8, NUL-terminated; read
    /// when the gateway is created. NULL or empty: as configured, by default no store.
    pub store_path: *const c_char,
    /// NULL: the host does not wait for the store.
    pub durable: lwm2m_gateway_durable_callback,
}
