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

/// `LWM2M_GATEWAY_ABI_VERSION` of the library that was loaded. Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn lwm2m_gateway_abi_version() -> u32 {
    LWM2M_GATEWAY_ABI_VERSION
}

/// Version of the library as text, as in `0.1.0`. The library owns it, for good. Any thread, any
/// time.
#[unsafe(no_mangle)]
pub extern "C" fn lwm2m_gateway_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// What went wrong at the last function on this thread that failed; empty when none has. UTF-8,
/// ends with NUL. The library owns the text; it is valid until the next function that fails on the
/// same thread, or the end of the thread. Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn lwm2m_gateway_last_error() -> *const c_char {
    boundary_value(c"".as_ptr(), boundary::last_error)
}

/// Makes a gateway, which does nothing yet.
///
/// `options` is copied. `config` is the text of a configuration in TOML, or in JSON when it begins
/// with `{`; NULL or an empty text means defaults. It is read and checked here, not kept.
///
/// On success `*gateway` is the new gateway, for `lwm2m_gateway_free()`; otherwise it is NULL.
/// Any thread; several gateways may live in one process and share nothing.
///
/// Errors: `ARGUMENT`, `CONFIG` (all mistakes, one a line), `SYSTEM` (no descriptor left).
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

/// Binds the listeners, reads the object definitions and starts the threads. When it fails the
/// gateway is as before and may be started again.
///
/// A gateway that was stopped is not started again: make a new one. Any thread; not inside of a
/// callback, and not with a lock held that a callback waits for.
///
/// Errors: `ARGUMENT`, `STATE`, `BUSY`, `SYSTEM` (an address that is taken, a directory that cannot
/// be read), `PANIC`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_start(gateway: *mut lwm2m_gateway) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway, as the header asks for.
    unsafe { lwm2m_gateway::enter(gateway, lwm2m_gateway::start) }
}

/// Takes a message of the host's broker. What is no command is ignored, so a host may deliver
/// everything; a command that cannot be carried out is answered by a message. Never waits.
///
/// `message` and what it points to is read before this returns, and not kept. Any thread, several
/// at once, also inside of callbacks. In threaded mode an answer may be published before this
/// returns.
///
/// Errors: `ARGUMENT` (also a topic that no message can have: empty, with `+`, `#` or NUL, or
/// longer than 65,535 bytes), `STATE` (not started, or stopped: the message is not taken), `PANIC`.
/// After `OK` a command is answered, whatever comes: a host that acknowledges messages to a broker
/// does so then, and leaves one that was not taken to the next gateway.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_deliver(
    gateway: *mut lwm2m_gateway,
    message: *const lwm2m_gateway_message,
) -> lwm2m_gateway_status {
    // SAFETY: NULL or a live gateway; NULL or a message whose pointers reach as far as its lengths
    // say, as the header asks for.
    unsafe { lwm2m_gateway::enter(gateway, |gateway| gateway.deliver(&message_of(message)?)) }
}

/// Whether messages of a topic are commands, for hosts that would rather not deliver all others.
///
/// `topic` has `topic_length` bytes of UTF-8 and need not end with NUL. Any thread, several at
/// once, also inside of callbacks. Returns 1 or 0; 0 as well when it fails, as before the start.
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

/// Makes callbacks that wait, on this thread: `max` at most, or, with 0, those that wait at the
/// time of the call. Polled mode only. After `lwm2m_gateway_stop()` it makes those that are left.
///
/// `waiting`, which may be NULL, is set to how many still wait; in case of an error it is left as
/// it is. When that is not 0 the descriptor stays readable and `wakeup` is called once more.
///
/// Any thread, one at a time; not inside of a callback.
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
/// `epoll(7)` and event loops: level-triggered, or edge-triggered when each edge is answered by
/// polling until nothing waits. The gateway owns it: do not read, write or close it. Valid until
/// `lwm2m_gateway_free()`.
///
/// Any thread, any time. Returns -1 when the gateway is not in polled mode.
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

/// Takes another configuration, in the same forms as `lwm2m_gateway_create()`, and reads the files
/// that it names: object definitions, keys. NULL reads the files of the configuration in force
/// again. Registered devices stay; listeners are opened and closed as the configuration says. The
/// number of threads stays as it was at the start; a change of it is reported in the log.
///
/// When it fails the old configuration stays in force as a whole. Any thread; not inside of a
/// callback, and not with a lock held that a callback waits for.
///
/// Errors: `ARGUMENT`, `CONFIG` (all mistakes, one a line), `STATE` (stopped), `BUSY`, `SYSTEM`,
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

/// All counters as a JSON object, as in `{"commands":12,"registered":3,…}`. Also after the stop.
///
/// On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread,
/// also inside of callbacks.
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

/// Name and bound address of each listener as a JSON array, as in
/// `[{"name":"udp:default","address":"0.0.0.0:5683"}]`. Tells which port it was when the
/// configuration said 0. Also after the stop.
///
/// On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread,
/// also inside of callbacks.
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
/// `observations` and `queued` (commands that wait). In no particular order. Asks the gateway's
/// threads, for 5 seconds at most: devices of a thread that is busy for longer, since a callback
/// blocks, are missing.
///
/// On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread; not
/// inside of a callback.
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

/// One registered device as a JSON object, as in `lwm2m_gateway_devices()`, with the same limit.
/// `endpoint` is its endpoint name.
///
/// On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread; not
/// inside of a callback.
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

/// Ends the registration of a device. It is not told: its next Update is answered 4.04, which
/// makes it register again. `endpoint` is its endpoint name. Any thread, also inside of callbacks.
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

/// Answers an `authorize` callback: `id` is that of its registration, `decision` an
/// `lwm2m_gateway_decision`. `detail` may be NULL; otherwise it is, for `ALLOW`, the mountpoint of
/// this device instead of the configured one, without placeholders, as in `site7/lwm2m/dev1/`, of
/// 1,024 bytes at most and without `+` and `#`; for `DENY` a reason, of which the device gets the
/// first 512 bytes as text. `UNAVAILABLE` takes no notice of it.
///
/// Commands for a device with a mountpoint of its own come by that mountpoint. A host with shared
/// subscriptions has to deliver them unasked: `subscribe` names the filters of the configuration
/// only.
///
/// A device that has waited for 15 seconds is answered 5.03; an answer that comes later changes
/// nothing. Any thread, also inside of callbacks.
///
/// Errors: `ARGUMENT`, `NOT_FOUND` (never asked, answered already, or too old), `PANIC`.
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

/// Answers a `psk_lookup` callback: `id` is that of its request, `key` has `key_length` bytes, 1 to
/// 256. NULL for `key` means that the identity is unknown. The key is copied, and the copy
/// wiped when it is not needed any more.
///
/// An answer that comes after the device has given up changes nothing. Any thread, also inside of
/// callbacks.
///
/// Errors: `ARGUMENT`, `NOT_FOUND` (never asked, answered already, or too old), `PANIC`.
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
                    "key_length is {key_length}, not 1 to {MAX_KEY}"
                )));
            }
            let key = Key::new(bytes_of("key", key, key_length)?.to_vec());
            gateway.answer_psk(id, Some(key))
        })
    }
}

/// Gives a text back that a function of this library returned for it. NULL is nothing. Any thread,
/// any time, also after the gateway was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lwm2m_gateway_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: made by `CString::into_raw` in `text_out`, and given back once, as the header
        // asks for.
        boundary_value((), || drop(unsafe { CString::from_raw(text) }));
    }
}

/// Answers what waits, closes the listeners and ends the threads. Waits `deadline_ms` milliseconds
/// at most; what is not done by then goes on in the background and may be waited for by calling
/// this again. 0 only asks. A start or reload that another thread is inside of comes to its end.
///
/// From the call on no command is taken; those that were are answered, by their devices or with 5.03
/// `gateway_stopping`. After `OK` no thread of the gateway is left. Polled mode: the last callbacks,
/// answers among them, still wait for `lwm2m_gateway_poll()`. Functions that need a running gateway return `STATE` from now on, also
/// after `TIMEOUT`. To stop what is stopped, or was never started, is no error.
///
/// Any thread; not inside of a callback, and not with a lock held that a callback waits for.
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

/// Gives the gateway back, after having stopped it when that was not done. Waits for callbacks
/// that are running; none is made after this has returned `OK`, and callbacks that still wait for
/// `lwm2m_gateway_poll()` are dropped.
///
/// The pointer is not valid any more then, and must not be in use by another thread: this is the
/// last function to be called for it. NULL is nothing. Any thread, not with a lock held that a
/// callback waits for; inside of a callback of this gateway it does nothing but return `BUSY`.
///
/// A library that was loaded by `dlopen()` may be unloaded when `lwm2m_gateway_stop()` had
/// returned `OK` for each of its gateways; threads that have not ended would run without code.
///
/// Errors: `BUSY`, `PANIC` (freed all the same).
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
            let text = format_args!("decision: {other} is none of LWM2M_GATEWAY_DECISION_*");
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
        let text = format_args!("qos is {}, not 0, 1 or 2", message.qos);
        return Err(Failure::argument(text));
    }
    for (name, flag) in [
        ("retain", message.retain),
        ("has_message_expiry", message.has_message_expiry),
    ] {
        if flag > 1 {
            return Err(Failure::argument(format_args!(
                "{name} is {flag}, not 0 or 1"
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
