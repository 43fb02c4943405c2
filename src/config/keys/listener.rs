//! The keys of one listener.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::key::{GB, HOUR, Key, Keys, LONGEST, SECOND, key};
use crate::config::cipher::{CipherSuite, Group};
use crate::config::listener::{DtlsListener, IdleTimeout, PlainRegisters, Takeover, UdpListener};
use crate::config::{certificates, psk, value};
use crate::credentials::{CertificateIdentity, EndpointRule, KeyEncoding, Verify};

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
                "Most registrations at this listener; with DTLS also most sessions."
            ),
            key!(
                "max_conn_rate",
                $($at.)? max_conn_rate,
                rate,
                "Rate of new devices: over UDP, Registers from addresses without a registered device; over DTLS, handshakes. A Register beyond it is answered 5.03 with Max-Age; a handshake beyond it is dropped, and the device must try again."
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
                "Which addresses may send: `\"allow 192.168.0.0/24\"`, `\"deny 2001:db8::/32\"`, `\"deny all\"`. The first matching rule applies; an address that no rule matches may send. Datagrams from denied addresses are dropped unread, even those of registered devices."
            ),
            key!(
                "mountpoint",
                $($at.)? mountpoint,
                optional_text,
                "Replaces the gateway's `mountpoint` for this listener."
            ),
            key!(
                "shared_mountpoint",
                $($at.)? shared_mountpoint,
                by(
                    || "true or false".to_owned(),
                    |from| value::boolean(from).map(Some),
                    |_| "none".to_owned()
                ),
                "Replaces the gateway's `shared_mountpoint` for this listener."
            ),
            key!(
                "format",
                $($at.)? format,
                text_by(
                    || "as `format`".to_owned(),
                    |from| value::format(from).map(Some),
                    |_| "none".to_owned()
                ),
                "Replaces the gateway's `format` for this listener."
            ),
            key!(
                "udp_options.recbuf",
                $($at.)? recbuf,
                size(4096, GB),
                "Size of the kernel's receive buffer."
            ),
            key!(
                "udp_options.sndbuf",
                $($at.)? sndbuf,
                size(4096, GB),
                "Size of the kernel's send buffer."
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
        "Replaces the gateway's `plain_registers` for this listener."
    ),
);

/// The keys of `listeners.dtls.NAME`.
pub(crate) static DTLS_KEYS: Keys<DtlsListener> = listener_keys!(common;
    key!(
        "psk_file",
        psk_file,
        optional_text,
        "File with a line `identity:key` for each device, or `identity:key:endpoints` where needed; reloaded when it changes. See [below](#pre-shared-keys)."
    ),
    key!(
        "psk_file_keys",
        psk_file_keys,
        choice("hex" = KeyEncoding::Hex, "text" = KeyEncoding::Text),
        "How keys are written in that file. `hex`: in hexadecimal, as in Mosquitto's `psk_file`. `text`: the text itself is the key, as in EMQX's `psk_authentication.init_file`."
    ),
    key!(
        "psk",
        psk,
        by(|| "table or list".to_owned(), psk::psk, |_| "{}".to_owned()),
        "Credentials in the configuration itself: `{ identity = \"key\" }`, `{ identity = { key, endpoints } }` or `[{ identity, key, endpoints }]`; a key is hexadecimal, `\"base64:…\"` or `\"text:…\"`. They take precedence over those of the file."
    ),
    key!(
        "identity_separator",
        identity_separator,
        text_by(|| "characters".to_owned(), psk::separators, value::quoted),
        "Set of characters, such as `\"#/\"`. An identity that is not configured may be a configured one followed by one of these characters and a suffix, so that one key serves several connections. Empty: no suffixes."
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
        "Which endpoints an identity may register. `owned`: its own name, those that its credential lists, and all that no credential covers. `any`: all. `equal`: only its own name, with or without suffix. `listed`: only those that its credential lists. Others are answered 4.03. See [below](#endpoints)."
    ),
    key!(
        "certificate_identity",
        certificates.identity,
        choice(
            "cn" = CertificateIdentity::Cn,
            "san" = CertificateIdentity::San,
            "fingerprint" = CertificateIdentity::Fingerprint
        ),
        "Which part of a device's certificate is its identity. `cn`: the common name of the subject. `san`: the alternative name that is a `urn:` URI, or else the DNS name. `fingerprint`: the SHA-256 of the certificate in lower-case hexadecimal. A certificate with no such name, or with two, is refused. See [below](#certificates)."
    ),
    key!(
        "pinned_certificates",
        certificates.pinned,
        by(
            || "list of fingerprints".to_owned(),
            certificates::pinned,
            |_| "[]".to_owned()
        ),
        "SHA-256 fingerprints of device certificates that are accepted whoever issued them, including self-signed ones, in addition to those issued by a CA of `dtls_options.cacertfile`."
    ),
    key!(
        "certificate_endpoints",
        certificates.endpoints,
        by(
            || "table".to_owned(),
            certificates::endpoints,
            |_| "{}".to_owned()
        ),
        "Endpoints that the identity of a certificate may register, like the endpoints of a credential: `{ \"sn1\" = [\"truck-*\"] }`."
    ),
    key!(
        "takeover",
        takeover,
        choice("move" = Takeover::Move, "end" = Takeover::End),
        "What happens to a registration when a newer connection of the same identity displaces its connection. `move`: it continues over the new connection. `end`: it ends."
    ),
    infinity_key!(
        "max_sessions_per_credential",
        max_sessions_per_credential,
        "Most sessions with one key, whatever the suffixes. When there are more, the least recently used of them is closed. Without this limit, the credential with the most sessions loses one when `max_connections` is exceeded."
    ),
    infinity_key!(
        "max_sessions_per_source",
        max_sessions_per_source,
        "Most sessions from one address (IPv6: one /64). When there are more, the least recently used of them is closed."
    ),
    key!(
        "connection_id.length",
        connection_id_length,
        by(
            || "0 or 8".to_owned(),
            |from| match value::integer(from, 0, 8)? {
                length @ (0 | 8) => Ok(length),
                other => Err(format!("expected 0 or 8, found {other}")),
            },
            ToString::to_string
        ),
        "Length in bytes of the connection ids (RFC 9146) for devices that offer to use them. Such a device can change its address with each message without a new handshake. 0: none."
    ),
    key!(
        "connection_id.padding",
        connection_id_padding,
        integer(0, 1024),
        "Pads records to devices that want an id in them, so that their length reveals less: the encrypted part (the payload and one byte) is padded to a multiple of this many bytes (RFC 9146 section 4). Most devices want no id, and get no padding. 0: no padding."
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
        "Cipher suites in order of preference."
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
        "Groups for the key exchange of ECDHE suites, in order of preference. With a device that supports none of them, a suite without ECDHE is used, or the handshake fails. secp384r1 costs the gateway five times as much CPU as x25519."
    ),
    Key {
        name: "dtls_options.versions",
        form: || format!("list with `{:?}`", psk::VERSION),
        meaning: "DTLS 1.2 is the only version supported.",
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
        "Time before the first retransmission of a handshake flight; doubled each time."
    ),
    key!(
        "dtls_options.max_handshakes",
        options.max_handshakes,
        integer(1, 10_000_000),
        "Most handshakes in progress at the same time; each takes about 45 kB. When the limit is reached, the address with the most of them loses one. Each shard has its part of the limit."
    ),
    key!(
        "dtls_options.max_failures",
        options.max_failures,
        integer(0, 100_000),
        "How many handshakes per minute from one address (IPv6: one /64) may fail because of a wrong key or an unknown identity. Beyond that, the gateway answers its hellos only at about this rate. Completed handshakes count in its favour. 0: no limit."
    ),
    key!(
        "dtls_options.reuse_sessions",
        options.reuse_sessions,
        flag,
        "Whether a device can resume its session by session id."
    ),
    key!(
        "dtls_options.session_cache",
        options.session_cache,
        integer(1, 100_000_000),
        "How many sessions are remembered for resumption."
    ),
    key!(
        "dtls_options.session_timeout",
        options.session_timeout,
        duration(SECOND, LONGEST),
        "How long sessions are remembered for resumption. A device that resumes its session can keep its old key for up to this time after a host or EMQX has changed it. If the identity has been removed, its session ends at once."
    ),
    key!(
        "dtls_options.idle_timeout",
        options.idle_timeout,
        by(
            || format!(
                "duration, 1s to {}, `\"registration\"` or `\"infinity\"`",
                value::show_duration(LONGEST)
            ),
            |from| psk::idle_timeout(from, SECOND, LONGEST),
            |it| match it {
                IdleTimeout::Registration => "\"registration\"".to_owned(),
                IdleTimeout::After(after) => format!("{:?}", value::show_duration(*after)),
                IdleTimeout::Never => "\"infinity\"".to_owned(),
            }
        ),
        "A session without records is closed after this time. `\"registration\"`: a session stays open while its device is registered; without a registration it is closed after `session_timeout`."
    ),
    key!(
        "dtls_options.mtu",
        options.mtu,
        integer(256, 65_507),
        "Largest UDP payload that is sent, in bytes: the path MTU minus 48 for IPv6 and UDP."
    ),
    key!(
        "dtls_options.certfile",
        certificates.certfile,
        optional_text,
        "PEM file with the certificate of the gateway and its chain. With it, devices can use certificates; devices with pre-shared keys can still connect. It is reloaded when it changes, like the three files below. See [below](#certificates)."
    ),
    key!(
        "dtls_options.keyfile",
        certificates.keyfile,
        optional_text,
        "PEM file with the private key of that certificate. If it is not set, the key must be in `certfile`."
    ),
    key!(
        "dtls_options.password",
        certificates.password,
        text_by(|| "string".to_owned(), certificates::password, |_| "none".to_owned()),
        "Password of an encrypted private key."
    ),
    key!(
        "dtls_options.cacertfile",
        certificates.cacertfile,
        optional_text,
        "PEM file with the CAs whose device certificates are accepted. An issuing CA may be listed without its root."
    ),
    key!(
        "dtls_options.crlfile",
        certificates.crlfile,
        optional_text,
        "PEM file with revocation lists, one for each CA that issues device certificates. A device is refused if its CA has no list or an outdated one."
    ),
    key!(
        "dtls_options.verify",
        certificates.verify,
        choice("verify_peer" = Verify::Peer, "verify_none" = Verify::None),
        "Whether devices may use certificates. With `verify_none`, EMQX's default, suites with certificates are not offered, because the gateway could not tell the devices apart."
    ),
    key!(
        "dtls_options.fail_if_no_peer_cert",
        certificates.fail_if_no_peer_cert,
        flag,
        "For EMQX's configuration only: a device with neither a certificate nor a pre-shared key is always refused; `false` gives a warning."
    ),
    key!(
        "dtls_options.depth",
        certificates.depth,
        integer(0, 20),
        "Most intermediate certificates between that of a device and a CA of `cacertfile`."
    ),
);
