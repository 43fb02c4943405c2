//! What every function of the C API does before and after its work: no panic leaves it, and what
//! went wrong is kept for `lwm2m_gateway_last_error()`.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::types::lwm2m_gateway_status as Status;

/// Why a function of the C API did not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub(super) status: Status,
    text: String,
}

impl Failure {
    pub(super) fn new(status: Status, text: impl Display) -> Self {
        let text = text.to_string();
        Self { status, text }
    }

    pub(super) fn argument(text: impl Display) -> Self {
        Self::new(Status::Argument, text)
    }

    pub(super) fn state(text: impl Display) -> Self {
        Self::new(Status::State, text)
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
    /// The gateways whose callbacks this thread is inside of, the innermost last. A number names
    /// a gateway for as long as it lives.
    static CALLBACKS: RefCell<Vec<(usize, Callback)>> = const { RefCell::new(Vec::new()) };
}

/// Runs the body of a function; a panic becomes a failure.
pub(super) fn boundary(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    // What a panic may have left half done is behind the handle, which its owner then poisons.
    let result = catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|panic| Err(Failure::new(Status::Panic, panic_text(&*panic))));
    match result {
        Ok(()) => Status::Ok,
        Err(failure) => {
            remember(&failure);
            failure.status
        }
    }
}

/// Runs a body that has a value for the host; `otherwise` is returned in case of a panic.
pub(super) fn boundary_value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        remember(&Failure::new(Status::Panic, panic_text(&*panic)));
        otherwise
    })
}

/// Text of this thread's last failure; empty when there was none. Valid until the next failure on
/// this thread.
pub(super) fn last_error() -> *const c_char {
    // At the end of a thread there may be none left.
    LAST_ERROR
        .try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// Text for C: what stands behind a NUL is cut off.
pub(super) fn c_text(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    CString::new(bytes).unwrap_or_default()
}

/// What may be called from within differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callback {
    /// `log` and `wakeup`, made with whatever locks held: no function of the gateway.
    Bare,
    /// Most functions.
    Other,
}

/// This thread is inside of a callback of a gateway until the mark is dropped.
pub(super) struct InCallback;

impl InCallback {
    pub(super) fn enter(gateway: usize, callback: Callback) -> Self {
        let _ = CALLBACKS.try_with(|inside| inside.borrow_mut().push((gateway, callback)));
        Self
    }

    /// Whether this thread is inside of a callback of `gateway`.
    pub(super) fn of(gateway: usize) -> bool {
        Self::any(|(of, _)| of == gateway)
    }

    /// Whether this thread is inside of a callback of `gateway` that must not call it.
    pub(super) fn bare(gateway: usize) -> bool {
        Self::any(|mark| mark == (gateway, Callback::Bare))
    }

    fn any(test: impl Fn((usize, Callback)) -> bool) -> bool {
        CALLBACKS
            .try_with(|inside| inside.borrow().iter().copied().any(test))
            .unwrap_or(false)
    }
}

impl Drop for InCallback {
    fn drop(&mut self) {
        let _ = CALLBACKS.try_with(|inside| inside.borrow_mut().pop());
    }
}

/// The text behind a pointer of the host.
///
/// # Safety
/// `text` is NULL or points to bytes that end with NUL and stay as they are during `'a`.
#[allow(unsafe_code)]
pub(super) unsafe fn text<'a>(what: &str, text: *const c_char) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL; the rest is what the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map(Some)
        .map_err(|_| Failure::argument(format_args!("{what} is not valid UTF-8")))
}

fn remember(failure: &Failure) {
    let text = c_text(failure.text.as_str());
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown");
    format!("internal error: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        #[allow(unsafe_code)]
        // SAFETY: the text of this thread, which nothing changes meanwhile.
        let text = unsafe { CStr::from_ptr(last_error()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_and_a_text() {
        assert_eq!(last(), "");
        let status = boundary(|| panic!("number {}", 7));
        assert_eq!(status, Status::Panic);
        assert_eq!(last(), "internal error: number 7");
        assert_eq!(boundary(|| Ok(())), Status::Ok);
        assert_eq!(last(), "internal error: number 7");
        assert_eq!(boundary_value(3, || panic!("again")), 3);
        assert_eq!(last(), "internal error: again");
    }

    #[test]
    fn the_last_error_belongs_to_its_thread() {
        boundary(|| Err(Failure::argument("mine\0hidden")));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(last(), ""));
        });
        assert_eq!(last(), "mine");
    }

    #[test]
    fn callbacks_are_nested() {
        let outer = InCallback::enter(1, Callback::Bare);
        let inner = InCallback::enter(2, Callback::Other);
        assert!(InCallback::of(1) && InCallback::of(2) && !InCallback::of(3));
        assert!(InCallback::bare(1) && !InCallback::bare(2));
        drop(inner);
        assert!(InCallback::of(1) && !InCallback::of(2));
        drop(outer);
        assert!(!InCallback::of(1));
    }
}
