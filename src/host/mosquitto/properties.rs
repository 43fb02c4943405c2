//! Properties of messages (MQTT 5 section 2.2.2), through the broker's functions. A broker that lacks
//! one of them has no response topics here.

#![allow(unsafe_code)] // calls into the broker

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::ptr;

use super::abi::{status, symbol};
use crate::mqtt::ReplyTo;

/// `MQTT_PROP_RESPONSE_TOPIC`
const RESPONSE_TOPIC: c_int = 8;

/// `MQTT_PROP_CORRELATION_DATA`
const CORRELATION_DATA: c_int = 9;

type ReadString =
    unsafe extern "C" fn(*const c_void, c_int, *mut *mut c_char, bool) -> *const c_void;
type ReadBinary =
    unsafe extern "C" fn(*const c_void, c_int, *mut *mut c_void, *mut u16, bool) -> *const c_void;
type AddBinary = unsafe extern "C" fn(*mut *mut c_void, c_int, *const c_void, u16) -> c_int;
type FreeAll = unsafe extern "C" fn(*mut *mut c_void);
type Free = unsafe extern "C" fn(*mut c_void);

/// See the module. As the functions of [`Broker`](super::abi::Broker), for its main thread only.
pub(super) struct Properties {
    read_string: ReadString,
    read_binary: ReadBinary,
    add_binary: AddBinary,
    free_all: FreeAll,
    /// What gives back what was read.
    free: Free,
}

impl Properties {
    /// Looks the functions up.
    pub(super) fn resolve() -> Option<Self> {
        // Mosquitto 2.1 counts what it hands out, earlier ones allocate it with `calloc`. Only 2.1
        // has this function.
        let counts = symbol(c"mosquitto_plugin_set_info").is_ok();
        // SAFETY: each function is cast to the type the broker's headers declare it with.
        unsafe {
            let free = match counts {
                true => mem::transmute::<*mut c_void, Free>(symbol(c"mosquitto_free").ok()?),
                false => libc::free,
            };
            Some(Self {
                read_string: mem::transmute::<*mut c_void, ReadString>(
                    symbol(c"mosquitto_property_read_string").ok()?,
                ),
                read_binary: mem::transmute::<*mut c_void, ReadBinary>(
                    symbol(c"mosquitto_property_read_binary").ok()?,
                ),
                add_binary: mem::transmute::<*mut c_void, AddBinary>(
                    symbol(c"mosquitto_property_add_binary").ok()?,
                ),
                free_all: mem::transmute::<*mut c_void, FreeAll>(
                    symbol(c"mosquitto_property_free_all").ok()?,
                ),
                free,
            })
        }
    }

    /// Response Topic and Correlation Data of a message.
    ///
    /// # Safety
    /// `list` must be the broker's, of the event that is being handled.
    pub(super) unsafe fn reply_to(&self, list: *const c_void) -> Option<ReplyTo> {
        let mut text: *mut c_char = ptr::null_mut();
        // SAFETY: the caller's promise; there is a place for the copy.
        unsafe { (self.read_string)(list, RESPONSE_TOPIC, &raw mut text, false) };
        if text.is_null() {
            return None;
        }
        // SAFETY: the broker's copy ends with NUL, and is given back below.
        let topic = unsafe { CStr::from_ptr(text) }.to_str().map(str::to_owned);
        // SAFETY: it is not used any more.
        unsafe { (self.free)(text.cast()) };
        // SAFETY: the caller's promise.
        let correlation = unsafe { self.correlation(list) };
        Some(ReplyTo::new(&topic.ok()?, correlation.as_deref()))
    }

    /// # Safety
    /// As [`Properties::reply_to`].
    unsafe fn correlation(&self, list: *const c_void) -> Option<Vec<u8>> {
        let (mut data, mut length) = (ptr::null_mut(), 0u16);
        // SAFETY: the caller's promise; there are places for the copy and its length.
        let found = unsafe {
            (self.read_binary)(
                list,
                CORRELATION_DATA,
                &raw mut data,
                &raw mut length,
                false,
            )
        };
        if found.is_null() {
            return None;
        }
        if data.is_null() {
            return Some(Vec::new());
        }
        // SAFETY: so many bytes were copied there.
        let bytes =
            unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length.into()) }.to_vec();
        // SAFETY: it is not used any more.
        unsafe { (self.free)(data) };
        Some(bytes)
    }

    /// A list with Correlation Data alone; NULL when there is no room.
    pub(super) fn list(&self, correlation: &[u8]) -> *mut c_void {
        let mut list = ptr::null_mut();
        let Ok(length) = u16::try_from(correlation.len()) else {
            return list;
        };
        let data = correlation.as_ptr().cast();
        // SAFETY: the broker copies so many bytes into a list that begins here.
        let added = unsafe { (self.add_binary)(&raw mut list, CORRELATION_DATA, data, length) };
        if added != status::SUCCESS {
            self.free(list);
            return ptr::null_mut();
        }
        list
    }

    /// Gives a list back that the broker has not taken.
    pub(super) fn free(&self, mut list: *mut c_void) {
        // SAFETY: made by `list`, and not used any more; the broker takes NULL.
        unsafe { (self.free_all)(&raw mut list) };
    }
}
