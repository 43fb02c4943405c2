//! What the `openssl` crate lacks for DTLS: the only module with calls into C, and the [`Stream`]
//! that keeps to their rules.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_uint};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{
    ShutdownState, Ssl, SslCipherRef, SslContextBuilder, SslRef, SslSessionCacheMode, SslStream,
};
use openssl::x509::X509CrlRef;
use openssl::x509::store::X509StoreBuilderRef;
use openssl_sys as ffi;

use super::psk;
use super::resumption::Resumption;
use super::wire::Wire;
use crate::config::CipherSuite;

/// Opaque: a peer's address, which OpenSSL asks for and we do not tell.
#[repr(C)]
struct BioAddr {
    _opaque: [u8; 0],
    _not_send: PhantomData<*mut u8>,
}

type TimerCallback = extern "C" fn(*mut ffi::SSL, c_uint) -> c_uint;

// ssl.h and bio.h of OpenSSL 1.1.1 to 3.x.
unsafe extern "C" {
    fn BIO_ADDR_new() -> *mut BioAddr;
    fn BIO_ADDR_free(address: *mut BioAddr);
    fn DTLSv1_listen(ssl: *mut ffi::SSL, client: *mut BioAddr) -> c_int;
    fn DTLS_set_timer_cb(ssl: *mut ffi::SSL, callback: TimerCallback);
    fn SSL_free_buffers(ssl: *mut ffi::SSL) -> c_int;
    fn SSL_alloc_buffers(ssl: *mut ffi::SSL) -> c_int;
    fn X509_STORE_add_crl(store: *mut ffi::X509_STORE, list: *mut ffi::X509_CRL) -> c_int;
    fn SSL_get_pending_cipher(ssl: *const ffi::SSL) -> *const ffi::SSL_CIPHER;
    fn SSL_CTX_set_timeout(context: *mut ffi::SSL_CTX, seconds: c_long) -> c_long;
}

const SSL_CTRL_SET_MAX_CERT_LIST: c_int = 51;
const DTLS_CTRL_GET_TIMEOUT: c_int = 73;
const DTLS_CTRL_HANDLE_TIMEOUT: c_int = 74;

/// An OpenSSL object whose record buffers, 33 kB, can be given back between two calls.
///
/// Without them OpenSSL writes to a null pointer. So nothing lets it read or write but
/// [`Stream::call`], which gets the buffers first and does nothing where there is no memory.
pub(super) struct Stream {
    inner: SslStream<Wire>,
    /// Whether OpenSSL has its record buffers for sure.
    has_buffers: bool,
}

/// There is no memory for the record buffers. Nothing was done, and nothing more can be: OpenSSL
/// counts that as a fatal error of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for record buffers")]
pub(super) struct NoMemory;

impl Stream {
    /// Around a new object. Its retransmission timer starts with what its [`psk::Slot`] says and
    /// doubles each time, up to a minute (RFC 6347 §4.2.4.1). OpenSSL counts less than 15 ms as over
    /// at once.
    pub(super) fn new(ssl: Ssl) -> Result<Self, ErrorStack> {
        let mut inner = SslStream::new(ssl, Wire::default())?;
        // SAFETY: the object is live; the callback takes any arguments that OpenSSL gives.
        unsafe { DTLS_set_timer_cb(raw(&mut inner), next_timeout) };
        Ok(Self {
            inner,
            has_buffers: false,
        })
    }

    /// The object, to be asked about its state. None of its methods reads or writes records.
    pub(super) fn ssl(&self) -> &SslRef {
        self.inner.ssl()
    }

    /// Lets OpenSSL work with `wire` in place of its own, and with an empty error queue: what is in
    /// it would be taken for an error of this call.
    ///
    /// # Errors
    ///
    /// No memory; the call was not made.
    pub(super) fn call<R>(
        &mut self,
        wire: &mut Wire,
        call: impl FnOnce(&mut SslStream<Wire>) -> R,
    ) -> Result<R, NoMemory> {
        self.warm()?;
        drop(ErrorStack::get());
        std::mem::swap(self.inner.get_mut(), wire);
        let result = call(&mut self.inner);
        std::mem::swap(self.inner.get_mut(), wire);
        Ok(result)
    }

    /// Gets the record buffers. Returns whether there were none before.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(super) fn warm(&mut self) -> Result<bool, NoMemory> {
        if self.has_buffers {
            return Ok(false);
        }
        // SAFETY: the object is live. When it fails, one of the two buffers may be there, which the
        // next try or the end of the object finds.
        self.has_buffers = unsafe { SSL_alloc_buffers(raw(&mut self.inner)) == 1 };
        if self.has_buffers {
            Ok(true)
        } else {
            drop(ErrorStack::get());
            Err(NoMemory)
        }
    }

    /// Gives the record buffers back. Returns false while there is something in them: then they
    /// stay.
    pub(super) fn cool(&mut self) -> bool {
        // SAFETY: the object is live, and is not used to read or write before `warm` has succeeded:
        // only `call` lends it out, and what is done elsewhere needs no buffers.
        if unsafe { SSL_free_buffers(raw(&mut self.inner)) == 1 } {
            self.has_buffers = false;
        }
        !self.has_buffers
    }

    /// Time until the retransmission timer expires; `None` when it does not run.
    pub(super) fn timeout(&mut self) -> Option<Duration> {
        let mut left = libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        };
        // SAFETY: the object is live, and this control writes a `timeval`. It looks at the timer
        // only.
        let result = unsafe {
            ffi::SSL_ctrl(
                raw(&mut self.inner),
                DTLS_CTRL_GET_TIMEOUT,
                0,
                ptr::from_mut(&mut left).cast(),
            )
        };
        (result == 1).then(|| {
            let seconds = Duration::from_secs(u64::try_from(left.tv_sec).unwrap_or(0));
            seconds.saturating_add(Duration::from_micros(
                u64::try_from(left.tv_usec).unwrap_or(0),
            ))
        })
    }

    /// Lets the session end without a word to the peer, and be resumed.
    pub(super) fn end_silently(&mut self) {
        self.inner
            .set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
    }
}

/// OpenSSL's object behind a stream of the `openssl` crate.
fn raw(stream: &mut SslStream<Wire>) -> *mut ffi::SSL {
    // An `SslRef` is never made, only pointed to: its address is that of the object. The crate
    // lends only a shared one; the stream is borrowed exclusively, and so is all that it owns.
    ptr::from_ref(stream.ssl()).cast_mut().cast()
}

/// Lets `stream`, which must be new, begin behind the cookie exchange: its BIO must hold the record of
/// a ClientHello with a cookie and message number 1. OpenSSL asks its callback about the cookie.
/// Returns whether it took the hello. To be used in [`Stream::call`].
pub(super) fn listen(stream: &mut SslStream<Wire>) -> bool {
    // SAFETY: no arguments; a null pointer is checked below.
    let address = unsafe { BIO_ADDR_new() };
    if address.is_null() {
        return false;
    }
    // SAFETY: both point to live objects that nobody else uses meanwhile.
    let result = unsafe { DTLSv1_listen(raw(stream), address) };
    // SAFETY: made above, not used any more.
    unsafe { BIO_ADDR_free(address) };
    drop(ErrorStack::get());
    result == 1
}

extern "C" fn next_timeout(ssl: *mut ffi::SSL, previous: c_uint) -> c_uint {
    const MAX: c_uint = 60_000_000;
    if previous > 0 {
        return previous.saturating_mul(2).min(MAX);
    }
    // SAFETY: OpenSSL calls this with the live object it is working on; the reference is shared
    // and ends with this function.
    let ssl = unsafe { &*ssl.cast::<SslRef>() };
    psk::retransmit_timeout_us(ssl).clamp(16_000, MAX)
}

/// Sends the last flight again if the timer has expired. Returns false when that failed, or has
/// been done too often. To be used in [`Stream::call`].
pub(super) fn handle_timeout(stream: &mut SslStream<Wire>) -> bool {
    // SAFETY: the object is live, and this control takes no argument.
    let result =
        unsafe { ffi::SSL_ctrl(raw(stream), DTLS_CTRL_HANDLE_TIMEOUT, 0, ptr::null_mut()) };
    drop(ErrorStack::get());
    result >= 0
}

/// Lets sessions that can be resumed be kept in `cache`, and not in the context.
pub(super) fn keep_sessions_in(context: &mut SslContextBuilder, cache: &Arc<Resumption>) {
    context.set_session_cache_mode(SslSessionCacheMode::SERVER | SslSessionCacheMode::NO_INTERNAL);
    let keeping = Arc::clone(cache);
    context.set_new_session_callback(move |ssl, session| {
        let is_certified = ssl.peer_certificate().is_some();
        keeping.keep(session, psk::identity(ssl), is_certified);
    });
    let forgetting = Arc::clone(cache);
    context.set_remove_session_callback(move |_, session| forgetting.forget(session));
    let finding = Arc::clone(cache);
    // SAFETY: a cache is that of one context only.
    unsafe {
        context.set_get_session_callback(move |ssl, id| {
            let (session, identity) = finding.find(id)?;
            psk::set_resumed(ssl, identity);
            Some(session)
        });
    }
}

/// The suite that the ServerHello is about to name.
pub(super) fn pending_suite(ssl: &SslRef) -> Option<CipherSuite> {
    let raw: *const ffi::SSL = ptr::from_ref(ssl).cast();
    // SAFETY: the object is live and only looked at.
    let cipher = unsafe { SSL_get_pending_cipher(raw) };
    if cipher.is_null() {
        return None;
    }
    // SAFETY: an entry of OpenSSL's table of suites, which lives as long as the process; an
    // `SslCipherRef` is never made, only pointed to.
    let cipher = unsafe { &*cipher.cast::<SslCipherRef>() };
    CipherSuite::from_name(cipher.name())
}

/// Sets how long sessions can be resumed.
pub(super) fn set_session_timeout(context: &mut SslContextBuilder, timeout: Duration) {
    let seconds = c_long::try_from(timeout.as_secs()).unwrap_or(c_long::MAX);
    // SAFETY: the builder owns a live context.
    unsafe { SSL_CTX_set_timeout(context.as_ptr(), seconds) };
}

/// Sets how many bytes a Certificate message of a peer may have.
pub(super) fn set_max_chain(context: &mut SslContextBuilder, bytes: usize) {
    let bytes = c_long::try_from(bytes).unwrap_or(c_long::MAX);
    // SAFETY: the builder owns a live context, and this control takes a number.
    unsafe {
        ffi::SSL_CTX_ctrl(
            context.as_ptr(),
            SSL_CTRL_SET_MAX_CERT_LIST,
            bytes,
            ptr::null_mut(),
        )
    };
}

/// Adds a revocation list to those that chains are checked by.
///
/// # Errors
///
/// No memory.
pub(super) fn add_revocations(
    store: &mut X509StoreBuilderRef,
    list: &X509CrlRef,
) -> Result<(), ErrorStack> {
    // As `raw`: the address of such a reference is that of the object.
    let store = ptr::from_mut(store).cast();
    let list = ptr::from_ref(list).cast_mut().cast();
    // SAFETY: both are live; the store takes a reference of its own to the list, whose count is
    // locked.
    let result = unsafe { X509_STORE_add_crl(store, list) };
    if result == 1 {
        Ok(())
    } else {
        Err(ErrorStack::get())
    }
}
