//! The power is cut while the store writes: what was written after the last fsync is on the disk, or not,
//! or in part. What was committed is there, and of the commit under way all or nothing.

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::unwrap_used)] // a test with files

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lwm2m_gateway::engine::{Change, StoredCommand, StoredDevice};
use lwm2m_gateway::store::{Backend, Batch, Clocks, Database, MemoryBackend};
use lwm2m_gateway::time::Instant;
use proptest::prelude::*;
use redb::StorageBackend;

mod support;

use support::{Device, World};

/// What a disk writes as a whole, in bytes.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct Platter {
    /// What is on the disk whatever comes.
    durable: Vec<u8>,
    /// As the process sees it.
    seen: Vec<u8>,
    /// Sectors that were written since the last fsync, in order.
    pending: Vec<(usize, Vec<u8>)>,
    /// Fsyncs until the power is cut.
    left: usize,
    off: bool,
}

/// A disk that can lose its power.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn of(image: Vec<u8>, left: usize) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            durable: image.clone(),
            seen: image,
            left,
            ..Platter::default()
        })))
    }

    /// What is there after the cut: of what was pending what `chance` says, sector by sector, in any
    /// order.
    fn after_the_cut(&self, mut chance: impl FnMut() -> bool) -> Vec<u8> {
        let platter = self.0.lock().unwrap();
        let mut image = platter.durable.clone();
        // The length of a file is kept apart from what is in it.
        if chance() {
            image.resize(platter.seen.len(), 0);
        }
        for (at, bytes) in &platter.pending {
            if chance() && at + bytes.len() <= image.len() {
                image[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
        image
    }
}

fn cut() -> io::Error {
    io::Error::other("the power is off")
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let at = offset as usize;
        let bytes = platter.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or_else(cut)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        if platter.off {
            return Err(cut());
        }
        platter.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        if platter.left == 0 || platter.off {
            platter.off = true;
            return Err(cut());
        }
        platter.left -= 1;
        platter.durable = platter.seen.clone();
        platter.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        if platter.off {
            return Err(cut());
        }
        let at = offset as usize;
        platter.seen[at..at + data.len()].copy_from_slice(data);
        for (number, sector) in data.chunks(SECTOR).enumerate() {
            platter
                .pending
                .push((at + number * SECTOR, sector.to_vec()));
        }
        Ok(())
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lwm2m-power-test-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stored(endpoint: &str) -> StoredDevice {
    let mut world = World::stored(1, |_| {});
    Device::registered(&mut world, endpoint, 5000);
    let contents = world.store.as_mut().unwrap().load().unwrap();
    contents.devices[0].device.clone()
}

/// A change to one of some devices.
fn change(kind: u8, number: u64, device: &StoredDevice) -> Change {
    let endpoint: Arc<str> = (*device.endpoint).into();
    match kind {
        0 => Change::Gone(endpoint),
        1 => Change::Seen {
            endpoint,
            at: Instant::from_micros(10_000_000_000 + number),
        },
        2 => Change::Answered { endpoint, number },
        3 => Change::Queued {
            endpoint,
            command: Box::new(StoredCommand {
                number,
                payload: vec![b'x'; 700].into(),
                legacy: false,
                received: 1,
                expires: 2,
                immediate: false,
                reply: None,
                origin: None,
            }),
        },
        _ => Change::Device(Box::new(StoredDevice {
            registered_at: number,
            ..device.clone()
        })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_commit_is_there_or_not(
        batches in prop::collection::vec(prop::collection::vec((0..6u8, 0..8usize, 0..40u64), 1..12), 1..12),
        left in 4..20usize,
        seed in any::<u64>(),
    ) {
        let devices: Vec<StoredDevice> = (0..8).map(|it| stored(&format!("dev{it}"))).collect();
        let clocks = Clocks::now(Instant::from_micros(5), 7);
        let directory = Directory::new();
        let disk = Disk::of(Vec::new(), left);
        let mut model = MemoryBackend::default();
        let mut before = model.load().unwrap().devices;
        let mut time = 0;
        if let Ok((mut database, _)) = Database::open_on(&directory.0, disk.clone()) {
            for batch in &batches {
                let mut after = model.clone();
                let mut changes = Vec::new();
                for (kind, which, number) in batch {
                    time += 1;
                    let number = if *kind == 1 { time } else { *number };
                    let device = &devices[*which];
                    let known = after.load().unwrap().devices;
                    // A device that is not there has nothing.
                    let there = known.iter().any(|it| it.device.endpoint == device.endpoint);
                    if *kind > 3 || there {
                        let change = change(*kind, number, device);
                        after.apply(&change);
                        changes.push(change);
                    }
                }
                let batch: Batch = changes.into_iter().collect();
                let committed = database.commit(&batch, &clocks);
                if committed.is_err() {
                    // All of it may be there nevertheless.
                    model = after;
                    break;
                }
                model = after;
                before = model.load().unwrap().devices;
            }
        }
        let now = model.load().unwrap().devices;
        let mut state = seed | 1;
        let chance = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % 3 > 0
        };
        let image = disk.after_the_cut(chance);
        let again = Directory::new();
        let (_, contents) = Database::open_on(&again.0, Disk::of(image, usize::MAX))
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let sorted = |mut devices: Vec<lwm2m_gateway::engine::Restored>| {
            devices.sort_by(|a, b| a.device.endpoint.cmp(&b.device.endpoint));
            devices
        };
        let found = sorted(contents.devices);
        prop_assert!(found == sorted(before) || found == sorted(now));
    }
}
