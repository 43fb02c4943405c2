//! A disk that is full for a while: what was left meanwhile is written as soon as there is room.

use parking_lot::Mutex;

use super::super::memory::MemoryBackend;
use super::*;
use crate::engine::{Change, StoredCommand, StoredDevice};
use crate::memory::Shares;
use crate::telemetry::LogLimiter;
use crate::time::Instant;

/// A disk that may be full.
struct Disk {
    kept: Arc<Mutex<MemoryBackend>>,
    full: Arc<AtomicBool>,
}

impl Backend for Disk {
    fn load(&mut self) -> Result<Contents, StoreError> {
        self.kept.lock().load()
    }

    fn commit(&mut self, batch: &Batch, clocks: &Clocks) -> Result<(), StoreError> {
        if self.full.load(Ordering::Acquire) {
            return Err(StoreError::Database("no space left on device".to_owned()));
        }
        self.kept.lock().commit(batch, clocks)
    }
}

fn device(endpoint: &str) -> Change {
    let of_none: [&str; 0] = [];
    let registration = (
        None::<u64>,
        60_000u64,
        (1u8, 1u8),
        of_none.as_slice(),
        None::<u8>,
    );
    let registration = postcard::to_allocvec(&registration).unwrap();
    Change::Device(Box::new(StoredDevice {
        endpoint: endpoint.into(),
        listener: "udp:default".into(),
        address: ([192, 0, 2, 1], 5683).into(),
        local: None,
        session: 0,
        identity: None,
        proven: true,
        registered_at: 1,
        mount: "lwm2m/".into(),
        fixed_mount: false,
        registration: postcard::from_bytes(&registration).unwrap(),
        last_seen: 1,
        shard: 0,
    }))
}

fn queued(endpoint: &str, number: u64, bytes: usize) -> Change {
    Change::Queued {
        endpoint: endpoint.into(),
        command: Box::new(StoredCommand {
            number,
            payload: vec![b'x'; bytes].into(),
            legacy: false,
            received: 1,
            expires: 2,
            immediate: false,
            reply: None,
            origin: None,
        }),
    }
}

fn log(changes: impl IntoIterator<Item = Change>) -> Log {
    changes.into_iter().collect()
}

/// Waits until everything is tried that was left so far.
fn tried(store: &Store) -> Result<(), NotDurable> {
    let (to, told) = mpsc::channel();
    store.certify(Receipt::new(move |outcome| to.send(outcome).unwrap()));
    told.recv().unwrap()
}

#[test]
fn what_a_full_disk_refuses_is_written_when_there_is_room() {
    let memory = Arc::new(Memory::new(Shares::new(1 << 20, false)));
    let counters = Arc::new(Counters::new(Arc::new(LogLimiter::new(Duration::ZERO))));
    let store = Arc::new(Store::new(memory.clone(), counters.clone()));
    let (kept, full) = (
        Arc::<Mutex<MemoryBackend>>::default(),
        Arc::new(AtomicBool::new(true)),
    );
    let (to, words) = mpsc::channel();
    let tell = move |shard: ShardId, endpoint: &Arc<str>, word: Word| {
        to.send((shard, endpoint.to_string(), word)).unwrap();
    };
    let writer = Writer {
        store: store.clone(),
        backend: Box::new(Disk {
            kept: kept.clone(),
            full: full.clone(),
        }),
        together: Duration::ZERO,
        memory: memory.clone(),
        clock: Box::new(|| Now {
            mono: Instant::ZERO,
            unix_ms: 1,
        }),
        tell: Box::new(tell),
        kept: Log::default(),
        kept_bytes: 0,
    };
    let thread = std::thread::spawn(move || writer.run());
    // Each of these is another attempt, and all stays for the next one.
    store.push(0, &log([device("a"), queued("a", 1, 10)]));
    assert_eq!(tried(&store), Err(NotDurable::Failed));
    assert!(!store.is_durable());
    store.push(0, &log([queued("a", 2, 10), device("b")]));
    assert_eq!(tried(&store), Err(NotDurable::Failed));
    let answered = |endpoint: &str, number| Change::Answered {
        endpoint: endpoint.into(),
        number,
    };
    store.push(0, &log([answered("a", 1), queued("b", 3, 10)]));
    assert_eq!(tried(&store), Err(NotDurable::Failed));
    // And more than there is memory for: of "c" the shard is to be asked again.
    store.push(
        1,
        &log([device("c"), queued("c", 4, memory.limit(Kind::Store))]),
    );
    assert_eq!(tried(&store), Err(NotDurable::Failed));
    assert_eq!(counters.store_lost.get(), 1);
    assert!(kept.lock().load().unwrap().devices.is_empty());

    full.store(false, Ordering::Release);
    assert_eq!(tried(&store), Ok(()));
    assert!(store.is_durable());
    let told = words.recv().unwrap();
    assert_eq!(told, (1, "c".to_owned(), Word::Lost));
    store.push(1, &log([device("c"), queued("c", 5, 10)]));
    assert_eq!(tried(&store), Ok(()));
    let contents = kept.lock().load().unwrap();
    let found: Vec<(&str, Vec<u64>)> = (contents.devices.iter())
        .map(|it| {
            let numbers = it.commands.iter().map(|(command, _)| command.number);
            (&*it.device.endpoint, numbers.collect())
        })
        .collect();
    assert_eq!(found, [("a", vec![2]), ("b", vec![3]), ("c", vec![5])]);
    assert_eq!(memory.used(Kind::Store), 0, "all of it is given back");
    store.close();
    thread.join().unwrap();
}
