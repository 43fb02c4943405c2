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
            Key {
                name: "max_connections",
                form: || "integer or `\"infinity\"`".to_owned(),
                meaning: "Most registrations by this listener, with DTLS also most sessions.",
                read: |into, from| {
                    into.$($at.)? max_connections = value::count_or_infinity(from)?;
                    Ok(())
                },
                show: |of| of.$($at.)? max_connections.to_string(),
                is_text: false,
            },
            key!(
                "max_conn_rate",
                $($at.)? max_conn_rate,
                rate,
                "New devices that are let in: with UDP Registers from addresses where no device is registered, with DTLS handshakes. A Register beyond it is answered 5.03 with Max-Age, a handshake has to be begun anew."
            ),
            Key {
                name: "access_rules",
                form: || "list of rules".to_owned(),
                meaning: "Which addresses may send: `\"allow 192.168.0.0/24\"`, `\"deny 2001:db8::/32\"`, `\"deny all\"`. The first rule that matches counts; what none matches may send. Datagrams of others are dropped unread, also those of devices that are registered.",
                read: |into, from| {
                    into.$($at.)? access_rules = value::access_rules(from)?;
                    Ok(())
                },
                show: |of| {
                    let rules = of.$($at.)? access_rules.rules().iter();
                    format!("{:?}", rules.map(ToString::to_string).collect::<Vec<_>>())
                },
                is_text: false,
            },
            key!(
                "mountpoint",
                $($at.)? mountpoint,
                optional_text,
                "Instead of the gateway's `mountpoint`."
            ),
            Key {
                name: "shared_mountpoint",
                form: || "true or false".to_owned(),
                meaning: "Instead of the gateway's `shared_mountpoint`.",
                read: |into, from| {
                    into.$($at.)? shared_mountpoint = Some(value::boolean(from)?);
                    Ok(())
                },
                show: |_| "none".to_owned(),
                is_text: false,
            },
            Key {
                name: "format",
                form: || "as `format`".to_owned(),
                meaning: "Instead of the gateway's `format`.",
                read: |into, from| {
                    into.$($at.)? format = Some(value::format(from)?);
                    Ok(())
                },
                show: |_| "none".to_owned(),
                is_text: true,
            },
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
        Key {
            name: $name,
            form: || "integer or `\"infinity\"`".to_owned(),
            meaning: $meaning,
            read: |into, from| {
                into.$($field).+ = value::count_or_infinity(from)?;
                Ok(())
            },
            show: |of| match of.$($field).+ {
                usize::MAX => "\"infinity\"".to_owned(),
                count => count.to_string(),
            },
            is_text: false,
        }
    };
}

/// The keys of `listeners.udp.NAME`.
pub(crate) static UDP_KEYS: Keys<UdpListener> = listener_keys!(;
    Key {
        name: "plain_registers",
        form: || "as `plain_registers`".to_owned(),
        meaning: "Instead of the gateway's `plain_registers`.",
        read: |into, from| {
            into.plain_registers = Some(value::choice(
                from,
                &[("uncovered", PlainRegisters::Uncovered), ("any", PlainRegisters::Any)],
            )?);
            Ok(())
        },
        show: |_| "none".to_owned(),
        is_text: true,
    },
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
    Key {
        name: "psk",
        form: || "table or list".to_owned(),
        meaning: "Credentials here instead of in a file: `{ identity = \"key\" }`, `{ identity = { key, endpoints } }` or `[{ identity, key, endpoints }]`; a key is hexadecimal, `\"base64:…\"` or `\"text:…\"`. They win over those of the file.",
        read: |into, from| {
            into.psk = psk::psk(from)?;
            Ok(())
        },
        show: |_| "{}".to_owned(),
        is_text: false,
    },
    Key {
        name: "identity_separator",
        form: || "characters".to_owned(),
        meaning: "Set of characters, such as `\"#/\"`. An identity that is not configured is taken for a configured one, one of these characters and a suffix; so one key serves several connections. Empty: no suffixes.",
        read: |into, from| {
            into.identity_separator = psk::separators(from)?;
            Ok(())
        },
        show: |of| format!("{:?}", of.identity_separator),
        is_text: true,
    },
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
    Key {
        name: "dtls_options.ciphers",
        form: || {
            let names = CipherSuite::ALL.map(|suite| format!("`\"{}\"`", suite.openssl_name()));
            format!("list of {} or IANA's names", names.join(", "))
        },
        meaning: "Cipher suites, the preferred one first.",
        read: |into, from| {
            into.options.ciphers = psk::ciphers(from)?;
            Ok(())
        },
        show: |of| {
            let names = of.options.ciphers.iter().copied();
            format!("{:?}", names.map(CipherSuite::openssl_name).collect::<Vec<_>>())
        },
        is_text: false,
    },
    Key {
        name: "dtls_options.groups",
        form: || {
            let names = Group::ALL.map(|group| format!("`\"{}\"`", group.name()));
            format!("list of {}", names.join(", "))
        },
        meaning: "Groups for the key exchange of suites with ECDHE, the preferred one first. A device that has none of them gets a suite without ECDHE, or no handshake. secp384r1 costs the gateway five times as much as x25519.",
        read: |into, from| {
            into.options.groups = psk::groups(from)?;
            Ok(())
        },
        show: |of| {
            let names = of.options.groups.iter().copied();
            format!("{:?}", names.map(Group::name).collect::<Vec<_>>())
        },
        is_text: false,
    },
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
    Key {
        name: "dtls_options.idle_timeout",
        form: || format!("duration, 1s to {}, or `\"infinity\"`", value::show_duration(LONGEST)),
        meaning: "A session is closed after this long without a record.",
        read: |into, from| {
            into.options.idle_timeout = psk::duration_or_infinity(from, SECOND, LONGEST)?;
            Ok(())
        },
        show: |of| {
            let shown = of.options.idle_timeout.map(value::show_duration);
            format!("{:?}", shown.as_deref().unwrap_or("infinity"))
        },
        is_text: false,
    },
    key!(
        "dtls_options.mtu",
        options.mtu,
        integer(256, 65_507),
        "Largest UDP payload that is sent, in bytes: what the path carries less 48 for IPv6 and UDP."
    ),
);
