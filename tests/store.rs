//! The store on disk: what comes back is what a list in memory would have, however changes are
//! batched, and whatever the file is.

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::unwrap_used)] // a test with files

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lwm2m_gateway::engine::{
    Change, CommandStage, Restored, StoredCommand, StoredDevice, StoredRefusal,
};
use lwm2m_gateway::store::{Backend, Batch, Clocks, Database, MemoryBackend, StoreError};
use lwm2m_gateway::time::Instant;
use proptest::prelude::*;

mod support;

use support::{Device, World};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lwm2m-store-test-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn open(&self) -> (Database, Vec<Restored>) {
        let (database, contents) = Database::open(&self.0, true, 7).expect("a store");
        assert_eq!(contents.unreadable, 0);
        (database, contents.devices)
    }

    fn file(&self) -> PathBuf {
        self.0.join("store.redb")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn clocks() -> Clocks {
    Clocks::now(Instant::from_micros(5), 7)
}

/// A device as an engine gives it.
fn stored(endpoint: &str) -> StoredDevice {
    let mut world = World::stored(1, |_| {});
    Device::registered(&mut world, endpoint, 5000);
    let contents = world.store.as_mut().unwrap().load().unwrap();
    contents.devices[0].device.clone()
}

fn command(number: u64) -> StoredCommand {
    StoredCommand {
        number,
        payload: br#"{"reqID":1}"#.as_slice().into(),
        legacy: false,
        received: 1,
        expires: 2,
        immediate: false,
        reply: None,
        origin: None,
    }
}

/// One of all kinds of changes to one of three devices.
fn change(kind: u8, which: usize, number: u64, devices: &[StoredDevice]) -> Change {
    let device = devices[which].clone();
    let endpoint: Arc<str> = (*device.endpoint).into();
    match kind {
        0 => Change::Device(Box::new(StoredDevice {
            registered_at: number,
            ..device
        })),
        1 => Change::Seen {
            endpoint,
            at: Instant::from_micros(10_000_000_000 + number),
        },
        2 => Change::Gone(endpoint),
        3 => Change::Unobserved {
            endpoint,
            token: number,
        },
        4 => Change::Sent {
            endpoint,
            number,
            confirm: false,
        },
        5 => Change::Answered { endpoint, number },
        8 => Change::Refused {
            endpoint,
            number,
            with: StoredRefusal::Cancelled,
        },
        _ => Change::Queued {
            endpoint,
            command: Box::new(command(number)),
        },
    }
}

/// Without what nobody asks of a device that has ended: when it was heard of last. The disk leaves that
/// out; a list in memory has it.
fn comparable(mut devices: Vec<Restored>) -> Vec<Restored> {
    for ended in devices.iter_mut().filter(|it| it.ended) {
        ended.device.last_seen = 0;
    }
    devices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A database takes changes in batches as a list in memory takes them one by one, also over a
    /// new opening after each batch.
    #[test]
    fn batches_are_their_changes(
        steps in prop::collection::vec((0..9u8, 0..3usize, 0..4u64, any::<bool>()), 0..60)
    ) {
        let devices = ["a", "b", "c"].map(stored);
        let directory = Directory::new();
        let (mut database, _) = directory.open();
        let mut model = MemoryBackend::default();
        let mut batch = Vec::new();
        let clocks = clocks();
        let mut numbers = 0;
        for (step, (kind, which, number, ends)) in (0..).zip(steps) {
            // A command's number is given once, and only a device that is there has commands.
            let fresh = kind == 6 || kind == 7;
            numbers += u64::from(fresh);
            let number = match kind {
                // Time goes on.
                1 => step,
                _ if fresh => 100 + numbers,
                _ => 100 + number,
            };
            let change = change(kind, which, number, &devices);
            let known = model.load().unwrap().devices;
            let name = &*devices[which].endpoint;
            let there = known.iter().find(|it| *it.device.endpoint == *name);
            let has = there.is_some_and(|it| it.commands.iter().any(|(it, _)| it.number == number));
            let lives = there.is_some_and(|it| !it.ended);
            if kind != 0 && kind != 5 && !lives || [4, 5, 8].contains(&kind) && !has {
                continue;
            }
            model.apply(&change);
            batch.push(change);
            if ends {
                let together: Batch = batch.drain(..).collect();
                database.commit(&together, &clocks).unwrap();
                drop(database);
                let (again, contents) = directory.open();
                database = again;
                prop_assert_eq!(comparable(contents), comparable(model.load().unwrap().devices));
            }
        }
        let batch: Batch = batch.into_iter().collect();
        database.commit(&batch, &clocks).unwrap();
        let contents = database.load().unwrap();
        prop_assert_eq!(contents.clocks, Some(clocks));
        let expected = model.load().unwrap().devices;
        prop_assert_eq!(comparable(contents.devices), comparable(expected));
    }
}

#[test]
fn a_command_that_is_answered_in_its_batch_leaves_nothing_to_write() {
    let devices = ["a", "b", "c"].map(stored);
    let changes = [(7, 1), (4, 1), (5, 1)];
    let batch: Batch = changes
        .into_iter()
        .map(|(kind, number)| change(kind, 0, number, &devices))
        .collect();
    assert!(batch.is_empty());
}

#[test]
fn without_fsync_it_survives_its_process() {
    let directory = Directory::new();
    let (mut database, _) = Database::open(&directory.0, false, 7).unwrap();
    let device = stored("a");
    let batch: Batch = [Change::Device(Box::new(device.clone()))]
        .into_iter()
        .collect();
    database.commit(&batch, &clocks()).unwrap();
    // As the end of a process leaves it.
    std::mem::forget(database);
    let bytes = fs::read(directory.file()).unwrap();
    let copy = Directory::new();
    fs::create_dir_all(&copy.0).unwrap();
    fs::write(copy.file(), bytes).unwrap();
    let (_, devices) = copy.open();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].device, device);
    assert_eq!(copy.names(), ["lock", "store.redb"]);
}

#[test]
fn what_is_removed_while_it_is_in_use_is_missed() {
    let batch = || -> Batch {
        let change = Change::Device(Box::new(stored("a")));
        [change].into_iter().collect()
    };
    let removals: [fn(&Directory); 3] = [
        |directory| fs::remove_dir_all(&directory.0).unwrap(),
        |directory| fs::remove_file(directory.file()).unwrap(),
        |directory| {
            fs::remove_file(directory.file()).unwrap();
            fs::write(directory.file(), "another one").unwrap();
        },
    ];
    for remove in removals {
        let directory = Directory::new();
        let (mut database, _) = directory.open();
        database.commit(&batch(), &clocks()).unwrap();
        remove(&directory);
        for _ in 0..2 {
            let refused = database.commit(&batch(), &clocks());
            assert!(
                matches!(refused, Err(StoreError::Removed(_))),
                "{refused:?}"
            );
        }
        let there = fs::read(directory.file()).unwrap_or_default();
        assert!(
            there.is_empty() || there == b"another one",
            "nothing is made in its place"
        );
    }
}

#[test]
fn one_process_at_a_time() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = Directory::new();
    let (database, _) = directory.open();
    let second = Database::open(&directory.0, true, 7);
    assert!(matches!(second, Err(StoreError::Locked(_))));
    let mode = fs::metadata(&directory.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(database);
    directory.open();
}

#[test]
fn what_is_no_store_is_moved_aside() {
    let whole = {
        let directory = Directory::new();
        let (mut database, _) = directory.open();
        let device = Box::new(stored("a"));
        let batch: Batch = [Change::Device(device)].into_iter().collect();
        database.commit(&batch, &clocks()).unwrap();
        drop(database);
        assert_eq!(directory.open().1.len(), 1);
        fs::read(directory.file()).unwrap()
    };
    let zeros = vec![0; whole.len()];
    let cut = whole[..whole.len() / 2].to_vec();
    let mut changed = whole.clone();
    let start = whole.len() / 3;
    changed[start..].iter_mut().for_each(|byte| *byte ^= 0x55);
    for bytes in [b"not a store".to_vec(), Vec::new(), zeros, cut, changed] {
        let directory = Directory::new();
        fs::create_dir_all(&directory.0).unwrap();
        fs::write(directory.file(), &bytes).unwrap();
        assert!(Database::inspect(&directory.0).is_err(), "only looked at");
        assert_eq!(fs::read(directory.file()).unwrap().len(), bytes.len());
        let (mut database, devices) = directory.open();
        assert_eq!(devices, []);
        let batch: Batch = [Change::Device(Box::new(stored("a")))]
            .into_iter()
            .collect();
        database.commit(&batch, &clocks()).unwrap();
        drop(database);
        assert_eq!(directory.open().1.len(), 1);
        assert_eq!(
            directory.names(),
            ["lock", "store.redb", "store.redb.damaged-7"]
        );
    }
}

#[test]
fn another_format_is_not_touched() {
    use redb::TableDefinition;
    const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
    let directory = Directory::new();
    drop(directory.open());
    let database = redb::Database::open(directory.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut about = transaction.open_table(ABOUT).unwrap();
        about.insert("format", [0, 0, 0, 99].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let newer = Database::open(&directory.0, true, 7);
    assert!(matches!(newer, Err(StoreError::Newer { found: 99, .. })));
    let error = newer.unwrap_err().to_string();
    assert!(
        error.contains("store.redb") && error.contains("use another directory"),
        "{error}"
    );
    assert_eq!(directory.names(), ["lock", "store.redb"]);
}

/// A command as format 1 has it.
#[derive(serde::Serialize)]
struct CommandV1<'a> {
    number: u64,
    payload: &'a [u8],
    legacy: bool,
    received: u64,
    expires: u64,
    immediate: bool,
    reply: Option<()>,
}

#[test]
fn a_file_of_format_1_is_migrated() {
    use redb::{ReadableDatabase as _, TableDefinition};
    const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
    const COMMANDS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("commands");
    let directory = Directory::new();
    let (mut database, _) = directory.open();
    let batch: Batch = [Change::Device(Box::new(stored("a")))]
        .into_iter()
        .collect();
    database.commit(&batch, &clocks()).unwrap();
    drop(database);
    let expected = command(3);
    let old = CommandV1 {
        number: expected.number,
        payload: &expected.payload,
        legacy: expected.legacy,
        received: expected.received,
        expires: expected.expires,
        immediate: expected.immediate,
        reply: None,
    };
    let old = postcard::to_extend(&old, vec![1]).unwrap();
    let database = redb::Database::open(directory.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut about = transaction.open_table(ABOUT).unwrap();
        about.insert("format", [0, 0, 0, 1].as_slice()).unwrap();
        let mut commands = transaction.open_table(COMMANDS).unwrap();
        commands.insert(("a", 3), old.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);

    let (_, devices) = directory.open();
    assert_eq!(devices[0].commands, [(expected, CommandStage::Waiting)]);
    assert_eq!(directory.names(), ["lock", "store.redb"]);
    // It is one of today's by now.
    let database = redb::Database::open(directory.file()).unwrap();
    let transaction = database.begin_read().unwrap();
    let about = transaction.open_table(ABOUT).unwrap();
    let format = about.get("format").unwrap().unwrap().value().to_vec();
    assert_ne!(format, [0, 0, 0, 1]);
    let commands = transaction.open_table(COMMANDS).unwrap();
    let record = commands.get(("a", 3)).unwrap().unwrap().value().to_vec();
    assert_ne!(record, old);
}

#[test]
fn errors_name_the_path_and_say_what_to_do() {
    let directory = Directory::new();
    fs::create_dir_all(&directory.0).unwrap();
    let file = directory.0.join("file");
    fs::write(&file, "x").unwrap();
    let texts = [
        Database::open(&file, true, 7).unwrap_err().to_string(),
        Database::open(&file.join("below"), true, 7)
            .unwrap_err()
            .to_string(),
        Database::inspect(&directory.0.join("nothing"))
            .unwrap_err()
            .to_string(),
        Database::inspect(&directory.0).unwrap_err().to_string(),
    ];
    let path = directory.0.display().to_string();
    for (text, advice) in texts.iter().zip([
        "is a file, expected a directory",
        "use another directory",
        "holds no store",
        "holds no store",
    ]) {
        assert!(text.starts_with(&path) && text.contains(advice), "{text}");
    }
    assert_eq!(directory.names(), ["file"], "nothing is made by a look");
}

#[test]
fn the_clock_goes_on_with_the_machine_and_stops_with_it() {
    let before = Clocks {
        gateway: 1_000,
        boot: "one".into(),
        machine: 500,
        unix_ms: 9,
    };
    let at = |boot: &str, machine, unix_ms| Clocks {
        gateway: 3,
        boot: boot.into(),
        machine,
        unix_ms,
    };
    let same = before.continued(&at("one", 700, 0));
    assert_eq!(
        same,
        Instant::from_micros(1_200),
        "the wall clock is not asked"
    );
    for unix_ms in [0, u64::MAX] {
        let other = before.continued(&at("two", 700, unix_ms));
        assert_eq!(other, Instant::from_micros(1_000));
    }
    let unknown = Clocks {
        boot: "".into(),
        ..before
    };
    let machine = unknown.continued(&at("", 700, 0));
    assert_eq!(machine, Instant::from_micros(1_000));
}
