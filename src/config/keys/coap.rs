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
        "NSTART of RFC 7252 section 4.7: exchanges with one device at a time."
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
        "Who has to show that it receives at its address, by sending back an Echo option (RFC 9175) that it gets with a 4.01: nobody; a device that registers from an address that has not shown itself or sends an Update from another address than before; or every Register, Update and De-register. Over DTLS nobody has to. Few clients can do it, see [security](security.md#plain-udp)."
    ),
    key!(
        "blockwise.enable",
        blockwise.enable,
        flag,
        "Block-wise transfer (RFC 7959); without it a request with a Block option is answered 4.02."
    ),
    key!(
        "blockwise.max_block_size",
        blockwise.max_block_size,
        integer(16, 1024),
        "Bytes of one block: 16, 32, 64, 128, 256, 512 or 1024."
    ),
    key!(
        "blockwise.max_body_size",
        blockwise.max_body_size,
        size(1024, GB),
        "Largest assembled body, both ways."
    ),
    key!(
        "blockwise.exchange_lifetime",
        blockwise.exchange_lifetime,
        duration(SECOND, HOUR),
        "Within this time a block-wise transfer has to end, or to bring 16 more blocks. Otherwise it is given up."
    ),
    key!(
        "queue.max_commands",
        queue.max_commands,
        integer(1, 1_000_000),
        "Commands waiting for one device."
    ),
    key!(
        "queue.max_bytes",
        queue.max_bytes,
        size(1024, GB),
        "Bytes of commands waiting for one device. A command beyond it alone is answered `too_large`."
    ),
    key!(
        "queue.max_age",
        queue.max_age,
        duration(SECOND, LONGEST),
        "Longest wait of a command; a shorter Message-Expiry-Interval wins."
    ),
];
