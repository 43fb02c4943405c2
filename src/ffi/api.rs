//! The functions of the C API. Their comments are the documentation of the header.

#![allow(unsafe_code)] // exported functions, which read and write through the host's pointers
#![allow(clippy::missing_safety_doc)] // the comments are for C: what must hold is said in prose

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

use super::boundary::{self, Failure, boundary, boundary_value, c_text};
// With its name written out, the compiler would look for a crate of that name too, and link this
// library into its own tests.
use super::handle::*;
use super::options::{self, Given, GivenReply};
use super::types::{
    LWM2M_GATEWAY_ABI_VERSION, lwm2m_gateway_decision, lwm2m_gateway_message,
    lwm2m_gateway_options, lwm2m_gateway_status,
};
use crate::bridge::topic::{MAX_TOPIC, check_literal};
use crate::credentials::{Key, MAX_KEY};
use crate::host::Decision;

/// `LWM2M_GATEWAY_ABI_VERSION` of the loaded library. Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn lwm2m_gateway_abi_version() -> u32 {
    LWM2M_GATEWAY_ABI_VERSION
}

/// Version of the library as text, such as `0.1.0`. The library owns it; it stays valid. Any
/// thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn lwm2m_gateway_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Description of the last error on this thread; empty if there was none. UTF-8, NUL-terminated.
/// The library owns the text; it is valid until the next function that fails on the same thread, or
/// until the thread ends. Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn lwm2m_gateway_last_error() -> *const c_char {
    boundary_value(c"".as_ptr(), boundary::last_error)
}

/// Creates a gateway, which does nothing yet.
///
/// `options` is copied. `config` is the text of a configuration, in TOML, or in JSON if it begins
/// with `{`; NULL or an empty text means defaults. It is read and checked here, and not kept.
///
/// On success `*gateway` is the new gateway, to be freed with `lwm2m_gateway_free()`; otherwise it
/// is NULL. Any thread. One process may have several gateways; they share nothing.
///
/// Errors: `ARGUMENT`, `CONFIG` (all mistakes, one per line), `SYSTEM` (no descriptor available).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_create(
    options: *const lwm2m_gateway_options,
    config: *const c_char,
    gateway: *mut *mut lwm2m_gateway,
) -> lwm2m_gateway_status {
    boundary(|| {
        // SAFETY: NULL or a place for a pointer, as the header asks for.
        let result = unsafe { out("gateway", gateway, ptr::null_mut()) }?;
        // SAFETY: NULL or a struct that tells its size, as the header asks for.
        let given = unsafe { options::read(options) }?;
        // SAFETY: NULL or text, as the header asks for.
        let config = unsafe { boundary::text("config", config) }?;
        // SAFETY: NULL or text, as the header asks for.
        let store = unsafe { boundary::text("store_path", given.store_path) }?;
        let store = store.filter(|path| !path.is_empty());
        let made = lwm2m_gateway::new(given.try_into()?, config, store)?;
        *result = Box::into_raw(Box::new(made));
        Ok(())
    })
}

/// Binds the listeners, reads the object definitions and starts the threads. If it fails, the
/// gateway is unchanged and may be started again.
///
/// A stopped gateway cannot be started again: create a new one. Any thread; not inside a callback,
/// and not while you hold a lock that a callback waits for.
///
/// Errors: `ARGUMENT`, `STATE`, `BUSY`, `SYSTEM` (an address is in use, a directory cannot be
/// read), `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_start(gateway: *mut lwm2m_gateway) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway, as the header asks for.
    unsafe { lwm2m_gateway::enter(gateway, lwm2m_gateway::start) }
}

/// Accepts a message from the host's broker. Messages that are not commands are ignored, so a host
/// may deliver everything. A command that cannot be carried out gets an answer that says why. Never
/// blocks.
///
/// `message` and what it points to is read before this returns, and not kept. Any thread, several
/// at the same time, also inside callbacks. In threaded mode an answer may be published before this
/// returns.
///
/// Errors: `ARGUMENT` (also for an impossible topic: empty, with `+`, `#` or NUL, or longer than
/// 65,535 bytes), `STATE` (not started, or stopped: the message is not accepted), `PANIC`. After
/// `OK` a command is answered in any case. A host that acknowledges messages to a broker does so
/// after `OK`; a message that was not accepted it leaves for the next gateway.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_deliver(
    gateway: *mut lwm2m_gateway,
    message: *const lwm2m_gateway_message,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or a message whose pointers reach as far as its lengths
    // say, as the header asks for.
    unsafe { lwm2m_gateway::enter(gateway, |gateway| gateway.deliver(&message_of(message)?)) }
}

/// Whether messages on a topic are commands, for hosts that do not want to deliver all messages.
///
/// `topic` has `topic_length` bytes of UTF-8 and need not be NUL-terminated. Any thread, several at
/// the same time, also inside callbacks. Returns 1 or 0; also 0 on an error, for example before the
/// start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_is_command(
    gateway: *const lwm2m_gateway,
    topic: *const c_char,
    topic_length: usize,
) -> c_int {
    let mut is_command = false;
    // SAFETY: NULL or a live gateway; NULL or as many bytes, as the header asks for.
    let _ = unsafe {
        lwm2m_gateway::enter(gateway, |gateway| {
            is_command = gateway.is_command(topic_of(topic, topic_length)?)?;
            Ok(())
        })
    };
    is_command.into()
}

/// Calls waiting callbacks on this thread: at most `max`, or with 0 those that wait at the time of
/// the call. Polled mode only. After `lwm2m_gateway_stop()` it calls the remaining ones.
///
/// `waiting`, which may be NULL, is set to the number of callbacks that still wait; on an error it
/// is unchanged. If it is not 0, the descriptor stays readable and `wakeup` is called once more.
///
/// Any thread, one at a time; not inside a callback.
///
/// Errors: `ARGUMENT`, `STATE` (threaded mode), `BUSY`, `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_poll(
    gateway: *mut lwm2m_gateway,
    max: usize,
    waiting: *mut usize,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or a place for a number, as the header asks for.
    unsafe {
        lwm2m_gateway::enter(gateway, |gateway| {
            let left = gateway.poll(max)?;
            if let Some(waiting) = waiting.as_mut() {
                *waiting = left;
            }
            Ok(())
        })
    }
}

/// A descriptor that is readable while callbacks wait for `lwm2m_gateway_poll()`, for `poll(2)`,
/// `epoll(7)` and event loops. Use it level-triggered, or edge-triggered if you poll after each
/// edge until nothing waits. The gateway owns it: do not read, write or close it. Valid until
/// `lwm2m_gateway_free()`.
///
/// Any thread, any time. Returns -1 if the gateway is not in polled mode.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_fd(gateway: *const lwm2m_gateway) -> c_int {
    let mut fd = -1;
    // SAFETY: NULL or a live gateway, as the header asks for.
    let _ = unsafe {
        lwm2m_gateway::enter(gateway, |gateway| {
            fd = gateway.fd()?;
            Ok(())
        })
    };
    fd
}

/// Applies another configuration, in the same formats as `lwm2m_gateway_create()`, and reads the
/// files that it names: object definitions, keys. With NULL it reads the files of the current
/// configuration again. Registered devices stay; listeners are opened and closed as configured. The
/// number of threads does not change; if the new configuration has another number, the log says so.
///
/// If it fails, the whole old configuration stays in effect. Any thread; not inside a callback, and
/// not while you hold a lock that a callback waits for.
///
/// Errors: `ARGUMENT`, `CONFIG` (all mistakes, one per line), `STATE` (stopped), `BUSY`, `SYSTEM`,
/// `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_reload(
    gateway: *mut lwm2m_gateway,
    config: *const c_char,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or text, as the header asks for.
    unsafe {
        lwm2m_gateway::enter(gateway, |gateway| {
            gateway.reload(boundary::text("config", config)?)
        })
    }
}

/// All counters as a JSON object, such as `{"commands":12,"registered":3,…}`. Also after the stop.
///
/// On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
/// thread, also inside callbacks.
///
/// Errors: `ARGUMENT`, `STATE` (not started yet), `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_statistics(
    gateway: *const lwm2m_gateway,
    json: *mut *mut c_char,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or a place for a pointer, as the header asks for.
    unsafe { text_out(gateway, json, lwm2m_gateway::statistics) }
}

/// Name and bound address of each listener as a JSON array, such as
/// `[{"name":"udp:default","address":"0.0.0.0:5683"}]`. If the configuration says port 0, this is
/// how you find the port. Also after the stop.
///
/// On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
/// thread, also inside callbacks.
///
/// Errors: `ARGUMENT`, `STATE` (not started yet), `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_listeners(
    gateway: *const lwm2m_gateway,
    json: *mut *mut c_char,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or a place for a pointer, as the header asks for.
    unsafe { text_out(gateway, json, lwm2m_gateway::listeners) }
}

/// All registered devices as a JSON array of objects with `endpoint`, `peer`, `listener`,
/// `identity` (DTLS only), `mountpoint`, `lifetime` (seconds), `version`, `queue_mode`,
/// `registered_at` (milliseconds since 1970), `idle_ms`, `alternate_path`, `objects`, `query`,
/// `observations` and `queued` (number of waiting commands). In no particular order. Asks the
/// gateway's threads and waits for at most 5 seconds; the devices of a thread that is blocked for
/// longer by a callback are missing.
///
/// On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
/// thread; not inside a callback.
///
/// Errors: `ARGUMENT`, `STATE`, `BUSY`, `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_devices(
    gateway: *const lwm2m_gateway,
    json: *mut *mut c_char,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or a place for a pointer, as the header asks for.
    unsafe { text_out(gateway, json, lwm2m_gateway::devices) }
}

/// One registered device as a JSON object, as in `lwm2m_gateway_devices()`, with the same time
/// limit. `endpoint` is its endpoint name.
///
/// On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
/// thread; not inside a callback.
///
/// Errors: `ARGUMENT`, `STATE`, `BUSY`, `NOT_FOUND`, `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_device(
    gateway: *const lwm2m_gateway,
    endpoint: *const c_char,
    json: *mut *mut c_char,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway, NULL or text, NULL or a place for a pointer, as the header
    // asks for.
    unsafe {
        text_out(gateway, json, |gateway| {
            gateway.device(endpoint_of(endpoint)?)
        })
    }
}

/// Ends the registration of a device without telling it: its next Update is answered 4.04, after
/// which it registers again. `endpoint` is its endpoint name. Any thread, also inside callbacks.
///
/// Errors: `ARGUMENT`, `STATE`, `NOT_FOUND`, `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_kick(
    gateway: *mut lwm2m_gateway,
    endpoint: *const c_char,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or text, as the header asks for.
    unsafe { lwm2m_gateway::enter(gateway, |gateway| gateway.kick(endpoint_of(endpoint)?)) }
}

/// Answers an `authorize` callback. `id` is the one from its registration, `decision` an
/// `lwm2m_gateway_decision`. `detail` may be NULL. With `ALLOW` it is the mountpoint of this device
/// instead of the configured one: at most 1,024 bytes, without placeholders, `+` and `#`, such as
/// `site7/lwm2m/dev1/`. With `DENY` it is a reason; the device gets its first 512 bytes as text.
/// With `UNAVAILABLE` it is ignored.
///
/// Commands for a device with its own mountpoint are published below that mountpoint. With shared
/// subscriptions, the host must deliver them without being asked, because `subscribe` names only
/// the configured filters.
///
/// A device that has waited for 15 seconds is answered 5.03; later answers have no effect. Any
/// thread, also inside callbacks.
///
/// Errors: `ARGUMENT`, `NOT_FOUND` (unknown `id`, already answered, or too old), `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_answer_authorization(
    gateway: *mut lwm2m_gateway,
    id: u64,
    decision: u32,
    detail: *const c_char,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or text, as the header asks for.
    unsafe {
        lwm2m_gateway::enter(gateway, |gateway| {
            let detail = boundary::text("detail", detail)?;
            gateway.answer_authorization(id, decision_of(decision, detail)?)
        })
    }
}

/// Answers a `psk_lookup` callback. `id` is the one from its request, `key` has `key_length` bytes,
/// 1 to 256. NULL for `key` means that the identity is unknown. The key is copied, and the copy is
/// wiped when it is no longer needed.
///
/// An answer that arrives after the device has given up has no effect. Any thread, also inside
/// callbacks.
///
/// Errors: `ARGUMENT`, `NOT_FOUND` (unknown `id`, already answered, or too old), `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_answer_psk(
    gateway: *mut lwm2m_gateway,
    id: u64,
    key: *const u8,
    key_length: usize,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or as many bytes, as the header asks for.
    unsafe {
        lwm2m_gateway::enter(gateway, |gateway| {
            if key.is_null() {
                return gateway.answer_psk(id, None);
            }
            if key_length == 0 || key_length > MAX_KEY {
                return Err(Failure::argument(format_args!(
                    "key_length is {key_length}, expected 1 to {MAX_KEY}"
                )));
            }
            let key = Key::new(bytes_of("key", key, key_length)?.to_vec());
            gateway.answer_psk(id, Some(key))
        })
    }
}

/// Frees a text that a function of this library returned. NULL is allowed and does nothing. Any
/// thread, any time, also after the gateway was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: made by `CString::into_raw` in `text_out`, and given back once, as the header
        // asks for.
        boundary_value((), || drop(unsafe { CString::from_raw(text) }));
    }
}

/// Answers waiting commands, closes the listeners and ends the threads. Waits for at most
/// `deadline_ms` milliseconds; the rest continues in the background, and you can wait for it by
/// calling this again. 0 does not wait. A start or reload that is running in another thread
/// completes first.
///
/// From this call on, no command is accepted; commands accepted before are answered by their
/// devices or with 5.03 `gateway_stopping`. After `OK` the gateway has no thread left. Polled mode:
/// the last callbacks, including answers, still wait for `lwm2m_gateway_poll()`. Functions that
/// need a running gateway return `STATE` from now on, also after `TIMEOUT`. Stopping a gateway that
/// is stopped or was never started is not an error.
///
/// Any thread; not inside a callback, and not while you hold a lock that a callback waits for.
///
/// Errors: `ARGUMENT`, `BUSY`, `TIMEOUT`, `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_stop(
    gateway: *mut lwm2m_gateway,
    deadline_ms: u32,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway, as the header asks for.
    let gateway = unsafe { gateway.as_ref() };
    boundary(|| {
        let gateway = gateway.ok_or_else(|| Failure::argument("gateway is NULL"))?;
        gateway.stop(Duration::from_millis(deadline_ms.into()))
    })
}

/// Frees the gateway, and stops it first if necessary. Waits for callbacks that are running. After
/// it has returned `OK`, no callback is called; callbacks that still wait for
/// `lwm2m_gateway_poll()` are dropped.
///
/// The pointer is then no longer valid, and no other thread may be using it: this is the last call
/// for a gateway. NULL is allowed and does nothing. Any thread; not while you hold a lock that a
/// callback waits for. Inside a callback of this gateway it only returns `BUSY`.
///
/// A library loaded with `dlopen()` may be unloaded if `lwm2m_gateway_stop()` has returned `OK` for
/// each of its gateways; otherwise the code of running threads would be gone.
///
/// Errors: `BUSY`, `PANIC` (freed nevertheless).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_free(gateway: *mut lwm2m_gateway) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway, as the header asks for.
    let handle = unsafe { gateway.as_ref() };
    let status = boundary(|| handle.map_or(Ok(()), lwm2m_gateway::end));
    if handle.is_none() || status == lwm2m_gateway_status::Busy {
        return status;
    }
    let freed = boundary(|| {
        // SAFETY: made by `Box::into_raw` in `lwm2m_gateway_create`, and given back once, as the
        // header asks for. Threads that have not ended have no reference to it.
        drop(unsafe { Box::from_raw(gateway) });
        Ok(())
    });
    if status == lwm2m_gateway_status::Ok {
        freed
    } else {
        status
    }
}

fn decision_of(decision: u32, detail: Option<&str>) -> Result<Decision, Failure> {
    const ALLOW: u32 = lwm2m_gateway_decision::Allow as u32;
    const DENY: u32 = lwm2m_gateway_decision::Deny as u32;
    const UNAVAILABLE: u32 = lwm2m_gateway_decision::Unavailable as u32;
    match decision {
        ALLOW => match detail {
            None => Ok(Decision::Allow { mountpoint: None }),
            Some(mountpoint) => Decision::allow_below(mountpoint)
                .map_err(|error| Failure::argument(format_args!("detail {error}"))),
        },
        DENY => {
            let reason = detail.unwrap_or_default().to_owned();
            Ok(Decision::Deny { reason })
        }
        UNAVAILABLE => Ok(Decision::Unavailable),
        other => {
            let text = format_args!("decision: {other} is not one of LWM2M_GATEWAY_DECISION_*");
            Err(Failure::argument(text))
        }
    }
}

/// # Safety
/// `endpoint` is NULL, or text that ends with NUL and stays as it is during `'a`.
unsafe fn endpoint_of<'a>(endpoint: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: what the caller promises.
    let endpoint = unsafe { boundary::text("endpoint", endpoint) }?;
    endpoint.ok_or_else(|| Failure::argument("endpoint is NULL"))
}

/// A place for a result of the host, set to `empty`.
///
/// # Safety
/// `place` is NULL or can be written.
unsafe fn out<'a, T>(what: &str, place: *mut T, empty: T) -> Result<&'a mut T, Failure> {
    if place.is_null() {
        return Err(Failure::argument(format_args!("{what} is NULL")));
    }
    // SAFETY: not NULL, and can be written; whatever was there needs no drop.
    unsafe {
        place.write(empty);
        Ok(&mut *place)
    }
}

/// Gives a text to the host.
///
/// # Safety
/// As [`lwm2m_gateway::enter`] and [`out`].
unsafe fn text_out(
    gateway: *const lwm2m_gateway,
    place: *mut *mut c_char,
    make: impl FnOnce(&lwm2m_gateway) -> Result<String, Failure>,
) -> lwm2m_gateway_status {
    // SAFETY: what the caller promises.
    let place = unsafe { out("json", place, ptr::null_mut()) };
    // SAFETY: what the caller promises.
    unsafe {
        lwm2m_gateway::enter(gateway, |gateway| {
            let place = place?;
            *place = c_text(make(gateway)?).into_raw();
            Ok(())
        })
    }
}

/// # Safety
/// `message` is NULL or as [`options::read`] wants it, and its pointers are NULL or reach as far
/// as its lengths say, to what stays as it is during `'a`.
unsafe fn message_of<'a>(message: *const lwm2m_gateway_message) -> Result<Given<'a>, Failure> {
    // SAFETY: what the caller promises.
    let message = unsafe { options::read(message) }?;
    // SAFETY: what the caller promises.
    let topic = unsafe { topic_of(message.topic, message.topic_length) }?;
    // SAFETY: what the caller promises.
    let payload = unsafe { bytes_of("payload", message.payload, message.payload_length) }?;
    if message.qos > 2 {
        let text = format_args!("qos is {}, expected 0, 1 or 2", message.qos);
        return Err(Failure::argument(text));
    }
    for (name, flag) in [
        ("retain", message.retain),
        ("has_message_expiry", message.has_message_expiry),
    ] {
        if flag > 1 {
            return Err(Failure::argument(format_args!(
                "{name} is {flag}, expected 0 or 1"
            )));
        }
    }
    let expiry = (message.has_message_expiry == 1).then_some(message.message_expiry);
    // SAFETY: what the caller promises.
    let reply = unsafe { reply_of(&message) }?;
    Ok(Given {
        topic,
        payload,
        expiry,
        reply,
        receipt: (message.receipt != 0).then_some(message.receipt),
    })
}

/// Response topic and correlation data. Whether answers may go there is the gateway's to say.
///
/// # Safety
/// As [`message_of`].
unsafe fn reply_of<'a>(message: &lwm2m_gateway_message) -> Result<Option<GivenReply<'a>>, Failure> {
    let (topic, length) = (message.response_topic, message.response_topic_length);
    // SAFETY: what the caller promises.
    let topic = unsafe { bytes_of("response_topic", topic.cast(), length) }?;
    let (data, length) = (message.correlation_data, message.correlation_data_length);
    // SAFETY: what the caller promises.
    let bytes = unsafe { bytes_of("correlation_data", data, length) }?;
    if topic.is_empty() {
        return Ok(None);
    }
    let topic = std::str::from_utf8(topic);
    let topic = topic.map_err(|_| Failure::argument("response_topic is not valid UTF-8"))?;
    Ok(Some(GivenReply {
        topic,
        correlation: (!data.is_null()).then_some(bytes),
    }))
}

/// # Safety
/// `topic` is NULL or has `length` bytes.
unsafe fn topic_of<'a>(topic: *const c_char, length: usize) -> Result<&'a str, Failure> {
    // SAFETY: what the caller promises.
    let bytes = unsafe { bytes_of("topic", topic.cast(), length) }?;
    if bytes.is_empty() {
        return Err(Failure::argument("topic is empty"));
    }
    let topic = std::str::from_utf8(bytes);
    let topic = topic.map_err(|_| Failure::argument("topic is not valid UTF-8"))?;
    check_literal(topic, MAX_TOPIC)
        .map_err(|error| Failure::argument(format_args!("topic {error}")))?;
    Ok(topic)
}

/// # Safety
/// `bytes` is NULL or has `length` bytes that stay as they are during `'a`.
unsafe fn bytes_of<'a>(what: &str, bytes: *const u8, length: usize) -> Result<&'a [u8], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() {
        return Err(Failure::argument(format_args!("{what} is NULL")));
    }
    if isize::try_from(length).is_err() {
        return Err(Failure::argument(format_args!(
            "length of {what} is {length}"
        )));
    }
    // SAFETY: not NULL, not longer than any object, and as long as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(bytes, length) })
}
