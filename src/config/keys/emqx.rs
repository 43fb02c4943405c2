//! Keys of EMQX that mean nothing here, or have another name.

/// Keys of EMQX that are accepted, with a warning, and do nothing here; and why.
pub(crate) const IGNORED: &[(&str, &str)] = &[
    (
        "enable",
        "has no effect: a gateway that is started is enabled",
    ),
    ("enable_stats", "has no effect: statistics are always kept"),
    (
        "idle_timeout",
        "has no effect: a peer without a registration holds no resources",
    ),
    ("clientinfo_override", "has no effect here"),
    (
        "authentication",
        "has no effect: devices are NOT authenticated by this gateway",
    ),
];

/// The same below `listeners.udp.NAME`.
pub(crate) const LISTENER_IGNORED: &[(&str, &str)] = &[
    (
        "acceptors",
        "has no effect: every shard has a socket of its own",
    ),
    (
        "access_rules",
        "has no effect: addresses are NOT filtered by this gateway",
    ),
    (
        "authentication",
        "has no effect: devices are NOT authenticated by this gateway",
    ),
    (
        "enable_authn",
        "has no effect: devices are NOT authenticated by this gateway",
    ),
    ("health_check", "has no effect here"),
    ("max_conn_rate", "has no effect here"),
    ("udp_options.active_n", "has no effect here"),
    (
        "udp_options.buffer",
        "has no effect: datagrams are read at full size",
    ),
    ("udp_options.read_packets", "has no effect here"),
    ("udp_options.reuseaddr", "has no effect here"),
];

/// Keys of EMQX under another name here.
pub(crate) const RENAMED: &[(&str, &str)] = &[("coap_max_block_size", "blockwise.max_block_size")];
