//! Keeps the library mapped, and its resource types allocated.

#![allow(unsafe_code)] // dladdr, dlopen

use std::ffi::c_void;
use std::mem::{self, MaybeUninit};

use rustler::{Resource, ResourceArc};

/// Tells the loader never to unmap this library. When the VM unloads it, a thread of a gateway
/// that was abandoned a moment ago may still be on its way out, in our code.
pub(crate) fn pin_library() {
    let here = pin_library as *const () as *const c_void;
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: `here` is an address in this library; `info` is written if the result is not 0, and
    // its name then lives as long as the library. Opening what is open already runs no code.
    unsafe {
        if libc::dladdr(here, info.as_mut_ptr()) != 0 {
            let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            libc::dlopen(info.assume_init().dli_fname, flags);
        }
    }
}

/// Makes a resource that is never released, so that the VM never frees its type. When the module is
/// purged while a call on a dirty scheduler still runs, the VM ends the process but not the call,
/// and frees the types without resources: one that the call made then would have a type that is
/// gone, and the VM would crash. Costs some hundred bytes each time the module is loaded.
pub(crate) fn keep_type<T: Resource>(keeper: T) {
    mem::forget(ResourceArc::new(keeper));
}
