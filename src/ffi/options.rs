//! Structs of the host, read by their size.

#![allow(unsafe_code)] // reads through the host's pointers

use std::ffi::c_void;
use std::mem::{self, MaybeUninit};
use std::ptr;

use super::boundary::Failure;
use super::types::{
    lwm2m_gateway_authorize_callback, lwm2m_gateway_device_event_callback,
    lwm2m_gateway_durable_callback, lwm2m_gateway_log_callback, lwm2m_gateway_message,
    lwm2m_gateway_mode as Mode, lwm2m_gateway_options, lwm2m_gateway_psk_lookup_callback,
    lwm2m_gateway_publish_callback, lwm2m_gateway_subscribe_callback, lwm2m_gateway_subscriptions,
    lwm2m_gateway_unsubscribe_callback, lwm2m_gateway_wakeup_callback,
};
use crate::host::Subscriptions;

/// A struct that can be much larger than this is none.
const MAX_SIZE: usize = 4096;

/// A struct of the host whose first field is its size.
///
/// # Safety
/// `#[repr(C)]`, begins with a `usize`, every bit pattern that C can write is a value, and so are
/// zeros.
pub(super) unsafe trait Versioned: Copy {
    const NAME: &'static str;
    /// Bytes that a host gives at least.
    const LEAST: usize;
}

// SAFETY: integers, pointers and optional function pointers only.
unsafe impl Versioned for lwm2m_gateway_options {
    const NAME: &'static str = "lwm2m_gateway_options";
    const LEAST: usize = mem::offset_of!(Self, subscribe);
}

// SAFETY: integers and pointers only.
unsafe impl Versioned for lwm2m_gateway_message {
    const NAME: &'static str = "lwm2m_gateway_message";
    const LEAST: usize = mem::offset_of!(Self, qos);
}

/// Copies a struct of the host. What an older header does not have is zero; what only a newer one
/// has must be.
///
/// # Safety
/// `from` is NULL, or points to a `usize` that tells how many bytes can be read from there.
pub(super) unsafe fn read<T: Versioned>(from: *const T) -> Result<T, Failure> {
    if from.is_null() {
        return Err(Failure::argument(format_args!("{} is NULL", T::NAME)));
    }
    // SAFETY: the size comes first and can be read.
    let size = unsafe { ptr::read_unaligned(from.cast::<usize>()) };
    if size < T::LEAST || size > MAX_SIZE || !size.is_multiple_of(4) {
        return Err(Failure::argument(format_args!(
            "size of {} is {size}, but this library accepts {} to {}",
            T::NAME,
            T::LEAST,
            size_of::<T>()
        )));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: `size` bytes can be read.
    let rest = unsafe { std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known) };
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Failure::argument(format_args!(
            "{} has fields set that this library does not know",
            T::NAME
        )));
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes can be read, and fit. The rest stays zero, which is a value.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), known);
        Ok(copy.assume_init())
    }
}

/// A message of the host, checked.
pub(super) struct Given<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) expiry: Option<u32>,
    pub(super) reply: Option<GivenReply<'a>>,
    pub(super) receipt: Option<u64>,
}

/// Response topic and correlation data.
pub(super) struct GivenReply<'a> {
    pub(super) topic: &'a str,
    pub(super) correlation: Option<&'a [u8]>,
}

/// The options, checked.
pub(super) struct Options {
    pub(super) mode: Mode,
    pub(super) subscriptions: Subscriptions,
    pub(super) user_data: *mut c_void,
    pub(super) publish: lwm2m_gateway_publish_callback,
    pub(super) subscribe: lwm2m_gateway_subscribe_callback,
    pub(super) unsubscribe: lwm2m_gateway_unsubscribe_callback,
    pub(super) log: lwm2m_gateway_log_callback,
    pub(super) log_level: u32,
    pub(super) queue_limit: usize,
    pub(super) queue_bytes: usize,
    pub(super) wakeup: lwm2m_gateway_wakeup_callback,
    pub(super) psk_lookup: lwm2m_gateway_psk_lookup_callback,
    pub(super) authorize: lwm2m_gateway_authorize_callback,
    pub(super) device_event: lwm2m_gateway_device_event_callback,
    pub(super) durable: lwm2m_gateway_durable_callback,
}

// SAFETY: the pointer is the host's own; it is never followed here, only handed back. The header
// says which threads that happens on.
unsafe impl Send for Options {}
// SAFETY: as above.
unsafe impl Sync for Options {}

impl TryFrom<lwm2m_gateway_options> for Options {
    type Error = Failure;

    fn try_from(given: lwm2m_gateway_options) -> Result<Self, Failure> {
        const PER_DEVICE: u32 = lwm2m_gateway_subscriptions::PerDevice as u32;
        const SHARED: u32 = lwm2m_gateway_subscriptions::Shared as u32;
        const THREADED: u32 = Mode::Threaded as u32;
        const POLLED: u32 = Mode::Polled as u32;
        if given.publish.is_none() {
            return Err(Failure::argument("publish is NULL"));
        }
        Ok(Self {
            mode: match given.mode {
                THREADED => Mode::Threaded,
                POLLED => Mode::Polled,
                other => {
                    let text = format_args!("mode: {other} is not one of LWM2M_GATEWAY_MODE_*");
                    return Err(Failure::argument(text));
                }
            },
            subscriptions: match given.subscriptions {
                SHARED => Subscriptions::Shared,
                PER_DEVICE => Subscriptions::PerDevice,
                other => {
                    return Err(Failure::argument(format_args!(
                        "subscriptions: {other} is not one of LWM2M_GATEWAY_SUBSCRIPTIONS_*"
                    )));
                }
            },
            user_data: given.user_data,
            publish: given.publish,
            subscribe: given.subscribe,
            unsubscribe: given.unsubscribe,
            log: given.log,
            log_level: given.log_level,
            queue_limit: match given.queue_limit {
                0 => 65_536,
                limit => usize::try_from(limit).unwrap_or(usize::MAX),
            },
            queue_bytes: match given.queue_bytes {
                0 => 64 << 20,
                bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
            },
            wakeup: given.wakeup,
            psk_lookup: given.psk_lookup,
            authorize: given.authorize,
            device_event: given.device_event,
            durable: given.durable,
        })
    }
}
