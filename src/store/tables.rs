//! What stands where in the database.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

use redb::{
    ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, TableDefinition, TableError,
    WriteTransaction,
};

use super::backend::Contents;
use super::log::{Kind, Line};
use super::record::{decode, refusal_of};
use crate::engine::{CommandStage, Restored, StoredCommand, StoredDevice, StoredObservation};

/// The format of the file: another number when the tables below or their records change. 2: commands
/// know which message of a broker they came with, observations their longest period.
pub(super) const FORMAT: u32 = 2;

/// `format` and `clocks`.
pub(super) const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
pub(super) const DEVICES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("devices");
/// When a device was heard of, where that is later than its record.
pub(super) const SEEN: TableDefinition<'_, &str, u64> = TableDefinition::new("seen");
/// What hosts have noted; not there in files of before.
pub(super) const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");
/// By endpoint and token.
pub(super) const OBSERVATIONS: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("observations");
/// By endpoint and number.
pub(super) const COMMANDS: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("commands");
/// Those that were sent.
pub(super) const SENT: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("sent");
/// Those that the gateway has answered; not there in files of before.
const REFUSED: TableDefinition<'_, (&str, u64), u8> = TableDefinition::new("refused");
/// Registrations that have ended, as long as there are such commands of theirs.
const ENDED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ended");

/// Puts devices together with what belongs to them. Records that cannot be read are left out. Of two
/// processors one reads the observations, which are as many as all the rest: a gateway serves as soon as
/// all is read.
pub(super) fn collect(
    database: &redb::Database,
    transaction: &redb::ReadTransaction,
    contents: &mut Contents,
) -> Result<(), redb::Error> {
    let (beside, others) = thread::scope(|scope| {
        let reader = thread::Builder::new().name("lwm2m-restore".to_owned());
        // Nobody writes meanwhile: both see the same.
        let beside = reader.spawn_scoped(scope, || observations(database));
        let others = collect_others(transaction, contents);
        (beside.map(ScopedJoinHandle::join), others)
    });
    others?;
    let (observations, unreadable) = match beside {
        Ok(beside) => beside.unwrap_or_else(|panic| resume_unwind(panic))?,
        // The system has no thread for it.
        Err(_) => observations(database)?,
    };
    contents.unreadable += unreadable;
    let there = contents.devices.partition_point(|it| !it.ended);
    let (there, _) = contents.devices.split_at_mut(there);
    let mut devices = InOrder::new(there);
    for (endpoint, observations) in observations {
        if let Some(device) = devices.find(&endpoint) {
            device.observations = observations;
        }
    }
    Ok(())
}

/// Observations by endpoint, in order, and how many cannot be read.
type Observations = (Vec<(Box<str>, Vec<StoredObservation>)>, usize);

fn observations(database: &redb::Database) -> Result<Observations, redb::Error> {
    let transaction = database.begin_read()?;
    let mut all: Vec<(Box<str>, Vec<StoredObservation>)> = Vec::new();
    let mut unreadable = 0;
    for entry in transaction.open_table(OBSERVATIONS)?.iter()? {
        let (key, value) = entry?;
        let (endpoint, _) = key.value();
        let Some(observation) = decode::<StoredObservation>(value.value()) else {
            unreadable += 1;
            continue;
        };
        match all.last_mut() {
            Some((name, of_device)) if **name == *endpoint => of_device.push(observation),
            _ => all.push((endpoint.into(), vec![observation])),
        }
    }
    Ok((all, unreadable))
}

fn collect_others(
    transaction: &redb::ReadTransaction,
    contents: &mut Contents,
) -> Result<(), redb::Error> {
    for entry in transaction.open_table(DEVICES)?.iter()? {
        let (_, value) = entry?;
        let Some(device) = decode::<StoredDevice>(value.value()) else {
            contents.unreadable += 1;
            continue;
        };
        contents.devices.push(Restored {
            device,
            note: None,
            observations: Vec::new(),
            commands: Vec::new(),
            ended: false,
        });
    }
    let mut ended = Vec::new();
    if let Some(table) = if_there(transaction.open_table(ENDED))? {
        for entry in table.iter()? {
            let (_, value) = entry?;
            match decode::<StoredDevice>(value.value()) {
                Some(device) => ended.push(Restored {
                    device,
                    note: None,
                    observations: Vec::new(),
                    commands: Vec::new(),
                    ended: true,
                }),
                None => contents.unreadable += 1,
            }
        }
    }
    let mut devices = InOrder::new(&mut contents.devices);
    for entry in transaction.open_table(SEEN)?.iter()? {
        let (key, at) = entry?;
        if let Some(device) = devices.find(key.value()) {
            let last_seen = &mut device.device.last_seen;
            *last_seen = (*last_seen).max(at.value());
        }
    }
    if let Some(notes) = if_there(transaction.open_table(NOTES))? {
        let mut devices = InOrder::new(&mut contents.devices);
        for entry in notes.iter()? {
            let (key, note) = entry?;
            if let Some(device) = devices.find(key.value()) {
                device.note = Some(note.value().into());
            }
        }
    }
    let mut devices = InOrder::new(&mut contents.devices);
    let mut gone = InOrder::new(&mut ended);
    let sent = transaction.open_table(SENT)?;
    let refused = if_there(transaction.open_table(REFUSED))?;
    for entry in transaction.open_table(COMMANDS)?.iter()? {
        let (key, value) = entry?;
        let refusal = match &refused {
            Some(refused) => refused.get(key.value())?,
            None => None,
        };
        let stage = match refusal {
            Some(with) => CommandStage::Refused(refusal_of(with.value())),
            None if sent.get(key.value())?.is_some() => CommandStage::Sent,
            None => CommandStage::Waiting,
        };
        match decode::<StoredCommand>(value.value()) {
            Some(command) => {
                let endpoint = key.value().0;
                let device = devices.find(endpoint).or_else(|| gone.find(endpoint));
                if let Some(device) = device {
                    device.commands.push((command, stage));
                }
            }
            None => contents.unreadable += 1,
        }
    }
    contents.devices.append(&mut ended);
    Ok(())
}

/// A table that files of before do not have.
fn if_there<T>(table: Result<T, TableError>) -> Result<Option<T>, TableError> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Devices in the order of their names, which is that of all tables.
struct InOrder<'a>(std::iter::Peekable<std::slice::IterMut<'a, Restored>>);

impl<'a> InOrder<'a> {
    fn new(devices: &'a mut [Restored]) -> Self {
        Self(devices.iter_mut().peekable())
    }

    /// The one of this name; names are asked for in order.
    fn find(&mut self, endpoint: &str) -> Option<&mut Restored> {
        while self
            .0
            .next_if(|it| *it.device.endpoint < *endpoint)
            .is_some()
        {}
        let found = self.0.peek_mut()?;
        (*found.device.endpoint == *endpoint).then_some(&mut **found)
    }
}

/// The keys of an endpoint where they go on with a number.
fn commands_of(endpoint: &str) -> std::ops::RangeInclusive<(&str, u64)> {
    (endpoint, 0)..=(endpoint, u64::MAX)
}

/// The tables of a transaction.
pub(super) struct Tables<'t> {
    devices: redb::Table<'t, &'static str, &'static [u8]>,
    seen: redb::Table<'t, &'static str, u64>,
    notes: redb::Table<'t, &'static str, &'static [u8]>,
    observations: redb::Table<'t, (&'static str, u64), &'static [u8]>,
    commands: redb::Table<'t, (&'static str, u64), &'static [u8]>,
    sent: redb::Table<'t, (&'static str, u64), ()>,
    refused: redb::Table<'t, (&'static str, u64), u8>,
    ended: redb::Table<'t, &'static str, &'static [u8]>,
    /// Whether there may be any that have ended.
    has_ended: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let ended = transaction.open_table(ENDED)?;
        Ok(Self {
            devices: transaction.open_table(DEVICES)?,
            seen: transaction.open_table(SEEN)?,
            notes: transaction.open_table(NOTES)?,
            observations: transaction.open_table(OBSERVATIONS)?,
            commands: transaction.open_table(COMMANDS)?,
            sent: transaction.open_table(SENT)?,
            refused: transaction.open_table(REFUSED)?,
            has_ended: !ended.is_empty()?,
            ended,
        })
    }

    pub(super) fn apply(&mut self, line: &Line<'_>) -> Result<(), redb::Error> {
        let Line {
            endpoint, record, ..
        } = *line;
        // Of commands and observations.
        let key = (endpoint, line.number);
        match line.kind {
            Kind::Device => {
                let was_there = self.devices.insert(endpoint, record)?.is_some();
                // One that is there has not ended, and one that was not has not been heard of.
                if was_there {
                    self.seen.remove(endpoint)?;
                } else if self.has_ended {
                    self.ended.remove(endpoint)?;
                }
            }
            Kind::Seen => {
                self.seen.insert(endpoint, line.number)?;
            }
            Kind::Note => {
                // One that comes late would stay for ever.
                if self.devices.get(endpoint)?.is_some() {
                    self.notes.insert(endpoint, record)?;
                }
            }
            Kind::Gone => self.end(endpoint)?,
            Kind::Observed => {
                self.observations.insert(key, record)?;
            }
            Kind::Unobserved => {
                self.observations.remove(key)?;
            }
            Kind::Queued => {
                self.commands.insert(key, record)?;
            }
            Kind::Sent | Kind::Awaited => {
                self.sent.insert(key, ())?;
            }
            Kind::Refused => {
                if let Some(with) = record.first()
                    && self.commands.get(key)?.is_some()
                {
                    self.refused.insert(key, *with)?;
                }
            }
            Kind::Answered => {
                self.commands.remove(key)?;
                self.sent.remove(key)?;
                let was_refused = self.refused.remove(key)?.is_some();
                if was_refused && self.commands.range(commands_of(endpoint))?.next().is_none() {
                    self.ended.remove(endpoint)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a device out, and leaves only what has been answered and may not have reached the broker.
    fn end(&mut self, endpoint: &str) -> Result<(), redb::Error> {
        let all = commands_of(endpoint);
        let mut left = Vec::new();
        for entry in self.refused.range(all.clone())? {
            left.push(entry?.0.value().1);
        }
        match self.devices.remove(endpoint)? {
            Some(device) if !left.is_empty() => {
                self.ended.insert(endpoint, device.value())?;
                self.has_ended = true;
            }
            Some(_) => {}
            // One that had ended before still has its record.
            None if self.ended.get(endpoint)?.is_some() => {}
            None => left.clear(),
        }
        self.seen.remove(endpoint)?;
        self.notes.remove(endpoint)?;
        self.observations.retain_in(all.clone(), |_, _| false)?;
        let keeps = |(_, number): (&str, u64)| left.contains(&number);
        self.commands.retain_in(all.clone(), |key, _| keeps(key))?;
        self.sent.retain_in(all, |key, ()| keeps(key))?;
        if left.is_empty() {
            self.ended.remove(endpoint)?;
        }
        Ok(())
    }
}
