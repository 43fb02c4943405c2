//! The keys of one listener.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::key::{GB, HOUR, Key, Keys, LONGEST, SECOND, key};
use crate::config::cipher::{CipherSuite, Group};
use crate::config::listener::{DtlsListener, PlainRegisters, Takeover, UdpListener};
use crate::config::{psk, value};
use crate::credentials::{EndpointRule, KeyEncoding};

/// The keys that listeners of both kinds have, and further ones; `$at` is where the common fields
/// are.
macro_rules! listener_keys {
    ($($at:ident)?; $($own:expr),* $(,)?) => {
        Keys(&[&[
            key!("enable", $($at.)? enable, flag, "Whether the listener is opened."),
            key!(
                "bind",
                $($at.)? bind,
                address(Ipv4Addr::UNSPECIFIED),
                "`\"ip:port\"`, `\"[ip6]:port\"`, `\":port\"`, `\"port\"` or a number."
            ),
            key!(
                "max_connections",
                $($at.)? max_connections,
                by(
                    || "integer or `\"infinity\"`".to_owned(),
                    value::count_or_infinity,
                    ToString::to_string
                ),
                "Most registrations by this listener, with DTLS also most sessions."
            ),
            key!(
                "max_conn_rate",
                $($at.)? max_conn_rate,
                rate,
                "New devices that are let in: with UDP Registers from addresses where no device is registered, with DTLS handshakes. A Register beyond it is answered 5.03 with Max-Age, a handshake has to be begun anew."
            ),
            key!(
                "access_rules",
                $($at.)? access_rules,
                by(
                    || "list of rules".to_owned(),
                    value::access_rules,
                    |it| {
                        let rules = it.rules().iter();
                        format!("{:?}", rules.map(ToString::to_string).collect::<Vec<_>>())
                    }
                ),
                "Which addresses may send: `\"allow 192.168.0.0/24\"`, `\"deny 2001:db8::/32\"`, `\"deny all\"`. The first rule that matches counts; what none matches may send. Datagrams of others are dropped unread, also those of devices that are registered."
            ),
            key!(
                "mountpoint",
                $($at.)? mountpoint,
                optional_text,
                "Instead of the gateway's `mountpoint`."
            ),
            key!(
                "shared_mountpoint",
                $($at.)? shared_mountpoint,
                by(
                    || "true or false".to_owned(),
                    |from| value::boolean(from).map(Some),
                    |_| "none".to_owned()
                ),
                "Instead of the gateway's `shared_mountpoint`."
            ),
            key!(
                "format",
                $($at.)? format,
                text_by(
                    || "as `format`".to_owned(),
                    |from| value::format(from).map(Some),
                    |_| "none".to_owned()
                ),
                "Instead of the gateway's `format`."
            ),
            key!(
                "udp_options.recbuf",
                $($at.)? recbuf,
                size(4096, GB),
                "Kernel receive buffer."
            ),
            key!(
                "udp_options.sndbuf",
                $($at.)? sndbuf,
                size(4096, GB),
                "Kernel send buffer."
            ),
            $($own),*
        ]])
    };
}

/// A number without a bound unless one is given.
macro_rules! infinity_key {
    ($name:literal, $($field:ident).+, $meaning:literal) => {
        key!(
            $name,
            $($field).+,
            by(
                || "integer or `\"infinity\"`".to_owned(),
                value::count_or_infinity,
                |it| match *it {
                    usize::MAX => "\"infinity\"".to_owned(),
                    count => count.to_string(),
                }
            ),
            $meaning
        )
    };
}

/// The keys of `listeners.udp.NAME`.
pub(crate) static UDP_KEYS: Keys<UdpListener> = listener_keys!(;
    key!(
        "plain_registers",
        plain_registers,
        text_by(
            || "as `plain_registers`".to_owned(),
            |from| value::choice(
                    from,
                    &[("uncovered", PlainRegisters::Uncovered), ("any", PlainRegisters::Any)],
                ).map(Some),
            |_| "none".to_owned()
        ),
        "Instead of the gateway's `plain_registers`."
    ),
);

/// The keys of `listeners.dtls.NAME`.
pub(crate) static DTLS_KEYS: Keys<DtlsListener> = listener_keys!(common;
    key!(
        "psk_file",
        psk_file,
        optional_text,
        "File with a line `identity:key` for each device, and `identity:key:endpoints` where needed; read again when it changes. See [below](#pre-shared-keys)."
    ),
    key!(
        "psk_file_keys",
        psk_file_keys,
        choice("hex" = KeyEncoding::Hex, "text" = KeyEncoding::Text),
        "How keys are written in that file: hexadecimal as in Mosquitto's `psk_file`, or the text itself is the key as in EMQX's `psk_authentication.init_file`."
    ),
    key!(
        "psk",
        psk,
        by(|| "table or list".to_owned(), psk::psk, |_| "{}".to_owned()),
        "Credentials here instead of in a file: `{ identity = \"key\" }`, `{ identity = { key, endpoints } }` or `[{ identity, key, endpoints }]`; a key is hexadecimal, `\"base64:…\"` or `\"text:…\"`. They win over those of the file."
    ),
    key!(
        "identity_separator",
        identity_separator,
        text_by(|| "characters".to_owned(), psk::separators, value::quoted),
        "Set of characters, such as `\"#/\"`. An identity that is not configured is taken for a configured one, one of these characters and a suffix; so one key serves several connections. Empty: no suffixes."
    ),
    key!(
        "endpoint_rule",
        endpoint_rule,
        choice(
            "owned" = EndpointRule::Owned,
            "any" = EndpointRule::Any,
            "equal" = EndpointRule::Equal,
            "listed" = EndpointRule::Listed
        ),
        "Which endpoint an identity may register: its own name and those that its credential lists, and all that nobody's credential covers; any; its own name only, with or without suffix; or only those that its credential lists. Another one is answered 4.03. See [below](#endpoints)."
    ),
    key!(
        "takeover",
        takeover,
        choice("move" = Takeover::Move, "end" = Takeover::End),
        "What becomes of the registration of a connection that is displaced by a newer one of the same identity: it goes on over the new one, or it ends."
    ),
    infinity_key!(
        "max_sessions_per_credential",
        max_sessions_per_credential,
        "Most sessions by one key, whatever suffixes it presents. For more, the one of its own that was not used for the longest time is closed. Without a limit, the credential with most sessions gives way when there are more than `max_connections`."
    ),
    infinity_key!(
        "max_sessions_per_source",
        max_sessions_per_source,
        "Most sessions from one address (IPv6: a network of 64 bits). For more, the one of its own that was not used for the longest time is closed."
    ),
    key!(
        "dtls_options.ciphers",
        options.ciphers,
        by(
            || {
                let names = CipherSuite::ALL.map(|suite| format!("`\"{}\"`", suite.openssl_name()));
                format!("list of {} or IANA's names", names.join(", "))
            },
            psk::ciphers,
            |it| {
                let names = it.iter().copied();
                format!("{:?}", names.map(CipherSuite::openssl_name).collect::<Vec<_>>())
            }
        ),
        "Cipher suites, the preferred one first."
    ),
    key!(
        "dtls_options.groups",
        options.groups,
        by(
            || {
                let names = Group::ALL.map(|group| format!("`\"{}\"`", group.name()));
                format!("list of {}", names.join(", "))
            },
            psk::groups,
            |it| {
                let names = it.iter().copied();
                format!("{:?}", names.map(Group::name).collect::<Vec<_>>())
            }
        ),
        "Groups for the key exchange of suites with ECDHE, the preferred one first. A device that has none of them gets a suite without ECDHE, or no handshake. secp384r1 costs the gateway five times as much as x25519."
    ),
    Key {
        name: "dtls_options.versions",
        form: || format!("list with `{:?}`", psk::VERSION),
        meaning: "DTLS 1.2 is the only version that is spoken.",
        read: |_, from| psk::versions(from),
        show: |_| format!("[{:?}]", psk::VERSION),
        is_text: false,
    },
    key!(
        "dtls_options.handshake_timeout",
        options.handshake_timeout,
        duration(SECOND, HOUR),
        "A handshake that takes longer is given up."
    ),
    key!(
        "dtls_options.retransmit_timeout",
        options.retransmit_timeout,
        duration(Duration::from_millis(100), Duration::from_secs(60)),
        "Wait before the first retransmission of a flight of a handshake; doubled each time."
    ),
    key!(
        "dtls_options.max_handshakes",
        options.max_handshakes,
        integer(1, 10_000_000),
        "Handshakes in progress at a time; each takes about 45 kB. When there are that many, the address with most of them gives way to others. Each shard has its part of them."
    ),
    key!(
        "dtls_options.max_failures",
        options.max_failures,
        integer(0, 100_000),
        "Handshakes from one address (IPv6: a network of 64 bits) in a minute that may fail by a wrong key or an unknown identity before it is slowed: further hellos of it are answered at about that rate. Completed handshakes count in its favour. 0: nobody is slowed."
    ),
    key!(
        "dtls_options.reuse_sessions",
        options.reuse_sessions,
        flag,
        "Whether a device can resume its session by the session's id."
    ),
    key!(
        "dtls_options.session_cache",
        options.session_cache,
        integer(1, 100_000_000),
        "Sessions that are remembered for that."
    ),
    key!(
        "dtls_options.session_timeout",
        options.session_timeout,
        duration(SECOND, LONGEST),
        "How long they are remembered. So long may pass until another key that a host or EMQX gives for an identity is asked of a device that resumes; one that is unknown by then ends the session at once."
    ),
    key!(
        "dtls_options.idle_timeout",
        options.idle_timeout,
        by(
            || format!("duration, 1s to {}, or `\"infinity\"`", value::show_duration(LONGEST)),
            |from| psk::duration_or_infinity(from, SECOND, LONGEST),
            |it| {
                let shown = it.map(value::show_duration);
                format!("{:?}", shown.as_deref().unwrap_or("infinity"))
            }
        ),
        "A session is closed after this long without a record."
    ),
    key!(
        "dtls_options.mtu",
        options.mtu,
        integer(256, 65_507),
        "Largest UDP payload that is sent, in bytes: what the path carries less 48 for IPv6 and UDP."
    ),
);
