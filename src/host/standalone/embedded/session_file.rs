//! Sessions of clients that outlive the process: a database in the directory of the store, beside
//! that of the retained messages. What is in it is decided in `sessions.rs`.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, SystemTime};

use redb::{Database, ReadableTable as _, TableDefinition};
use rmqtt::codec::types::QoS;
use rmqtt::inflight::MomentStatus;
use rmqtt::types::{ConnectInfo, From as Origin, Id, Publish, SessionSubMap};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::kept::{KeptError, failed, failed_at, open_database};

/// The database.
const FILE: &str = "mqtt-sessions.redb";

/// By number of the session: [`FORM`], a [`Record`].
const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");

/// By number of the session and of the message within it: [`FORM`], origin and message.
const MESSAGES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("messages");

/// Of such messages that were sent: the packet identifier, and above it how far they are.
const FLIGHTS: TableDefinition<'_, (u64, u64), u32> = TableDefinition::new("flights");

/// [`SEEN`] only: milliseconds since 1970.
const TIMES: TableDefinition<'_, &str, u64> = TableDefinition::new("times");

/// When something was written last: by then, those who were connected still were.
const SEEN: &str = "seen";

/// Of a record. Another one when the types of the broker library change.
const FORM: u8 = 1;

/// Bytes of a session with its subscriptions; a larger one is not kept.
const MAX_RECORD: usize = 1 << 20;

/// What is known of a session, besides its messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: Id,
    /// Without password, will and certificate.
    pub(super) connect: ConnectInfo,
    /// Milliseconds since 1970.
    pub(super) created_at: i64,
    pub(super) connected_at: i64,
    /// `None`: connected.
    pub(super) disconnected_at: Option<i64>,
    /// How long it lasts without a connection, in seconds; `u32::MAX`: it does not end.
    pub(super) lasts: u32,
    pub(super) subscriptions: SessionSubMap,
}

/// How far a message is that was sent (MQTT 5 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) packet_id: u16,
    /// PUBREC has come: the rest of it is PUBREL.
    pub(super) received: bool,
}

impl Flight {
    /// How far a message with this state is.
    pub(super) fn new(packet_id: u16, status: MomentStatus) -> Self {
        let received = status == MomentStatus::UnComplete;
        Self {
            packet_id,
            received,
        }
    }

    /// The state of such a message.
    pub(super) fn status(self, qos: QoS) -> MomentStatus {
        match (self.received, qos) {
            (true, _) => MomentStatus::UnComplete,
            (false, QoS::ExactlyOnce) => MomentStatus::UnReceived,
            (false, _) => MomentStatus::UnAck,
        }
    }

    fn to_number(self) -> u32 {
        u32::from(self.packet_id) | u32::from(self.received) << 16
    }

    fn from_number(number: u32) -> Self {
        let [_, received, high, low] = number.to_be_bytes();
        Self {
            packet_id: u16::from_be_bytes([high, low]),
            received: received & 1 == 1,
        }
    }
}

/// A message that was not acknowledged.
pub(super) struct FoundMessage {
    pub(super) number: u64,
    pub(super) origin: Origin,
    pub(super) publish: Publish,
    pub(super) flight: Option<Flight>,
}

/// A session of before.
pub(super) struct FoundSession {
    pub(super) number: u64,
    pub(super) record: Record,
    /// In their order.
    pub(super) messages: Vec<FoundMessage>,
}

/// Changes that are written together.
#[derive(Default)]
pub(super) struct Batch {
    /// `None`: the session is gone, with its messages.
    pub(super) sessions: HashMap<u64, Option<Record>>,
    /// By number of the session and of the message.
    pub(super) added: Vec<((u64, u64), Origin, Publish)>,
    pub(super) flights: BTreeMap<(u64, u64), Flight>,
    pub(super) removed: Vec<(u64, u64)>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.added.is_empty()
            && self.flights.is_empty()
            && self.removed.is_empty()
    }
}

/// What was found on the disk.
pub(super) struct Found {
    pub(super) sessions: Vec<FoundSession>,
    /// When the last process was seen.
    pub(super) seen: SystemTime,
}

/// See the module.
pub(super) struct SessionFile(Database);

impl SessionFile {
    /// Opens the database in `directory`, or makes it; a damaged one is set aside.
    pub(super) fn open(directory: &Path) -> Result<(Self, Found), KeptError> {
        let path = directory.join(FILE);
        let read = || {
            let database = open_database(&path)?;
            let found = catch_unwind(AssertUnwindSafe(|| read(&database)))
                .map_err(|_| KeptError::Database("damaged".to_owned()))??;
            Ok((Self(database), found))
        };
        match read() {
            Err(KeptError::Database(reason)) => {
                let aside = directory.join(format!("{FILE}.damaged"));
                error!(reason, moved = %aside.display(), "cannot read the stored MQTT sessions: starting without them");
                std::fs::rename(&path, aside).map_err(|source| failed_at(&path, source))?;
                read()
            }
            opened => opened,
        }
    }

    /// Writes `batch`, or nothing of it. Blocks until it is on the disk.
    pub(super) fn write(&self, batch: &Batch, now: SystemTime) -> Result<(), KeptError> {
        let transaction = self.0.begin_write().map_err(failed)?;
        {
            let mut sessions = transaction.open_table(SESSIONS).map_err(failed)?;
            let mut messages = transaction.open_table(MESSAGES).map_err(failed)?;
            let mut flights = transaction.open_table(FLIGHTS).map_err(failed)?;
            for (number, record) in &batch.sessions {
                let record = record.as_ref().map(encode).transpose()?;
                match record.filter(|record| record.len() <= MAX_RECORD) {
                    Some(record) => {
                        let record = record.as_slice();
                        sessions.insert(number, record).map_err(failed)?;
                    }
                    None => {
                        sessions.remove(number).map_err(failed)?;
                        let all = (*number, 0)..=(*number, u64::MAX);
                        messages
                            .retain_in(all.clone(), |_, _| false)
                            .map_err(failed)?;
                        flights.retain_in(all, |_, _| false).map_err(failed)?;
                    }
                }
            }
            for (key, origin, publish) in &batch.added {
                let record = encode(&(origin, publish))?;
                messages.insert(key, record.as_slice()).map_err(failed)?;
            }
            for (key, flight) in &batch.flights {
                flights.insert(key, flight.to_number()).map_err(failed)?;
            }
            for key in &batch.removed {
                messages.remove(key).map_err(failed)?;
                flights.remove(key).map_err(failed)?;
            }
            let mut times = transaction.open_table(TIMES).map_err(failed)?;
            times.insert(SEEN, millis(now)).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }
}

fn read(database: &Database) -> Result<Found, KeptError> {
    let transaction = database.begin_write().map_err(failed)?;
    let (mut found, mut unreadable) = (BTreeMap::new(), 0usize);
    let seen;
    {
        let times = transaction.open_table(TIMES).map_err(failed)?;
        let at = times.get(SEEN).map_err(failed)?.map(|at| at.value());
        seen = at.map_or_else(SystemTime::now, time);
        let mut sessions = transaction.open_table(SESSIONS).map_err(failed)?;
        sessions
            .retain(|number, record| {
                let Some(record) = decode(record) else {
                    unreadable += 1;
                    return false;
                };
                let messages = Vec::new();
                let session = FoundSession {
                    number,
                    record,
                    messages,
                };
                found.insert(number, session);
                true
            })
            .map_err(failed)?;
        let mut flights = transaction.open_table(FLIGHTS).map_err(failed)?;
        let mut messages = transaction.open_table(MESSAGES).map_err(failed)?;
        let mut lost = Vec::new();
        for entry in messages.iter().map_err(failed)? {
            let (key, record) = entry.map_err(failed)?;
            let (session, number) = key.value();
            let Some(of) = found.get_mut(&session) else {
                lost.push((session, number));
                continue;
            };
            let Some((origin, publish)) = decode(record.value()) else {
                unreadable += 1;
                lost.push((session, number));
                continue;
            };
            let flight = flights.get((session, number)).map_err(failed)?;
            of.messages.push(FoundMessage {
                number,
                origin,
                publish,
                flight: flight.map(|flight| Flight::from_number(flight.value())),
            });
        }
        for key in lost {
            messages.remove(key).map_err(failed)?;
            flights.remove(key).map_err(failed)?;
        }
    }
    transaction.commit().map_err(failed)?;
    if unreadable > 0 {
        warn!(
            records = unreadable,
            "cannot read MQTT sessions stored by another release"
        );
    }
    let sessions = found.into_values().collect();
    Ok(Found { sessions, seen })
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, KeptError> {
    postcard::to_extend(value, vec![FORM]).map_err(failed)
}

fn decode<T: DeserializeOwned>(record: &[u8]) -> Option<T> {
    let (&FORM, rest) = record.split_first()? else {
        return None;
    };
    postcard::from_bytes(rest).ok()
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    let since = Duration::from_millis(millis);
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use bytes::Bytes;
    use parking_lot::Mutex;
    use rmqtt::codec::types::{Publish as MqttPublish, QoS};

    use super::super::scratch::Scratch;
    use super::*;

    /// The same for the same name: an id holds when it was made.
    pub(in super::super) fn id(client: &'static str) -> Id {
        static IDS: LazyLock<Mutex<HashMap<&str, Id>>> = LazyLock::new(Mutex::default);
        let mut ids = IDS.lock();
        let id = ids
            .entry(client)
            .or_insert_with(|| Id::from(1, client.into()));
        id.clone()
    }

    fn record(client: &'static str) -> Record {
        Record {
            id: id(client),
            connect: ConnectInfo::from(id(client)),
            created_at: 1,
            connected_at: 2,
            disconnected_at: Some(3),
            lasts: 4,
            subscriptions: SessionSubMap::default(),
        }
    }

    fn message(key: (u64, u64), payload: &'static str) -> ((u64, u64), Origin, Publish) {
        let publish = MqttPublish {
            dup: false,
            retain: false,
            qos: QoS::AtLeastOnce,
            topic: "t".into(),
            packet_id: None,
            payload: Bytes::from_static(payload.as_bytes()),
            properties: None,
        };
        let publish = Publish::new(Box::new(publish), None, Some(7), None);
        (key, Origin::from_system(id("gateway")), publish)
    }

    fn write(directory: &Path, batch: &Batch) {
        let (file, _) = SessionFile::open(directory).unwrap();
        file.write(batch, SystemTime::UNIX_EPOCH + Duration::from_secs(9))
            .unwrap();
    }

    /// Number, payload and flight of a message.
    type Kept = (u64, Bytes, Option<Flight>);

    fn found(directory: &Path) -> Vec<(u64, Vec<Kept>)> {
        let (_, found) = SessionFile::open(directory).unwrap();
        let messages = |session: FoundSession| {
            let messages = session.messages.into_iter();
            let messages = messages.map(|it| (it.number, it.publish.payload.clone(), it.flight));
            (session.number, messages.collect())
        };
        found.sessions.into_iter().map(messages).collect()
    }

    #[test]
    fn what_is_written_is_found_in_order() {
        let scratch = Scratch::new("sessions-order");
        let flight = Flight {
            packet_id: 65_535,
            received: true,
        };
        let mut batch = Batch::default();
        batch.sessions.insert(1, Some(record("a")));
        batch.sessions.insert(2, Some(record("b")));
        batch.added = vec![
            message((1, 300), "later"),
            message((1, 2), "first"),
            message((2, 1), "other"),
            message((3, 1), "nobody's"),
        ];
        batch.flights.insert((1, 2), flight);
        write(&scratch.0, &batch);
        let first = (2, Bytes::from("first"), Some(flight));
        let later = (300, Bytes::from("later"), None);
        let other = (1, Bytes::from("other"), None);
        let expected = [(1, vec![first, later.clone()]), (2, vec![other])];
        assert_eq!(found(&scratch.0), expected);
        let (_, read) = SessionFile::open(&scratch.0).unwrap();
        assert_eq!(millis(read.seen), 9000);
        assert_eq!(read.sessions[0].record.id, id("a"));

        let mut batch = Batch::default();
        batch.sessions.insert(2, None);
        batch.removed.push((1, 2));
        write(&scratch.0, &batch);
        assert_eq!(found(&scratch.0), [(1, vec![later])]);
    }

    #[test]
    fn records_of_another_release_are_dropped() {
        let scratch = Scratch::new("sessions-form");
        let mut batch = Batch::default();
        batch.sessions.insert(1, Some(record("a")));
        batch.sessions.insert(2, Some(record("b")));
        batch.added = vec![message((1, 1), "x"), message((2, 1), "y")];
        write(&scratch.0, &batch);
        let database = open_database(&scratch.0.join(FILE)).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut sessions = transaction.open_table(SESSIONS).unwrap();
            sessions.insert(1, [FORM + 1, 1, 2].as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        let expected = [(2, vec![(1, Bytes::from("y"), None)])];
        assert_eq!(found(&scratch.0), expected);
    }

    #[test]
    fn a_session_that_is_too_large_is_not_kept() {
        let scratch = Scratch::new("sessions-large");
        let mut large = record("a");
        let filter = "x".repeat(60_000);
        for number in 0..20 {
            let filter = format!("{filter}{number}");
            let options = rmqtt::types::SubscriptionOptions::default();
            large.subscriptions.insert(filter.into(), options);
        }
        let mut batch = Batch::default();
        batch.sessions.insert(1, Some(large));
        batch.sessions.insert(2, Some(record("b")));
        write(&scratch.0, &batch);
        assert_eq!(found(&scratch.0), [(2, vec![])]);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let scratch = Scratch::new("sessions-damaged");
        std::fs::write(scratch.0.join(FILE), [7; 10_000]).unwrap();
        assert_eq!(found(&scratch.0), []);
        assert!(scratch.0.join("mqtt-sessions.redb.damaged").exists());
    }
}
