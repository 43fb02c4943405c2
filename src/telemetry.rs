//! What the gateway says of itself: counters, where every datagram and message that is dropped is
//! counted, and how often its log says so.

use std::sync::Arc;

mod counter;
mod events;
mod line;
mod lines;
#[cfg(feature = "http")]
mod ring;
mod timings;

pub use counter::Counter;
pub use events::{EventLog, TakesEvents};
pub use line::line_of;
pub(crate) use lines::limited;
pub use lines::{INTERVAL, LogLimiter, LogReason};
#[cfg(feature = "http")]
pub(crate) use ring::{LogLine, ring};
#[cfg(any(feature = "http", feature = "internals"))]
pub use timings::BOUNDS_US;
pub use timings::{LISTENERS, ListenerTimes, Times, Timings};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// The counters of one shard, or of a host.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: Counter,)*
            /// How often a line is logged that peers can cause; shared by all shards.
            pub lines: Arc<LogLimiter>,
            /// How long things take.
            pub timings: Timings,
        }

        impl Counters {
            /// Counters of a shard that shares its log with others.
            pub fn new(lines: Arc<LogLimiter>) -> Self {
                Self { lines, ..Self::default() }
            }

            /// What a counter means; empty for what is none.
            #[cfg(any(feature = "http", feature = "internals"))]
            pub fn help(name: &str) -> &'static str {
                match name {
                    $(stringify!($name) => concat!($($doc),*),)*
                    _ => "",
                }
            }

            /// Name and value of each counter, in order of declaration.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Datagrams from devices.
    datagrams_received,
    /// Datagrams to devices.
    datagrams_sent,
    /// Datagrams that the kernel did not accept for sending.
    datagrams_send_failed,
    /// Bytes from devices.
    bytes_received,
    /// Bytes to devices.
    bytes_sent,
    /// Datagrams that are not CoAP messages (RFC 7252 §3).
    datagrams_malformed,
    /// Well-formed but unexpected messages: late ACKs, unknown tokens, unknown peers.
    datagrams_unexpected,
    /// Repeated confirmable or non-confirmable messages, answered from the cache or ignored.
    datagrams_duplicate,
    /// Datagrams or commands dropped because a mailbox was full.
    mailbox_overflow,
    /// Datagrams dropped because the access rules of their listener deny the address.
    datagrams_denied,
    /// Datagrams dropped because of the rate of their source, of all strangers, or of their device.
    datagrams_limited,
    /// Datagrams of strangers dropped because more arrived than the shard could handle.
    datagrams_shed,
    /// Datagrams the kernel dropped because the receive buffer was full.
    datagrams_overrun,
    /// Datagrams not sent because their receiver had got three times the bytes that it sent, and had
    /// not proved its address.
    answers_withheld,
    /// Requests answered 4.01 with an Echo option.
    echo_challenges,
    /// Registrations accepted.
    registered,
    /// Registrations refused.
    register_refused,
    /// Registers and Updates refused for the size of their query, object list or endpoint name.
    register_too_large,
    /// Registrations refused because there were too many per second; part of `register_refused`.
    registers_limited,
    /// Registrations refused because the endpoint, its registration or its mountpoint belongs to
    /// another device.
    identity_refused,
    /// Updates accepted.
    updated,
    /// Devices that de-registered.
    deregistered,
    /// Registrations whose lifetime ran out.
    expired,
    /// Registrations that moved to another address.
    address_changed,
    /// DTLS connections closed for a newer one of their identity.
    sessions_displaced,
    /// Registrations now (a gauge).
    registrations,
    /// Observations now (a gauge).
    observations,
    /// Commands from MQTT.
    commands,
    /// Commands that the gateway itself answered with an error: malformed, not registered, overflow,
    /// expired.
    commands_refused,
    /// Messages of the gateway that came back as commands, for instance through a bridge, and were
    /// dropped.
    commands_returned,
    /// Commands for endpoints that are not registered here, left to other gateways.
    commands_not_ours,
    /// Devices claimed by this gateway (`mqtt.ownership_topic`), each registration once.
    ownership_claimed,
    /// Devices handed over to another gateway.
    ownership_given,
    /// Devices taken over from another gateway.
    ownership_taken,
    /// Devices of another gateway that did not hand them over in time.
    ownership_without,
    /// Messages below `mqtt.ownership_topic` that are invalid or unexpected.
    ownership_refused,
    /// Events and messages about ownership dropped because a queue was full.
    ownership_dropped,
    /// Retained messages that the embedded broker did not keep because a limit was reached.
    retained_refused,
    /// Subscriptions that got no retained messages because too many subscriptions waited for them.
    retained_withheld,
    /// Client sessions of the embedded broker, and messages for them, that are not stored because a
    /// limit was reached.
    sessions_refused,
    /// Failed logins at the embedded broker.
    mqtt_logins_failed,
    /// Messages and subscriptions of clients that `mqtt.acl_file` does not allow.
    mqtt_denied,
    /// Messages that the broker of `mqtt.broker` refused; part of `publish_dropped`.
    publish_refused,
    /// Subscriptions that the broker of `mqtt.broker` refused.
    subscriptions_refused,
    /// Response topics of commands that were ignored (`response_topics`).
    replies_refused,
    /// Commands that waited for a sleeping device.
    commands_queued,
    /// Batches of changes written to the store.
    store_commits,
    /// Changes written to the store.
    store_changes,
    /// Attempts to write a batch that failed.
    store_failed,
    /// Changes lost because the store could not write them in time.
    store_lost,
    /// Registrations restored from the store.
    store_restored,
    /// Requests sent to devices.
    requests,
    /// Responses from devices.
    responses,
    /// Messages sent again because no acknowledgement arrived.
    retransmissions,
    /// Exchanges that ended without an answer.
    timeouts,
    /// Requests answered by a Reset.
    resets,
    /// Notifications from devices.
    notifications,
    /// Sends from devices.
    sends,
    /// Observations renewed because they were silent for twice their `pmax`.
    observations_silent,
    /// Silent observations that ended after three attempts to renew them.
    observations_lost,
    /// Notifications older than one already seen (RFC 7641 §3.4).
    notifications_stale,
    /// Payloads that could not be decoded.
    decode_errors,
    /// Block-wise transfers to or from devices that were given up: unexpected blocks, too slow, too
    /// large, or too many requests.
    transfers_failed,
    /// MQTT messages passed to the host.
    published,
    /// MQTT messages that the host could not accept.
    publish_dropped,
    /// Log lines dropped because they could not be written fast enough.
    log_lines_dropped,
    /// Shards that were restarted after a panic.
    shard_panics,
    /// DTLS: hellos without a cookie, each answered by a HelloVerifyRequest.
    dtls_hellos,
    /// DTLS: hellos with a cookie that is wrong or too old.
    dtls_bad_cookies,
    /// DTLS: datagrams that are not DTLS, or hellos that violate RFC 6347.
    dtls_malformed,
    /// DTLS: datagrams of peers without a session or handshake.
    dtls_unknown_peer,
    /// DTLS: datagrams with an unknown connection id.
    dtls_unknown_ids,
    /// DTLS: datagrams that arrived at another shard and were forwarded by their connection id.
    dtls_records_forwarded,
    /// DTLS: devices recognised at a new address by their connection id.
    dtls_moves,
    /// DTLS: records dropped as replayed, not authentic, too early or too many.
    dtls_records_dropped,
    /// DTLS: handshakes started, after the cookie exchange.
    dtls_handshakes_started,
    /// DTLS: hellos not answered because of repeated failures from the same address.
    dtls_handshakes_slowed,
    /// DTLS: handshakes not started because too many were in progress.
    dtls_handshakes_refused,
    /// DTLS: handshakes not started because there were too many per second.
    dtls_handshakes_limited,
    /// DTLS: handshakes ended to make room for others when too many were in progress.
    dtls_handshakes_evicted,
    /// DTLS: handshakes completed, including resumed ones.
    dtls_handshakes_completed,
    /// DTLS: handshakes completed that resumed an earlier session.
    dtls_handshakes_resumed,
    /// DTLS: handshakes that failed, for instance because of a wrong key, or were started again.
    dtls_handshakes_failed,
    /// DTLS: handshakes that timed out.
    dtls_handshakes_timed_out,
    /// DTLS: handshakes that failed or fell silent because of a wrong key or an unknown identity.
    dtls_keys_failed,
    /// DTLS: unknown identities.
    dtls_unknown_identities,
    /// DTLS: sessions now (a gauge).
    dtls_sessions,
    /// DTLS: sessions restored from the store.
    dtls_sessions_restored,
    /// DTLS: sessions closed to make room for new ones.
    dtls_sessions_evicted,
    /// DTLS: sessions closed because their credential or address had more than others, or more than
    /// allowed; part of `dtls_sessions_evicted`.
    dtls_sessions_over_share,
    /// DTLS: datagrams for devices that could not be sent: no session, or too long.
    dtls_send_failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_names_every_counter() {
        let counters = Counters::default();
        counters.registered.inc();
        counters.registered.add(2);
        assert!(counters.snapshot().contains(&("registered", 3)));
    }
}
