//! Object definitions (LwM2M Core 1.2 §7.3 and Appendix D): which resources an object has, and of
//! which type. Several versions of an object live side by side.

use std::collections::HashSet;

use super::codec::{ResourceSchema, Schema};

mod definition;
mod table;
mod version;
mod xml;

pub use definition::{ObjectDefinition, Operations, ResourceDefinition};
pub use version::{Version, default_version};
pub use xml::ModelError;

/// The object definitions the gateway knows. Does not change once made.
#[derive(Debug, Clone, Default)]
pub struct ObjectModels {
    /// Sorted by id and version, each pair once.
    objects: Vec<Known>,
}

/// A definition, or where it stands.
#[derive(Debug, Clone)]
enum Known {
    /// One of a file, or one of the enabler's own.
    Read(ObjectDefinition),
    /// One of OMA's registry.
    Registry(table::Entry),
}

impl Known {
    const fn key(&self) -> (u16, Version) {
        match self {
            Self::Read(object) => (object.id, object.version),
            Self::Registry(entry) => (entry.id, entry.version),
        }
    }

    fn definition(&self) -> &ObjectDefinition {
        match self {
            Self::Read(object) => object,
            Self::Registry(entry) => entry.definition(),
        }
    }
}

/// The last of the enabler's own objects.
const LAST_OF_ENABLER: u16 = 7;

/// Default limit for the size of one definition file, in bytes. The largest of the OMA registry
/// has about a tenth of it.
#[cfg(feature = "internals")]
pub const MAX_FILE_BYTES: usize = 4 << 20;

impl ObjectModels {
    /// The objects 0 to 7 of the LwM2M enabler, in their versions of LwM2M 1.2.
    pub fn builtin() -> Self {
        let mut objects: Vec<table::Entry> = Vec::new();
        for entry in table::entries() {
            if entry.id > LAST_OF_ENABLER {
                break;
            }
            match objects.last_mut() {
                Some(last) if last.id == entry.id => *last = entry,
                _ => objects.push(entry),
            }
        }
        let read = |entry: table::Entry| Known::Read(entry.into_definition());
        Self {
            objects: objects.into_iter().map(read).collect(),
        }
    }

    /// These definitions and those of OMA's registry, which are read as they are asked for. What
    /// is known already stays.
    #[must_use]
    pub fn with_registry(mut self) -> Self {
        let objects = &mut self.objects;
        objects.extend(table::entries().into_iter().map(Known::Registry));
        // The sort is stable: what was known stands in front.
        objects.sort_by_key(Known::key);
        objects.dedup_by_key(|known| known.key());
        self
    }

    /// These definitions and those of `files` (name and content), each of at most `max_bytes`.
    /// What is in a file replaces what was known of the same version of the object, the last file
    /// wins; of an object that a file defines, the registry is not asked any more, since its id may
    /// be put to another use. A file with an error is left out as a whole and named in the error;
    /// the others count.
    #[must_use]
    pub fn load(
        self,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
        max_bytes: usize,
    ) -> (Self, Vec<ModelError>) {
        let mut errors = Vec::new();
        let mut read = Vec::new();
        for (file, content) in files {
            match xml::parse(&content, max_bytes) {
                Ok(objects) => read.extend(objects),
                Err(problem) => errors.push(ModelError { file, problem }),
            }
        }
        let defined: HashSet<u16> = read.iter().map(|object| object.id).collect();
        let mut objects = self.objects;
        objects
            .retain(|known| matches!(known, Known::Read(_)) || !defined.contains(&known.key().0));
        objects.extend(read.into_iter().map(Known::Read));
        // The sort is stable, so turning the list around first puts the last definition in front.
        objects.reverse();
        objects.sort_by_key(Known::key);
        objects.dedup_by_key(|known| known.key());
        (Self { objects }, errors)
    }

    /// All definitions by id and version. Reads those that have not been asked for yet.
    pub fn objects(
        &self,
    ) -> impl DoubleEndedIterator<Item = &ObjectDefinition> + ExactSizeIterator {
        self.objects.iter().map(Known::definition)
    }

    /// All versions of one object, ascending.
    pub fn versions(
        &self,
        object: u16,
    ) -> impl DoubleEndedIterator<Item = &ObjectDefinition> + ExactSizeIterator {
        self.of(object).iter().map(Known::definition)
    }

    fn of(&self, object: u16) -> &[Known] {
        let first = self.objects.partition_point(|known| known.key().0 < object);
        let rest = self.objects.get(first..).unwrap_or_default();
        let count = rest.partition_point(|known| known.key().0 == object);
        rest.get(..count).unwrap_or_default()
    }

    /// The definition of `object` in `version`; if that is not known the newest of the same major
    /// version, else the newest. No `version` asks for the newest.
    pub fn lookup(&self, object: u16, version: Option<Version>) -> Option<&ObjectDefinition> {
        let versions = self.of(object);
        let found = version.and_then(|version| {
            let same = |known: &&Known| known.key().1 == version;
            let compatible = |known: &&Known| known.key().1.major == version.major;
            let exact = versions.iter().find(same);
            exact.or_else(|| versions.iter().rfind(compatible))
        });
        found.or_else(|| versions.last()).map(Known::definition)
    }
}

/// The object definitions as one device uses them.
#[derive(Debug, Clone, Copy)]
pub struct DeviceSchema<'a> {
    models: &'a ObjectModels,
    versions: &'a [(u16, Version)],
    enabler: Version,
}

impl<'a> DeviceSchema<'a> {
    /// `versions` are those the device stated, sorted by object id as
    /// [`RegistrationLinks`](super::link::RegistrationLinks) has them, `enabler` is the LwM2M
    /// version it registered with.
    pub const fn new(
        models: &'a ObjectModels,
        versions: &'a [(u16, Version)],
        enabler: Version,
    ) -> Self {
        Self {
            models,
            versions,
            enabler,
        }
    }

    /// The definition of `object` that fits the device best.
    pub fn object(&self, object: u16) -> Option<&'a ObjectDefinition> {
        let stated = self.versions.binary_search_by_key(&object, |(id, _)| *id);
        let version = stated
            .ok()
            .and_then(|index| self.versions.get(index))
            .map_or_else(
                || default_version(object, self.enabler),
                |(_, version)| *version,
            );
        self.models.lookup(object, Some(version))
    }
}

impl Schema for DeviceSchema<'_> {
    /// A resource that the device's version of the object does not have is looked for in the
    /// others, because not every device states its versions rightly.
    fn resource(&self, object: u16, resource: u16) -> Option<ResourceSchema> {
        let definition = self.object(object)?.resource(resource).or_else(|| {
            let versions = self.models.versions(object).rev();
            versions.filter_map(|o| o.resource(resource)).next()
        })?;
        Some(ResourceSchema {
            kind: definition.kind,
            multiple: definition.multiple,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lwm2m::ResourceType;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    /// A definition with one resource per `(id, type)`.
    fn file(id: u16, version: &str, resources: &[(u16, &str)]) -> (String, Vec<u8>) {
        let items: String = resources
            .iter()
            .map(|(id, kind)| {
                format!(
                    "<Item ID=\"{id}\"><Name>R{id}</Name><Operations>R</Operations>\
                     <Type>{kind}</Type></Item>"
                )
            })
            .collect();
        let text = format!(
            "<LWM2M><Object><Name>O</Name><ObjectID>{id}</ObjectID>\
             <ObjectVersion>{version}</ObjectVersion><Resources>{items}</Resources></Object></LWM2M>"
        );
        (format!("{id}-{version}.xml"), text.into_bytes())
    }

    fn models() -> ObjectModels {
        let (models, errors) = ObjectModels::default().load(
            [
                file(9, "1.0", &[(0, "String")]),
                file(9, "1.2", &[(0, "Integer"), (2, "Float")]),
                file(9, "1.1", &[(0, "Integer"), (1, "Boolean")]),
                file(9, "2.0", &[(0, "Opaque")]),
            ],
            MAX_FILE_BYTES,
        );
        assert_eq!(errors, []);
        models
    }

    #[test]
    fn version_texts() {
        for (text, expected) in [
            ("1", "1.0"),
            ("1.0", "1.0"),
            ("\"1.1\"", "1.1"),
            (" 2.0 ", "2.0"),
            ("1.0.0", "1.0"),
        ] {
            assert_eq!(version(text).to_string(), expected);
        }
        for text in ["", "x", "1.x", "1.", "+1", "1.0.0.0", "256", "-1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn lookup_prefers_the_same_version() {
        let models = models();
        for (asked, found) in [
            (Some("1.0"), "1.0"),
            (Some("1.1"), "1.1"),
            (Some("1.9"), "1.2"),
            (Some("3.0"), "2.0"),
            (None, "2.0"),
        ] {
            let definition = models.lookup(9, asked.map(version)).unwrap();
            assert_eq!(definition.version, version(found), "{asked:?}");
        }
        assert_eq!(models.lookup(8, None), None);
        assert_eq!(models.versions(9).len(), 4);
    }

    #[test]
    fn a_device_gets_its_versions() {
        let models = models();
        let kind = |schema: &DeviceSchema<'_>, resource| schema.resource(9, resource)?.kind;
        let plain = DeviceSchema::new(&models, &[], Version::V1_1);
        assert_eq!(kind(&plain, 0), Some(ResourceType::String));
        assert_eq!(kind(&plain, 2), Some(ResourceType::Float));
        assert_eq!(kind(&plain, 3), None);
        let versions = [(3, Version::V1_0), (9, version("2.0"))];
        let stated = DeviceSchema::new(&models, &versions, Version::V1_1);
        assert_eq!(kind(&stated, 0), Some(ResourceType::Opaque));
        assert_eq!(stated.resource(10, 0), None);
    }

    #[test]
    fn later_files_replace_and_broken_ones_are_named() {
        let (models, errors) = models().load(
            [
                ("broken.xml".to_owned(), b"<LWM2M><Object>".to_vec()),
                file(9, "1.0", &[(5, "Time")]),
                file(9, "1.0", &[(6, "Time")]),
            ],
            MAX_FILE_BYTES,
        );
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].to_string().contains("broken.xml"),
            "{}",
            errors[0]
        );
        assert_eq!(models.versions(9).len(), 4);
        let definition = models.lookup(9, Some(Version::V1_0)).unwrap();
        assert_eq!(definition.resources()[0].id, 6);
    }

    #[test]
    fn builtin_objects_have_what_devices_send() {
        let models = ObjectModels::builtin();
        assert_eq!(models.objects().len(), 8);
        let schema = DeviceSchema::new(&models, &[], Version::V1_0);
        let resource = |object, resource| schema.resource(object, resource).unwrap();
        assert_eq!(resource(3, 9).kind, Some(ResourceType::Integer));
        assert_eq!(resource(3, 13).kind, Some(ResourceType::Time));
        assert_eq!(resource(3, 4).kind, None);
        assert!(resource(3, 11).multiple);
        assert_eq!(resource(5, 0).kind, Some(ResourceType::Opaque));
        assert_eq!(resource(6, 0).kind, Some(ResourceType::Float));
    }

    #[test]
    fn default_versions_follow_the_enabler() {
        for (enabler, object, expected) in [
            ("1.0", 3, "1.0"),
            ("1.1", 3, "1.1"),
            ("1.1", 4, "1.2"),
            ("1.2", 4, "1.3"),
            ("1.2", 5, "1.1"),
            ("1.2", 6, "1.0"),
            ("1.2", 3303, "1.0"),
        ] {
            assert_eq!(default_version(object, version(enabler)), version(expected));
        }
    }

    #[test]
    fn the_registry_is_overridden_by_files() {
        let registry = || ObjectModels::builtin().with_registry();
        let float = |models: &ObjectModels, version| {
            let definition = models.lookup(3303, Some(version)).unwrap();
            definition.resource(5700).and_then(|resource| resource.kind)
        };
        let known = registry();
        assert_eq!(float(&known, Version::V1_0), Some(ResourceType::Float));
        assert_eq!(known.versions(3303).len(), 2);
        assert_eq!(known.versions(3).len(), 3);
        let files = [
            file(3303, "1.0", &[(5700, "String")]),
            file(3, "1.0", &[(9, "Time")]),
        ];
        let (models, errors) = registry().load(files, MAX_FILE_BYTES);
        assert_eq!(errors, []);
        // Another use of the id: what the registry says of it is of no use.
        assert_eq!(models.versions(3303).len(), 1);
        assert_eq!(float(&models, Version::V1_1), Some(ResourceType::String));
        // The enabler's own version stays beside that of the file.
        let versions: Vec<Version> = models.versions(3).map(|object| object.version).collect();
        assert_eq!(versions, [Version::V1_0, Version::V1_2]);
        assert!(models.lookup(3304, None).is_some());
    }
}
