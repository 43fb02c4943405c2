//! The keys of one listener.

use std::net::{IpAddr, Ipv4Addr};

use super::{GB, Key};
use crate::config::{UdpListener, value};

/// The keys of `listeners.udp.NAME`.
pub(crate) static LISTENER_KEYS: &[Key<UdpListener>] = &[
    key!("enable", enable, flag, "Whether the listener is opened."),
    key!(
        "bind",
        bind,
        address(Ipv4Addr::UNSPECIFIED),
        "`\"ip:port\"`, `\"[ip6]:port\"`, `\":port\"`, `\"port\"` or a number."
    ),
    Key {
        name: "max_connections",
        form: || "integer or `\"infinity\"`".to_owned(),
        meaning: "Most registrations by this listener.",
        read: |into, from| {
            into.max_connections = value::count_or_infinity(from)?;
            Ok(())
        },
        show: |of| of.max_connections.to_string(),
        is_text: false,
    },
    key!(
        "mountpoint",
        mountpoint,
        optional_text,
        "Instead of the gateway's `mountpoint`."
    ),
    Key {
        name: "format",
        form: || "as `format`".to_owned(),
        meaning: "Instead of the gateway's `format`.",
        read: |into, from| {
            into.format = Some(value::format(from)?);
            Ok(())
        },
        show: |_| "none".to_owned(),
        is_text: true,
    },
    key!(
        "udp_options.recbuf",
        recbuf,
        size(4096, GB),
        "Kernel receive buffer."
    ),
    key!(
        "udp_options.sndbuf",
        sndbuf,
        size(4096, GB),
        "Kernel send buffer."
    ),
];
