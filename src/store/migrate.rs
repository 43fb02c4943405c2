//! A file of an older release is brought to the present format.

use redb::ReadableTable as _;
use tracing::info;

use super::record::{Record, decode, encode, is_current};
use super::tables::{ABOUT, COMMANDS, FORMAT, OBSERVATIONS};
use crate::engine::{StoredCommand, StoredObservation};

/// Brings a file of an older format to the present one, all of it or nothing. Records that cannot be
/// read stay as they are.
pub(super) fn migrate(database: &redb::Database, from: u32) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        renew::<StoredCommand>(&mut transaction.open_table(COMMANDS)?)?;
        renew::<StoredObservation>(&mut transaction.open_table(OBSERVATIONS)?)?;
        let mut about = transaction.open_table(ABOUT)?;
        about.insert("format", FORMAT.to_be_bytes().as_slice())?;
    }
    transaction.commit()?;
    info!(
        from,
        to = FORMAT,
        "the store of an older release has been migrated"
    );
    Ok(())
}

/// Writes older records of a table anew.
fn renew<T: Record>(
    table: &mut redb::Table<'_, (&'static str, u64), &'static [u8]>,
) -> Result<(), redb::Error> {
    let mut renewed = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        if is_current::<T>(value.value()) {
            continue;
        }
        if let Some(record) = decode::<T>(value.value()) {
            let (endpoint, number) = key.value();
            renewed.push((endpoint.to_owned(), number, encode(&record)));
        }
    }
    for (endpoint, number, record) in renewed {
        table.insert((&*endpoint, number), record.as_slice())?;
    }
    Ok(())
}
