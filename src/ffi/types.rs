//! The types of the C API, as C sees them. Their comments are the documentation of the header.

// The names are those of the header.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};

/// Version of the binary interface that this header describes. It changes only when a program
/// built with an older header could not go on with a newer library; the soname changes with it.
/// `lwm2m_gateway_abi_version()` tells the version of the library that was loaded.
pub const LWM2M_GATEWAY_ABI_VERSION: u32 = 0;

/// What a function has to say. Numbers are never given a second meaning; newer libraries may
/// return numbers that are not listed here, which are errors.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_status {
    /// Done.
    Ok = 0,
    /// An argument is wrong: NULL, a size that does not fit, text that is no UTF-8, a number
    /// outside of its range. Nothing was done.
    Argument = 1,
    /// The configuration is wrong; `lwm2m_gateway_last_error()` has a line for each mistake.
    Config = 2,
    /// Not at this time: not started yet, started already, stopped, or not in this mode.
    State = 3,
    /// Called from inside a callback of the same gateway, where this function is not allowed, or
    /// while another thread is in it.
    Busy = 4,
    /// The system refuses: an address is taken, a file cannot be read, no descriptor is left.
    System = 5,
    /// There is no such device or no such request (any more).
    NotFound = 6,
    /// The deadline has passed before everything was done.
    Timeout = 7,
    /// An error inside of the gateway. It was kept from the host; this gateway is of no use any
    /// more, and only `lwm2m_gateway_stop()` and `lwm2m_gateway_free()` still do something with
    /// it. Other gateways of the process are not affected.
    Panic = 8,
}

/// Who calls the callbacks; `mode` of the options.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_mode {
    /// The gateway's threads call the callbacks as soon as there is something, several of them at
    /// once. Messages about one device come in order.
    Threaded = 0,
    /// Callbacks wait in a queue until the host calls `lwm2m_gateway_poll()`, and run inside of
    /// that call, on the host's thread. Only `wakeup` is still called from other threads.
    Polled = 1,
}

/// Which subscriptions the gateway asks for; `subscriptions` of the options.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_subscriptions {
    /// One filter with wildcards for all devices, from start to stop. A command for a device that
    /// is not registered is answered with code 4.04.
    Shared = 0,
    /// A filter for each device, from its registration to its end.
    PerDevice = 1,
}

/// How much a line of the log matters.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_log_level {
    /// In the options: what `log.level` of the configuration says.
    Default = 0,
    /// Something does not work.
    Error = 1,
    /// Something that the operator should look at.
    Warn = 2,
    /// What an operator wants to know of normal operation.
    Info = 3,
    /// Single messages.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// What a published message is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_kind {
    /// A report of a registration or of its end.
    Register = 0,
    /// A report of an Update.
    Update = 1,
    /// The answer to a command.
    Response = 2,
    /// A notification of an observation.
    Notify = 3,
    /// What a device sent by itself (LwM2M Send).
    Send = 4,
    /// A measurement series made from one of the others.
    Series = 5,
}

/// The host's word on a device that wants to register.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum lwm2m_gateway_decision {
    /// It may.
    Allow = 0,
    /// It may not; it is answered 4.03.
    Deny = 1,
    /// Nobody can tell now; it is answered 5.03 and will try again.
    Unavailable = 2,
}

/// A message for the host's broker. The gateway owns the struct and everything that it points to;
/// all of it is valid until the callback returns.
#[repr(C)]
#[derive(Debug)]
pub struct lwm2m_gateway_publication {
    /// `sizeof(lwm2m_gateway_publication)` of the library, which may be newer than this header:
    /// fields are only ever added at the end.
    pub size: usize,
    /// What it is.
    pub kind: lwm2m_gateway_kind,
    /// MQTT QoS: 0, 1 or 2.
    pub qos: u32,
    /// Endpoint name of the device that it is about. UTF-8, ends with NUL.
    pub endpoint: *const c_char,
    /// Full topic. UTF-8, ends with NUL.
    pub topic: *const c_char,
    /// Bytes of `topic` without the NUL.
    pub topic_length: usize,
    /// JSON. Does not end with NUL.
    pub payload: *const u8,
    /// Bytes of `payload`.
    pub payload_length: usize,
    /// Correlation Data (MQTT 5) of the command, in an answer for its `response_topic`; otherwise
    /// NULL. Does not end with NUL.
    pub correlation_data: *const u8,
    /// Bytes of `correlation_data`.
    pub correlation_data_length: usize,
}

/// A message of the host's broker, for `lwm2m_gateway_deliver()`. The host owns the struct and
/// everything that it points to; the gateway copies what it keeps.
///
/// Begin with `memset(&message, 0, sizeof message); message.size = sizeof message;`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lwm2m_gateway_message {
    /// `sizeof(lwm2m_gateway_message)`.
    pub size: usize,
    /// Full topic, as its publisher wrote it. UTF-8; need not end with NUL.
    pub topic: *const c_char,
    /// Bytes of `topic`.
    pub topic_length: usize,
    /// Payload. May be NULL when it is empty.
    pub payload: *const u8,
    /// Bytes of `payload`.
    pub payload_length: usize,
    /// MQTT QoS that it came with: 0, 1 or 2. Does not change how a command is handled.
    pub qos: u32,
    /// 1 when the broker had stored the message (RETAIN), otherwise 0. A stored command is carried
    /// out like any other: applications should not publish commands that way.
    pub retain: u32,
    /// 1 when `message_expiry` holds a value, otherwise 0.
    pub has_message_expiry: u32,
    /// What is left of the Message Expiry Interval of MQTT 5 in seconds. A command that has not
    /// gone to its device by then is answered and dropped.
    pub message_expiry: u32,
    /// Response Topic of MQTT 5, to which the answers go as well, within `response_topics` of the
    /// configuration. NULL: none. UTF-8; need not end with NUL. The gateway publishes there with the
    /// rights of the host: a host whose broker knows the rights of the sender leaves it out where
    /// the sender may not publish.
    pub response_topic: *const c_char,
    /// Bytes of `response_topic`.
    pub response_topic_length: usize,
    /// Correlation Data of MQTT 5. NULL: none.
    pub correlation_data: *const u8,
    /// Bytes of `correlation_data`.
    pub correlation_data_length: usize,
    /// Any number but 0: `durable` of the options is called with it once the command is safe, or when
    /// that cannot be. 0: nobody wants to know.
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
    /// Endpoint name. UTF-8, ends with NUL.
    pub endpoint: *const c_char,
    /// Address and port as text, as in `192.0.2.1:5683` or `[2001:db8::1]:5683`. Ends with NUL.
    pub peer: *const c_char,
    /// PSK identity of the DTLS connection, or NULL when there is none. UTF-8 (bytes that are none
    /// are replaced), ends with NUL.
    pub identity: *const c_char,
    /// Everything that is known, as a JSON object with `endpoint`, `peer`, `listener`, `identity`,
    /// `mountpoint`, `lifetime`, `version` and `query`. The query holds what the device sent,
    /// passwords included. Ends with NUL.
    pub json: *const c_char,
}

/// A DTLS handshake that waits for its key. Owned by the gateway, valid until the callback
/// returns.
#[repr(C)]
#[derive(Debug)]
pub struct lwm2m_gateway_psk_request {
    /// `sizeof(lwm2m_gateway_psk_request)` of the library, which may be newer than this header:
    /// fields are only ever added at the end.
    pub size: usize,
    /// For `lwm2m_gateway_answer_psk()`.
    pub id: u64,
    /// Identity as the device presented it: any bytes. Does not end with NUL.
    pub identity: *const u8,
    /// Bytes of `identity`.
    pub identity_length: usize,
    /// Address and port of the device as text. Ends with NUL.
    pub peer: *const c_char,
    /// Listener, as in `dtls:default`. Ends with NUL.
    pub listener: *const c_char,
}

/// Publishes a message in the host's broker.
///
/// Threaded: called by the gateway's threads, and by any thread inside of
/// `lwm2m_gateway_deliver()` and `lwm2m_gateway_start()`. Polled: inside of
/// `lwm2m_gateway_poll()`.
///
/// Returns 0 when the message was taken. Any other value means that it is lost, which is counted
/// as `publish_dropped`. Must not block: in threaded mode devices wait meanwhile.
pub type lwm2m_gateway_publish_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        publication: *const lwm2m_gateway_publication,
    ) -> c_int,
>;

/// Asks for the messages of a topic filter. `filter` ends with NUL and is valid until the callback
/// returns. What matches is given to `lwm2m_gateway_deliver()`, also when several filters match,
/// but once.
///
/// Threaded: called by the thread that is inside of `lwm2m_gateway_start()` or
/// `lwm2m_gateway_reload()`, with subscriptions per device also by the gateway's threads. Polled:
/// inside of `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_subscribe_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, filter: *const c_char, qos: u32)>;

/// Takes a subscription back. Called as `subscribe` is. Subscriptions that stand at the end are
/// not taken back by `lwm2m_gateway_stop()`.
pub type lwm2m_gateway_unsubscribe_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, filter: *const c_char)>;

/// A line of the log. `target` is the part of the gateway that speaks, `text` the line; both are
/// UTF-8, end with NUL, have no line breaks of their own and are valid until the callback returns.
///
/// Threaded: called by the gateway's threads and by any thread inside of any function of this
/// gateway, `lwm2m_gateway_create()` and `lwm2m_gateway_free()` included. Polled: inside of
/// `lwm2m_gateway_poll()`. In both modes functions of the same gateway return
/// `LWM2M_GATEWAY_STATUS_BUSY` inside of it.
pub type lwm2m_gateway_log_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: lwm2m_gateway_log_level,
        target: *const c_char,
        text: *const c_char,
    ),
>;

/// There is something for `lwm2m_gateway_poll()`. Called in polled mode only, by whichever thread
/// put it there, that is the gateway's threads and any thread inside of a function of this
/// gateway. One call announces everything up to the next `lwm2m_gateway_poll()`.
///
/// Its purpose is to wake the host's loop; it should do nothing else, and functions of the same
/// gateway return `LWM2M_GATEWAY_STATUS_BUSY` inside of it. Hosts that can wait for a file
/// descriptor need not set it, see `lwm2m_gateway_fd()`.
pub type lwm2m_gateway_wakeup_callback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Asks for the key of a PSK identity that the configured sources do not know. The answer is given
/// by `lwm2m_gateway_answer_psk()`, inside of the callback or later, from any thread; meanwhile
/// the handshake waits, nothing else does.
///
/// Threaded: called by the gateway's threads. Polled: inside of `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_psk_lookup_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, request: *const lwm2m_gateway_psk_request)>;

/// Asks whether a device may register. The answer is given by
/// `lwm2m_gateway_answer_authorization()`, inside of the callback or later, from any thread;
/// meanwhile the device waits, others do not.
///
/// Threaded: called by the gateway's threads. Polled: inside of `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_authorize_callback = Option<
    unsafe extern "C" fn(user_data: *mut c_void, registration: *const lwm2m_gateway_registration),
>;

/// A device came, changed or went. `json` is an object as in `lwm2m_gateway_devices()` with
/// `"event": "registered"` or `"updated"` (and `"restored": true` when the store brought it back), or
/// `{"event":"gone","endpoint":"…","reason":"deregistered"}`; reasons are `deregistered`,
/// `expired`, `kicked`, `displaced` and `listener_closed`. It ends with NUL and is valid until the
/// callback returns.
///
/// Threaded: called by the gateway's threads. Polled: inside of `lwm2m_gateway_poll()`.
pub type lwm2m_gateway_device_event_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, json: *const c_char)>;

/// A command whose message had a `receipt` is safe, or is not: `receipt` is that number, `status`
/// `OK` when all that the message has caused is in the store or has its answer, `STATE` when there is
/// no store, `SYSTEM` when the store cannot be written (the command goes on from memory), `NOT_FOUND`
/// when the message was not taken: it was no command, or it was refused, which is answered.
/// With `store.sync = "off"` a store is what the system has taken, not what the disk has.
///
/// Called once for each message that was delivered with `OK`, in no order. Threaded: by the gateway's
/// threads, or inside of `lwm2m_gateway_deliver()`; it must not block. Polled: inside of
/// `lwm2m_gateway_poll()`, and never dropped.
pub type lwm2m_gateway_durable_callback = Option<
    unsafe extern "C" fn(user_data: *mut c_void, receipt: u64, status: lwm2m_gateway_status),
>;

/// How a gateway is made. Begin with
/// `memset(&options, 0, sizeof options); options.size = sizeof options;`: zeros are the defaults.
/// Only `publish` has to be set.
///
/// `size` makes it possible to add fields at the end. A library takes a struct of an older, shorter
/// header as if the missing fields were zero, and refuses one of a newer, longer header only if a
/// field that it does not know is not zero.
///
/// In callbacks of a gateway, `log` and `wakeup` excepted, all of its functions may be called whose
/// comments do not say otherwise. Functions of other gateways may be called in all of them.
/// Callbacks must return normally: neither a C++ exception nor `longjmp()`, `pthread_exit()` or a
/// cancellation may leave them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lwm2m_gateway_options {
    /// `sizeof(lwm2m_gateway_options)`.
    pub size: usize,
    /// An `lwm2m_gateway_mode`.
    pub mode: u32,
    /// An `lwm2m_gateway_subscriptions`.
    pub subscriptions: u32,
    /// Given to each callback as it is. Must be valid until `lwm2m_gateway_free()` has returned.
    pub user_data: *mut c_void,
    /// Required.
    pub publish: lwm2m_gateway_publish_callback,
    /// NULL when the host delivers all messages, or knows by itself which.
    pub subscribe: lwm2m_gateway_subscribe_callback,
    /// NULL as `subscribe`.
    pub unsubscribe: lwm2m_gateway_unsubscribe_callback,
    /// NULL: no log.
    pub log: lwm2m_gateway_log_callback,
    /// An `lwm2m_gateway_log_level`: the least that `log` is called for. Unless it is `DEFAULT`,
    /// `log.level` of the configuration has no effect.
    pub log_level: u32,
    /// Polled mode: callbacks that may wait for `lwm2m_gateway_poll()`. What comes when the queue
    /// is full is dropped, counted as `host_queue_overflow` and reported in the log; only
    /// subscriptions are never dropped. 0: 65,536.
    pub queue_limit: u32,
    /// Polled mode: bytes that may wait, counted as `queue_limit`. 0: 64 MiB.
    pub queue_bytes: u64,
    /// NULL: the host is not to be woken.
    pub wakeup: lwm2m_gateway_wakeup_callback,
    /// NULL: only the configured sources know keys.
    pub psk_lookup: lwm2m_gateway_psk_lookup_callback,
    /// NULL: every device that can prove its identity may register.
    pub authorize: lwm2m_gateway_authorize_callback,
    /// NULL: the host does not watch devices.
    pub device_event: lwm2m_gateway_device_event_callback,
    /// Directory of the store, in which registrations, observations and commands outlive the process;
    /// `store.path` of the configuration has no effect then. UTF-8, ends with NUL; read when the
    /// gateway is made. NULL or empty: as the configuration says, which is no store by default.
    pub store_path: *const c_char,
    /// NULL: the host does not wait for the store.
    pub durable: lwm2m_gateway_durable_callback,
}
