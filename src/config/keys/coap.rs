//! CoAP: transmission, blocks, and commands that wait.

use std::time::Duration;

use super::key::{GB, HOUR, Key, LONGEST, SECOND, key};
use crate::config::choices::EchoMode;
use crate::config::schema::Config;
use crate::config::value;

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "coap.ack_timeout",
        coap.ack_timeout,
        duration(Duration::from_millis(100), HOUR),
        "ACK_TIMEOUT of RFC 7252 section 4.8: wait before the first retransmission."
    ),
    key!(
        "coap.ack_random_factor",
        coap.ack_random_factor,
        by(
            || "number, 1 to 10".to_owned(),
            |from| value::number(from, 1.0, 10.0),
            ToString::to_string
        ),
        "ACK_RANDOM_FACTOR of RFC 7252 section 4.8."
    ),
    key!(
        "coap.max_retransmit",
        coap.max_retransmit,
        integer(0, 20),
        "MAX_RETRANSMIT of RFC 7252 section 4.8."
    ),
    key!(
        "coap.nstart",
        coap.nstart,
        integer(1, 64),
        "NSTART of RFC 7252 section 4.7: exchanges with one device at the same time."
    ),
    key!(
        "coap.response_timeout",
        coap.response_timeout,
        duration(SECOND, HOUR),
        "Time after an empty ACK within which the separate response must come."
    ),
    key!(
        "coap.exchange_lifetime",
        coap.exchange_lifetime,
        duration(SECOND, HOUR),
        "How long message ids are remembered for deduplication."
    ),
    key!(
        "coap.echo",
        coap.echo,
        choice(
            "off" = EchoMode::Off,
            "new-address" = EchoMode::NewAddress,
            "always" = EchoMode::Always
        ),
        "Who must prove that it receives at its address, by returning the Echo option (RFC 9175) of a 4.01. `off`: nobody. `new-address`: a device that registers from an unproven address, or sends an Update from a new one. `always`: every Register, Update and De-register. Never needed over DTLS. Few clients support it, see [security](security.md#echo)."
    ),
    key!(
        "blockwise.enable",
        blockwise.enable,
        flag,
        "Block-wise transfer (RFC 7959). If false, a request with a Block option is answered 4.02."
    ),
    key!(
        "blockwise.max_block_size",
        blockwise.max_block_size,
        integer(16, 1024),
        "Largest block in bytes: 16, 32, 64, 128, 256, 512 or 1024."
    ),
    key!(
        "blockwise.max_body_size",
        blockwise.max_body_size,
        size(1024, GB),
        "Largest reassembled body, in both directions."
    ),
    key!(
        "blockwise.exchange_lifetime",
        blockwise.exchange_lifetime,
        duration(SECOND, HOUR),
        "Within this time a block-wise transfer must end or make progress of 16 blocks, or it is given up."
    ),
    key!(
        "queue.max_commands",
        queue.max_commands,
        integer(1, 1_000_000),
        "Most commands that may wait for one device; another one is answered 5.03 `queue_full`."
    ),
    key!(
        "queue.max_bytes",
        queue.max_bytes,
        size(1024, GB),
        "Most bytes of commands that may wait for one device. A single command larger than this is answered `too_large`."
    ),
    key!(
        "queue.max_total",
        queue.max_total,
        integer(1, 100_000_000),
        "Most commands that may wait for all devices together; another one is answered 5.03 `queue_full`."
    ),
    key!(
        "queue.max_total_bytes",
        queue.max_total_bytes,
        size(1 << 20, 64 * GB),
        "Most bytes of memory for waiting commands. The share of `limits.memory` for commands may be smaller; a command beyond that share is answered 5.03 `memory_full`."
    ),
    key!(
        "queue.max_age",
        queue.max_age,
        duration(SECOND, LONGEST),
        "Longest time that a command may wait; a shorter Message-Expiry-Interval wins."
    ),
];
