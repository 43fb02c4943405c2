//! Keys of EMQX that mean nothing here, or have another name.

/// Keys of EMQX that are accepted, with a warning, and do nothing here; and why.
pub(crate) const IGNORED: &[(&str, &str)] = &[
    (
        "enable",
        "has no effect: a gateway that is started is enabled",
    ),
    (
        "enable_stats",
        "has no effect: statistics are always counted",
    ),
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

/// The same below `listeners.udp.NAME` and `listeners.dtls.NAME`.
pub(crate) const LISTENER_IGNORED: &[(&str, &str)] = &[
    ("acceptors", "has no effect: every shard has its own socket"),
    ("health_check", "has no effect here"),
    ("udp_options.active_n", "has no effect here"),
    (
        "udp_options.buffer",
        "has no effect: datagrams are read at full size",
    ),
    ("udp_options.read_packets", "has no effect here"),
    ("udp_options.reuseaddr", "has no effect here"),
];

/// The same below `listeners.udp.NAME` only.
pub(crate) const UDP_IGNORED: &[(&str, &str)] = &[
    (
        "authentication",
        "has no effect: devices are NOT authenticated by this gateway",
    ),
    (
        "enable_authn",
        "has no effect: devices are NOT authenticated by this gateway",
    ),
];

const BY_KEY: &str =
    "has no effect: devices are authenticated by their pre-shared key or certificate";

/// The same below `listeners.dtls.NAME` only.
pub(crate) const DTLS_IGNORED: &[(&str, &str)] = &[
    ("authentication", BY_KEY),
    ("enable_authn", BY_KEY),
    (
        "dtls_options.cacerts",
        "has no effect: name the file in dtls_options.cacertfile",
    ),
    (
        "dtls_options.managed_certs",
        "has no effect: name the files in dtls_options.certfile and keyfile",
    ),
    (
        "dtls_options.partial_chain",
        "has no effect: a CA in dtls_options.cacertfile is always trusted, with or without its root",
    ),
    (
        "dtls_options.verify_peer_ext_key_usage",
        "has no effect: a certificate whose extended key usage lacks clientAuth is refused",
    ),
    (
        "dtls_options.enable_crl_check",
        "has no effect: name the file of the revocation lists in dtls_options.crlfile",
    ),
    (
        "dtls_options.user_lookup_fun",
        "has no effect: keys come from psk, psk_file or the host",
    ),
    (
        "dtls_options.honor_cipher_order",
        "has no effect: the order of ciphers in the configuration is always used",
    ),
    (
        "dtls_options.secure_renegotiate",
        "has no effect: renegotiation is refused",
    ),
    (
        "dtls_options.client_renegotiation",
        "has no effect: renegotiation is refused",
    ),
    ("dtls_options.dhfile", "has no effect: no suite uses it"),
    ("dtls_options.log_level", "has no effect: see log.level"),
    (
        "dtls_options.hibernate_after",
        "has no effect: only recently used sessions keep their buffers",
    ),
    ("dtls_options.gc_after_handshake", "has no effect here"),
];

/// Keys of EMQX under another name here.
pub(crate) const RENAMED: &[(&str, &str)] = &[("coap_max_block_size", "blockwise.max_block_size")];
