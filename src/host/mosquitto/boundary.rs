//! Between the broker, which is C, and us.

use std::ffi::{CStr, c_char, c_int};
use std::panic::{self, AssertUnwindSafe};

use super::abi::{Broker, Level, status};

/// Mosquitto is C: no panic may reach it.
pub(super) fn caught(what: &str, run: impl FnOnce() -> c_int) -> c_int {
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        if let Ok(broker) = Broker::resolve() {
            broker.log(Level::Error, &format!("lwm2m: {what} panicked"));
        }
        status::UNKNOWN
    })
}

/// # Safety
/// `first` is NULL or points to `count` elements.
pub(super) unsafe fn list<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if !first.is_null() => unsafe { std::slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

/// # Safety
/// `text` is NULL or a string.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}
