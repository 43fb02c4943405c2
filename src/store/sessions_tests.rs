//! Sessions on a disk.

use std::sync::mpsc;

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lwm2m-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn session(reserved: u64) -> KeptSession {
    KeptSession {
        listener: "dtls:default".into(),
        shard: 1,
        local: None,
        credential: [7; 8],
        session: SavedSession::for_tests(reserved),
        certified: None,
    }
}

/// Writes and ends in order.
fn write(opened: OpenedSessions, act: impl FnOnce(&SessionStore)) -> Vec<(Waiting, u64)> {
    let store = opened.store.clone();
    let (told, heard) = mpsc::channel();
    let confirm = move |waiting, reserved| told.send((waiting, reserved)).unwrap();
    let writer = opened.writer(Duration::ZERO, Box::new(confirm));
    let thread = std::thread::spawn(move || writer.run());
    act(&store);
    store.close();
    thread.join().unwrap();
    heard.iter().collect()
}

#[test]
fn what_is_kept_comes_back_with_other_numbers() {
    let scratch = Scratch::new("kept");
    let opened = SessionStore::open(&scratch.0, None).unwrap();
    assert!(opened.sessions.is_empty());
    let id_key = opened.store.id_key;
    let told = write(opened, |store| {
        assert_eq!((store.name(), store.name(), store.name()), (1, 2, 3));
        store.keep(1, session(10), Some((0, 5, 77)));
        store.keep(2, session(20), None);
        store.keep(1, session(30), None);
        store.keep(3, session(40), None);
        store.forget(3);
    });
    assert!(told.contains(&((0, 5, 77), 30)) || told.contains(&((0, 5, 77), 10)));
    let mut before = 0;
    for _ in 0..3 {
        let opened = SessionStore::open(&scratch.0, None).unwrap();
        assert_eq!(opened.store.id_key, id_key);
        let names: Vec<_> = opened.sessions.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [1, 2]);
        // Each start sets new ones aside, though nothing is kept meanwhile.
        let reserved = opened.sessions[0].1.session.reserved();
        assert!(reserved >= before + (1 << 16));
        before = reserved;
        assert_eq!(opened.store.name(), 3);
    }
    let mode = std::fs::metadata(scratch.0.join(FILE))
        .unwrap()
        .permissions();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode);
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn certificates_come_back_and_records_of_before_have_none() {
    let seal = Seal::new(b"a key of the operator");
    for seal in [None, Some(&seal)] {
        let by_key = encode(1, &session(10), seal).unwrap();
        assert_eq!(decode(1, &by_key, seal), Some(session(10)));
        let certified = KeptSession {
            certified: Some(Certified::for_tests()),
            ..session(10)
        };
        let bytes = encode(1, &certified, seal).unwrap();
        assert_eq!(decode(1, &bytes, seal), Some(certified));
        assert_eq!(decode(1, &bytes[..bytes.len() - 1], seal), None);
    }
}

#[test]
fn with_a_key_nothing_readable_is_on_the_disk() {
    let scratch = Scratch::new("sealed");
    let key = b"a key of the operator";
    let opened = SessionStore::open(&scratch.0, Some(key)).unwrap();
    write(opened, |store| store.keep(1, session(10), None));
    let bytes = std::fs::read(scratch.0.join(FILE)).unwrap();
    let is_in = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
    assert!(!is_in(b"dtls:default") && !is_in(&[0x5a; 40]));
    // With the line break of an editor it is the same key.
    let opened = SessionStore::open(&scratch.0, Some(b"a key of the operator\n")).unwrap();
    assert_eq!(opened.sessions.len(), 1);
    drop(opened);
    let opened = SessionStore::open(&scratch.0, Some(b"another key of 16")).unwrap();
    assert!(opened.sessions.is_empty());
}

#[test]
fn a_damaged_database_is_put_aside() {
    let scratch = Scratch::new("damaged");
    std::fs::write(scratch.0.join(FILE), b"no database at all").unwrap();
    let opened = SessionStore::open(&scratch.0, None).unwrap();
    assert!(opened.sessions.is_empty());
    assert!(scratch.0.join("sessions.redb.damaged").exists());
}
