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
    /// Datagrams the kernel did not take.
    datagrams_send_failed,
    /// Bytes from devices.
    bytes_received,
    /// Bytes to devices.
    bytes_sent,
    /// Datagrams that are no CoAP message (RFC 7252 §3).
    datagrams_malformed,
    /// Well-formed messages nobody waits for: late ACKs, strange tokens, unknown peers.
    datagrams_unexpected,
    /// Confirmable or non-confirmable messages seen before and answered from the cache or ignored.
    datagrams_duplicate,
    /// Datagrams or commands dropped because a mailbox was full.
    mailbox_overflow,
    /// Datagrams from addresses that the access rules of their listener do not let in, dropped.
    datagrams_denied,
    /// Datagrams beyond the rate of their source, of strangers in all, or of their device, dropped.
    datagrams_limited,
    /// Datagrams of strangers dropped because more arrived than the shard could handle.
    datagrams_shed,
    /// Datagrams the kernel dropped because the receive buffer was full.
    datagrams_overrun,
    /// Datagrams not sent because their receiver had not shown that it receives there and had got
    /// three times what it sent.
    answers_withheld,
    /// Requests answered 4.01 with an Echo option.
    echo_challenges,
    /// Registrations accepted.
    registered,
    /// Registrations refused.
    register_refused,
    /// Registers and Updates refused for the size of their query, object list or endpoint name.
    register_too_large,
    /// Registrations refused because there were too many a second; part of those.
    registers_limited,
    /// Refused because the endpoint, its registration or its mountpoint is another one's.
    identity_refused,
    /// Updates accepted.
    updated,
    /// Devices that said goodbye.
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
    /// Commands answered with an error of our own: malformed, not registered, overflow, expired.
    commands_refused,
    /// Messages of the gateway's own that came back as commands, by a bridge for instance, and were
    /// dropped.
    commands_returned,
    /// Commands for endpoints that are not registered here, left to other gateways.
    commands_not_ours,
    /// Devices claimed as this gateway's own (`mqtt.ownership_topic`), each registration once.
    ownership_claimed,
    /// Devices given to another gateway.
    ownership_given,
    /// Devices of another gateway with which this one went on.
    ownership_taken,
    /// Devices of another gateway from which nothing came in time.
    ownership_without,
    /// Messages below `mqtt.ownership_topic` that are none, or that nobody asked for.
    ownership_refused,
    /// Events and messages about ownership for which there was no room.
    ownership_dropped,
    /// Retained messages that the embedded broker did not keep, for want of room.
    retained_refused,
    /// Subscriptions that got no retained messages because too many waited for theirs.
    retained_withheld,
    /// Sessions of clients of the embedded broker, and messages for them, that are not kept for the next
    /// start, for want of room.
    sessions_refused,
    /// Failed logins at the embedded broker.
    mqtt_logins_failed,
    /// Messages and subscriptions of clients that `mqtt.acl_file` does not allow.
    mqtt_denied,
    /// Messages that the broker of `mqtt.broker` refused; part of `publish_dropped`.
    publish_refused,
    /// Subscriptions that it refused.
    subscriptions_refused,
    /// Response topics of commands to which no answer goes (`response_topics`).
    replies_refused,
    /// Commands that waited for a sleeping device.
    commands_queued,
    /// Batches the store has written.
    store_commits,
    /// Changes in them.
    store_changes,
    /// Attempts to write a batch that failed.
    store_failed,
    /// Changes that found no room before the store could write them.
    store_lost,
    /// Registrations that came back from the store.
    store_restored,
    /// Requests sent to devices.
    requests,
    /// Responses from devices.
    responses,
    /// Messages sent again because no acknowledgement came.
    retransmissions,
    /// Exchanges that ended without an answer.
    timeouts,
    /// Requests answered by Reset.
    resets,
    /// Notifications from devices.
    notifications,
    /// Sends from devices.
    sends,
    /// Observations that were silent for twice their `pmax` and were asked for again.
    observations_silent,
    /// Of these, given up after three times.
    observations_lost,
    /// Notifications older than one already seen (RFC 7641 §3.4).
    notifications_stale,
    /// Payloads that could not be decoded.
    decode_errors,
    /// Block-wise transfers to or from devices given up: blocks that nobody asked for, too slow, too
    /// large or too many requests.
    transfers_failed,
    /// MQTT messages handed to the host.
    published,
    /// MQTT messages the host could not take.
    publish_dropped,
    /// Lines of the log that found no room on their way out.
    log_lines_dropped,
    /// Shards that began anew after a panic.
    shard_panics,
    /// DTLS: hellos without a cookie, each answered by a HelloVerifyRequest.
    dtls_hellos,
    /// DTLS: hellos with a cookie that is not ours or too old.
    dtls_bad_cookies,
    /// DTLS: datagrams that are no DTLS, or hellos that break RFC 6347.
    dtls_malformed,
    /// DTLS: datagrams of peers without session or handshake.
    dtls_unknown_peer,
    /// DTLS: datagrams with a connection id that no session has.
    dtls_unknown_ids,
    /// DTLS: datagrams that came to another shard than that of their session, as their connection id
    /// says.
    dtls_records_forwarded,
    /// DTLS: sessions whose device has spoken from another address than before.
    dtls_moves,
    /// DTLS: records dropped as replayed, not authentic, too early or too many.
    dtls_records_dropped,
    /// DTLS: handshakes begun, each after its cookie exchange.
    dtls_handshakes_started,
    /// DTLS: hellos not answered because handshakes from the same address have failed again and again.
    dtls_handshakes_slowed,
    /// DTLS: handshakes not begun because too many were under way.
    dtls_handshakes_refused,
    /// DTLS: handshakes not begun because there were too many a second.
    dtls_handshakes_limited,
    /// DTLS: handshakes given up for new ones from elsewhere, or because they made no progress, when
    /// too many were under way.
    dtls_handshakes_evicted,
    /// DTLS: handshakes completed, resumed ones included.
    dtls_handshakes_completed,
    /// DTLS: handshakes completed that resumed an earlier session.
    dtls_handshakes_resumed,
    /// DTLS: handshakes that failed, by a wrong key for instance, or were begun anew.
    dtls_handshakes_failed,
    /// DTLS: handshakes that ran out of time.
    dtls_handshakes_timed_out,
    /// DTLS: handshakes that failed, or fell silent, for want of a key: a wrong one, or an identity that
    /// nobody knows.
    dtls_keys_failed,
    /// DTLS: identities nobody knows.
    dtls_unknown_identities,
    /// DTLS: sessions now (a gauge).
    dtls_sessions,
    /// DTLS: sessions that came back from the store.
    dtls_sessions_restored,
    /// DTLS: sessions closed to make room for new ones.
    dtls_sessions_evicted,
    /// DTLS: those among them whose credential or address had more sessions than others, or more than
    /// it may have.
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
