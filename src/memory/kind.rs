//! What bytes are held for, and which part of the ceiling is for it.

/// What memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Registrations with their queries and object lists.
    Registrations,
    /// Observations, pending requests to devices and the bodies of their responses.
    Observations,
    /// Commands waiting for their devices.
    Queues,
    /// Requests from devices that wait for the host's decision or for another shard.
    Waiting,
    /// Requests from devices that are still missing blocks.
    Blocks,
    /// Replies remembered for repeated requests.
    Duplicates,
    /// Messages in the mailboxes of the shards.
    Mailboxes,
    /// Messages that wait for the broker, in the host and in the embedded broker.
    Outboxes,
    /// DTLS handshakes, which anyone can start.
    Handshakes,
    /// DTLS sessions, which require a key.
    Sessions,
    /// Changes that wait to be written to the store.
    Store,
}

/// Number of kinds.
pub(super) const KINDS: usize = 11;

impl Kind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; KINDS] = [
        Self::Registrations,
        Self::Observations,
        Self::Queues,
        Self::Waiting,
        Self::Blocks,
        Self::Duplicates,
        Self::Mailboxes,
        Self::Outboxes,
        Self::Handshakes,
        Self::Sessions,
        Self::Store,
    ];

    /// Name for display and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registrations => "registrations",
            Self::Observations => "observations",
            Self::Queues => "queues",
            Self::Waiting => "waiting requests",
            Self::Blocks => "block transfers",
            Self::Duplicates => "remembered replies",
            Self::Mailboxes => "mailboxes",
            Self::Outboxes => "outboxes",
            Self::Handshakes => "DTLS handshakes",
            Self::Sessions => "DTLS sessions",
            Self::Store => "changes for the store",
        }
    }

    /// Names of the gauge of bytes held and of the counter of refusals, as statistics show them.
    pub(super) const fn statistics(self) -> (&'static str, &'static str) {
        match self {
            Self::Registrations => ("memory_registrations", "memory_refused_registrations"),
            Self::Observations => ("memory_observations", "memory_refused_observations"),
            Self::Queues => ("memory_queues", "memory_refused_queues"),
            Self::Waiting => ("memory_waiting", "memory_refused_waiting"),
            Self::Blocks => ("memory_blocks", "memory_refused_blocks"),
            Self::Duplicates => ("memory_duplicates", "memory_refused_duplicates"),
            Self::Mailboxes => ("memory_mailboxes", "memory_refused_mailboxes"),
            Self::Outboxes => ("memory_outboxes", "memory_refused_outboxes"),
            Self::Handshakes => ("memory_handshakes", "memory_refused_handshakes"),
            Self::Sessions => ("memory_sessions", "memory_refused_sessions"),
            Self::Store => ("memory_store", "memory_refused_store"),
        }
    }

    /// Parts of [`PARTS`] with and without a DTLS listener. A DTLS session takes forty times as
    /// much as a registration.
    pub(super) const fn parts(self, dtls: bool) -> usize {
        let (with, without) = match self {
            Self::Registrations => (18, 34),
            Self::Observations => (7, 13),
            Self::Queues => (5, 9),
            Self::Waiting => (3, 5),
            Self::Blocks => (4, 6),
            Self::Duplicates => (3, 5),
            Self::Mailboxes => (3, 5),
            Self::Outboxes => (5, 9),
            Self::Handshakes => (8, 0),
            Self::Sessions => (30, 0),
            Self::Store => (2, 2),
        };
        if dtls { with } else { without }
    }
}

/// The parts of all kinds are 88 of these; the rest is for the growth of tables and the allocator.
pub(super) const PARTS: usize = 100;
