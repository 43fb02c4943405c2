//! The gateway as a plugin of Mosquitto (plugin interface 5, Mosquitto 2.0.8 to 2.1).
//!
//! None of the broker's functions may be called from a thread of ours. What the gateway's threads
//! publish or log waits in the [`outbox`], and the broker's main thread takes it at its next tick;
//! [`wake`] makes that tick come at once.
//!
//! ```text
//! device → shard → Host::publish → outbox, bell → TICK → mosquitto_broker_publish_copy
//! client → broker → MESSAGE → Gateway::deliver → mailbox → shard → device
//! ```

#![allow(unsafe_code)] // C ABI
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: clocks, threads, files

mod abi;
mod boundary;
mod epoll;
mod log;
mod options;
mod outbox;
mod packet;
mod plugin;
mod properties;
mod shared;
mod sys;
mod wake;

use std::ffi::{c_int, c_void};

use self::abi::{PluginOption, status};
use self::boundary::{caught, list, text};
use self::options::Options;
use self::plugin::Plugin;

/// The version of the plugin interface that we speak.
const INTERFACE: c_int = 5;

/// Mosquitto asks which version of the plugin interface we speak.
///
/// # Safety
/// `versions` points to `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_version(count: c_int, versions: *const c_int) -> c_int {
    // SAFETY: the caller's promise.
    let offered = unsafe { list(versions, count) };
    if offered.contains(&INTERFACE) {
        INTERFACE
    } else {
        -1
    }
}

/// Starts a gateway. Mosquitto ends when this returns anything but 0.
///
/// # Safety
/// To be called by Mosquitto: `identifier` is its handle of the plugin, `options` points to
/// `count` pairs of strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_init(
    identifier: *mut c_void,
    user_data: *mut *mut c_void,
    options: *const c_void,
    count: c_int,
) -> c_int {
    caught("init", || {
        // SAFETY: the caller's promise.
        let options = unsafe { given(options.cast(), count) };
        let plugin = match Plugin::start(identifier, Options::new(options)) {
            Ok(plugin) => plugin,
            Err(status) => return status,
        };
        let plugin = Box::into_raw(plugin);
        // SAFETY: it lives until `mosquitto_plugin_cleanup`, or until nothing is registered.
        if let Err(status) = unsafe { Plugin::register(plugin) } {
            // SAFETY: it came from `Box::into_raw` just now.
            unsafe { Box::from_raw(plugin) }.stop();
            return status;
        }
        abi::stay_in_memory();
        // SAFETY: the broker gives a place for one pointer.
        unsafe { user_data.write(plugin.cast()) };
        status::SUCCESS
    })
}

/// Stops the gateway.
///
/// # Safety
/// To be called by Mosquitto, with the `user_data` of [`mosquitto_plugin_init`] or NULL, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_cleanup(
    user_data: *mut c_void,
    _options: *const c_void,
    _count: c_int,
) -> c_int {
    caught("cleanup", || {
        if !user_data.is_null() {
            // SAFETY: it came from `Box::into_raw`, and no callback comes any more.
            unsafe { Box::from_raw(user_data.cast::<Plugin>()) }.stop();
        }
        status::SUCCESS
    })
}

/// # Safety
/// `options` points to `count` pairs of strings.
unsafe fn given(options: *const PluginOption, count: c_int) -> Vec<(String, String)> {
    // SAFETY: the caller's promise.
    unsafe { list(options, count) }
        .iter()
        .map(|option| {
            // SAFETY: the caller's promise.
            unsafe { (text(option.key), text(option.value)) }
        })
        .collect()
}
