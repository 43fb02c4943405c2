//! What the gateway holds at most, and takes a second.

use serde_json::Value;

use super::key::{GB, Key, MB, key};
use crate::config::schema::Config;
use crate::config::value;
use crate::memory::LEAST_CEILING;

pub(super) static KEYS: &[Key<Config>] = &[
    Key {
        name: "limits.memory",
        form: || {
            format!(
                "size, {} to {}, or `\"auto\"`",
                value::show_bytes(LEAST_CEILING),
                value::show_bytes(1024 * GB)
            )
        },
        meaning: "Memory limit for everything that senders can make the gateway store, divided into shares: registrations, observations, queues, waiting requests, block transfers, remembered replies, mailboxes, messages for the broker, DTLS. `auto` is a quarter of what the machine, its cgroup and the process limits allow, but at least 64MB. Any value is lowered to three quarters of that amount. See [memory](memory.md).",
        read: |into, from| {
            into.limits.memory = match from {
                Value::String(text) if text == "auto" => None,
                _ => Some(value::bytes(from, LEAST_CEILING, 1024 * GB)?),
            };
            Ok(())
        },
        show: |of| {
            let bytes = of.limits.memory.map(value::show_bytes);
            format!("{:?}", bytes.as_deref().unwrap_or("auto"))
        },
        is_text: false,
    },
    key!(
        "limits.max_registrations",
        limits.max_registrations,
        integer(1, 100_000_000),
        "Most registrations in the whole gateway."
    ),
    key!(
        "limits.max_observations",
        limits.max_observations,
        integer(1, 65_535),
        "Most observations of one device."
    ),
    key!(
        "limits.max_query_items",
        limits.max_query_items,
        integer(8, 4096),
        "Most query items of one registration, including those of Updates; a Register or Update beyond it is answered 4.00."
    ),
    key!(
        "limits.max_query_bytes",
        limits.max_query_bytes,
        size(512, 64 << 10),
        "Most bytes of the query of one registration, including those of Updates; a Register or Update beyond it is answered 4.00."
    ),
    key!(
        "limits.max_object_list",
        limits.max_object_list,
        size(1024, 16 * MB),
        "Most bytes of the object list in a Register or Update; a longer one is answered 4.13."
    ),
    key!(
        "limits.max_identity_registrations",
        limits.max_identity_registrations,
        integer(1, 1_000_000),
        "Most registrations of one PSK identity; another Register is answered 5.03."
    ),
    Key {
        name: "limits.max_command_size",
        form: || {
            format!(
                "size, {} to {}, or `\"auto\"`",
                value::show_bytes(64),
                value::show_bytes(64 * MB)
            )
        },
        meaning: "Most bytes of a command's JSON. `auto` is twice `blockwise.max_body_size`, and at least 1MB, so that the largest body fits in base64.",
        read: |into, from| {
            into.limits.max_command_size = match from {
                Value::String(text) if text == "auto" => None,
                _ => Some(value::bytes(from, 64, 64 * MB)?),
            };
            Ok(())
        },
        show: |of| {
            let bytes = of.limits.max_command_size.map(value::show_bytes);
            format!("{:?}", bytes.as_deref().unwrap_or("auto"))
        },
        is_text: false,
    },
    key!(
        "limits.dedup_bytes",
        limits.dedup_bytes,
        size(64 << 10, 64 * GB),
        "Most bytes of replies remembered for deduplication in the whole gateway; each shard has an equal part. A smaller share of `limits.memory` wins."
    ),
    key!(
        "limits.blockwise_bytes",
        limits.blockwise_bytes,
        size(64 << 10, 64 * GB),
        "Most bytes of unfinished block-wise transfers in the whole gateway. A smaller share of `limits.memory` wins."
    ),
    key!(
        "limits.max_model_file",
        limits.max_model_file,
        size(1024, GB),
        "Largest object definition file."
    ),
    key!(
        "rates.datagrams_per_source",
        rates.datagrams_per_source,
        rate,
        "Datagrams from one address (IPv6: one /64) that belong neither to a registered device nor to a DTLS session. See [security](security.md#rates)."
    ),
    key!(
        "rates.datagrams",
        rates.datagrams,
        rate,
        "Such datagrams from all addresses together."
    ),
    key!(
        "rates.datagrams_per_device",
        rates.datagrams_per_device,
        rate,
        "Datagrams from one registered device or DTLS session."
    ),
    key!(
        "rates.registrations_per_source",
        rates.registrations_per_source,
        rate,
        "Registers from one address (IPv6: one /64); further ones are answered 5.03 with Max-Age."
    ),
    key!(
        "rates.registrations",
        rates.registrations,
        rate,
        "Registers from all addresses together."
    ),
    key!(
        "rates.handshakes_per_source",
        rates.handshakes_per_source,
        rate,
        "DTLS handshakes started from one address (IPv6: one /64), counted after the cookie exchange; further hellos are dropped."
    ),
    key!(
        "rates.handshakes",
        rates.handshakes,
        rate,
        "DTLS handshakes started from all addresses together."
    ),
];
