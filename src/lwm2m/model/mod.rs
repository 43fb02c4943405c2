//! Object definitions (LwM2M Core 1.2 §7.3 and Appendix D): which resources an object has, and of
//! which type. Several versions of an object live side by side.

use super::codec::{ResourceSchema, Schema};

mod definition;
mod version;
mod xml;

pub use definition::{ObjectDefinition, Operations, ResourceDefinition};
pub use version::{BadVersion, Version, default_version};
pub use xml::{ModelError, Problem};

/// The object definitions the gateway knows. Does not change once made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectModels {
    /// Sorted by id and version, each pair once.
    objects: Vec<ObjectDefinition>,
}

const BUILTIN: [(&str, &[u8]); 8] = [
    ("0.xml", include_bytes!("../../../priv/lwm2m_xml/0.xml")),
    ("1.xml", include_bytes!("../../../priv/lwm2m_xml/1.xml")),
    ("2.xml", include_bytes!("../../../priv/lwm2m_xml/2.xml")),
    ("3.xml", include_bytes!("../../../priv/lwm2m_xml/3.xml")),
    ("4.xml", include_bytes!("../../../priv/lwm2m_xml/4.xml")),
    ("5.xml", include_bytes!("../../../priv/lwm2m_xml/5.xml")),
    ("6.xml", include_bytes!("../../../priv/lwm2m_xml/6.xml")),
    ("7.xml", include_bytes!("../../../priv/lwm2m_xml/7.xml")),
];

/// Default limit for the size of one definition file, in bytes. The largest of the OMA registry
/// has about a tenth of it.
pub const MAX_FILE_BYTES: usize = 4 << 20;

impl ObjectModels {
    /// The objects 0 to 7 of the LwM2M enabler, in their versions of LwM2M 1.2.
    pub fn builtin() -> Self {
        let files = BUILTIN.map(|(name, content)| (name.to_owned(), content.to_vec()));
        let (models, errors) = Self::default().load(files, MAX_FILE_BYTES);
        debug_assert!(errors.is_empty(), "{errors:?}");
        models
    }

    /// These definitions and those of `files` (name and content), each of at most `max_bytes`.
    /// What is in a file replaces what was known of the same version of the object, the last file
    /// wins. A file with an error is left out as a whole and named in the error; the others count.
    #[must_use]
    pub fn load(
        self,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
        max_bytes: usize,
    ) -> (Self, Vec<ModelError>) {
        let mut errors = Vec::new();
        let mut objects = self.objects;
        for (file, content) in files {
            match xml::parse(&content, max_bytes) {
                Ok(read) => objects.extend(read),
                Err(problem) => errors.push(ModelError { file, problem }),
            }
        }
        // The sort is stable, so turning the list around first puts the last definition in front.
        objects.reverse();
        objects.sort_by_key(|object| (object.id, object.version));
        objects.dedup_by_key(|object| (object.id, object.version));
        (Self { objects }, errors)
    }

    /// All definitions by id and version.
    pub fn objects(&self) -> &[ObjectDefinition] {
        &self.objects
    }

    /// All versions of one object, ascending.
    pub fn versions(&self, object: u16) -> &[ObjectDefinition] {
        let first = self.objects.partition_point(|o| o.id < object);
        let rest = self.objects.get(first..).unwrap_or_default();
        let count = rest.iter().take_while(|o| o.id == object).count();
        rest.get(..count).unwrap_or_default()
    }

    /// The definition of `object` in `version`; if that is not known the newest of the same major
    /// version, else the newest. No `version` asks for the newest.
    pub fn lookup(&self, object: u16, version: Option<Version>) -> Option<&ObjectDefinition> {
        let versions = self.versions(object);
        let newest = versions.last()?;
        let Some(version) = version else {
            return Some(newest);
        };
        versions
            .iter()
            .find(|o| o.version == version)
            .or_else(|| versions.iter().rfind(|o| o.version.major == version.major))
            .or(Some(newest))
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
            let versions = self.models.versions(object).iter().rev();
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
}
