//! PSK files that change, and those that are refused.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

/// A directory of its own for each test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("lwm2m-psk-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.0.join("psk");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(identities: &[Box<[u8]>]) -> String {
    let mut names: Vec<_> = identities
        .iter()
        .map(|it| String::from_utf8_lossy(it).into_owned())
        .collect();
    names.sort_unstable();
    names.join(" ")
}

#[test]
fn what_is_added_concerns_nobody_else() {
    let place = Place::new("altered");
    let path = place.write(&format!("a:{KEY}\nb:{KEY}:x\n"));
    let (file, _) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
    for (text, altered) in [
        (format!("c:{KEY}\n# moved\nb:{KEY}:x\na:{KEY}\n"), false),
        (format!("c:{KEY}\nb:{KEY}:y\na:{KEY}\n"), true),
        (format!("c:{KEY}\nb:{KEY}:y\na:{KEY}00\n"), true),
        (format!("b:{KEY}:y\na:{KEY}00\n"), true),
        (format!("b:{KEY}:y\na:{KEY}00\nbad"), false),
    ] {
        place.write(&text);
        assert_eq!(file.reload().unwrap().altered, altered, "{text}");
    }
}

#[test]
fn a_reload_says_what_is_different() {
    let place = Place::new("reload");
    let path = place.write(&format!("a:{KEY}\nb:{KEY}\nc:0011:x\nbad\n"));
    let (file, report) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
    assert_eq!((report.loaded, report.bad), (3, 1));
    assert_eq!((report.weak, report.with_endpoints), (1, 1));
    assert_eq!(report.exposed, None);
    assert_eq!(names(&report.added), "a b c");
    let warnings = report.warnings().join("\n");
    assert!(warnings.contains("line 4: a : between"), "{warnings}");
    assert!(warnings.contains("are easy to guess: 1"), "{warnings}");
    assert!(file.find(b"a").is_some() && file.find(b"bad").is_none());

    let held = file.find(b"a").unwrap();
    place.write(&format!("b:{KEY}:ep\nc:0012\nd:{KEY}\n"));
    let report = file.reload().unwrap();
    assert_eq!(names(&report.added), "d");
    assert_eq!(names(&report.changed), "c");
    assert_eq!(names(&report.removed), "a");
    assert!(file.find(b"a").is_none());
    assert_eq!(file.find(b"b").unwrap().endpoints.len(), 1);
    assert_eq!(held.key.to_hex().as_str(), KEY);
}

#[test]
fn a_change_is_taken_up_when_it_holds_still() {
    let place = Place::new("poll");
    let path = place.write(&format!("a:{KEY}\n"));
    let (file, _) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
    assert!(file.poll().unwrap().is_none());

    place.write("");
    assert!(file.poll().unwrap().is_none());
    place.write(&format!("a:{KEY}\nb:{KEY}\n"));
    assert!(file.poll().unwrap().is_none());
    assert!(file.find(b"b").is_none());
    assert_eq!(names(&file.poll().unwrap().unwrap().added), "b");
    assert!(file.find(b"b").is_some());
    assert!(file.poll().unwrap().is_none());

    // A new file in its place, of the same size.
    let other = place.0.join("new");
    fs::write(&other, format!("a:{KEY}\nc:{KEY}\n")).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(file.poll().unwrap().is_none());
    assert_eq!(names(&file.poll().unwrap().unwrap().added), "c");

    // Gone: said once, and the old keys stay.
    fs::remove_file(&path).unwrap();
    assert!(file.poll().unwrap().is_none());
    assert!(matches!(file.poll(), Err(FileError::Io { .. })));
    assert!(file.poll().unwrap().is_none());
    assert!(file.reload().is_err());
    assert!(file.find(b"c").is_some());
    place.write(&format!("d:{KEY}\n"));
    assert!(file.poll().unwrap().is_none());
    assert_eq!(names(&file.poll().unwrap().unwrap().removed), "a c");
}

#[test]
fn what_is_no_file_is_refused() {
    let place = Place::new("refused");
    let open =
        |path: &Path| PskFile::open(path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap_err();
    assert!(matches!(open(&place.0), FileError::NotAFile(_)));
    let missing = open(&place.0.join("missing")).to_string();
    assert!(
        missing.contains("missing") && missing.contains("No such"),
        "{missing}"
    );
    let large = place.0.join("large");
    File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(matches!(open(&large), FileError::Large(_)));
}

#[test]
fn open_permissions_are_warned_about() {
    let place = Place::new("permissions");
    let path = place.write(&format!("a:{KEY}\n"));
    for (mode, warned) in [
        (0o600, ""),
        (0o400, ""),
        (0o640, ""),
        (0o644, "every user of this machine can read (mode 0644)"),
        (0o602, "every user of this machine can write"),
        (0o660, "written by its group (mode 0660)"),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (_, report) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Allow).unwrap();
        let warnings = report.warnings().join("\n");
        let refused = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).err();
        let is_open = mode & 0o006 != 0;
        assert_eq!(refused.is_some(), is_open, "{mode:o}");
        if let Some(error) = refused.map(|error| error.to_string()) {
            let shown = path.display();
            assert!(error.contains(warned), "{error}");
            assert!(
                error.contains(&format!("chmod 640 {shown}, or set")),
                "{error}"
            );
        }
        assert_eq!(
            warnings.is_empty(),
            warned.is_empty(),
            "{mode:o} {warnings}"
        );
        assert!(warnings.contains(warned), "{mode:o} {warnings}");
    }
}

#[test]
fn reports_are_bounded_and_hold_no_keys() {
    let place = Place::new("bounded");
    let bad = "c0ffee:c0ffeez\n".repeat(500);
    let path = place.write(&format!("{bad}a:{KEY}\n"));
    let (file, report) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
    assert_eq!(report.bad, 500);
    let warnings = report.warnings();
    assert_eq!(warnings.len(), 101);
    assert!(warnings[100].ends_with("400 more such lines"));
    let shown = format!("{report:?} {warnings:?} {file:?}");
    assert!(!shown.contains("c0ffee") && !shown.contains(KEY), "{shown}");
}
