//! The definitions that are built in, and those of the OMA registry when a copy of it is at hand:
//! `LWM2M_OMA_DIR`, else `../shared/oma` beside the source tree. The copy is not part of this
//! project.

// A test reads files, prints what it skips and fails by panicking.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use lwm2m_gateway::lwm2m::model::{MAX_FILE_BYTES, ObjectModels};

fn registry() -> Option<PathBuf> {
    let directory = std::env::var_os("LWM2M_OMA_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/oma"),
        PathBuf::from,
    );
    if directory.is_dir() {
        return Some(directory);
    }
    println!(
        "skipped: no copy of the OMA registry at {}",
        directory.display()
    );
    None
}

fn xml_files(directory: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            xml_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "xml") {
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn the_whole_registry_loads() {
    let Some(directory) = registry() else { return };
    let mut files = Vec::new();
    xml_files(&directory, &mut files);
    assert!(files.len() > 600, "only {} files", files.len());
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let (models, errors) = ObjectModels::builtin().load(files, MAX_FILE_BYTES);
    assert!(
        errors.is_empty(),
        "{} of {}: {errors:#?}",
        errors.len(),
        names.len()
    );
    assert!(models.objects().len() > 300, "{}", models.objects().len());
    let temperature = models.lookup(3303, None).unwrap();
    assert_eq!(temperature.resource(5700).unwrap().name, "Sensor Value");
}

#[test]
fn builtin_definitions_agree_with_the_registry() {
    let Some(directory) = registry() else { return };
    let builtin = ObjectModels::builtin();
    for ours in builtin.objects() {
        let name = format!("{}.xml", ours.id);
        let content = std::fs::read(directory.join(&name)).unwrap();
        let (models, errors) = ObjectModels::default().load([(name, content)], MAX_FILE_BYTES);
        assert!(errors.is_empty(), "{errors:?}");
        let theirs = models.lookup(ours.id, None).unwrap();
        assert_eq!(
            (ours.version, &ours.name, ours.multiple, ours.mandatory),
            (
                theirs.version,
                &theirs.name,
                theirs.multiple,
                theirs.mandatory
            )
        );
        assert_eq!(ours.resources().len(), theirs.resources().len());
        for (ours, theirs) in ours.resources().iter().zip(theirs.resources()) {
            assert_eq!(
                (
                    ours.id,
                    ours.kind,
                    ours.operations,
                    ours.multiple,
                    ours.mandatory
                ),
                (
                    theirs.id,
                    theirs.kind,
                    theirs.operations,
                    theirs.multiple,
                    theirs.mandatory
                )
            );
            assert_eq!(ours.units, theirs.units);
            let words: Vec<&str> = theirs.name.split_whitespace().collect();
            assert_eq!(ours.name, words.join(" "));
        }
    }
}

/// The files of `priv/lwm2m_xml` and the table agree on the objects of the enabler.
#[test]
fn the_objects_of_the_enabler_are_as_in_their_files() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("priv/lwm2m_xml");
    let mut files = Vec::new();
    xml_files(&directory, &mut files);
    assert_eq!(files.len(), 8);
    let (read, errors) = ObjectModels::default().load(files, MAX_FILE_BYTES);
    assert!(errors.is_empty(), "{errors:?}");
    let builtin = ObjectModels::builtin();
    assert!(read.objects().eq(builtin.objects()));
    let with_registry = ObjectModels::builtin().with_registry();
    for object in read.objects() {
        let newest = with_registry.lookup(object.id, None).unwrap();
        assert_eq!(newest, object);
    }
}

#[test]
fn the_table_says_what_the_registry_says() {
    let Some(directory) = registry() else { return };
    let mut files = Vec::new();
    xml_files(&directory, &mut files);
    let (read, errors) = ObjectModels::default().load(files, MAX_FILE_BYTES);
    assert!(errors.is_empty(), "{errors:?}");
    let table = ObjectModels::default().with_registry();
    assert_eq!(table.objects().len(), read.objects().len());
    for (table, read) in table.objects().zip(read.objects()) {
        assert_eq!(table, read);
    }
}
