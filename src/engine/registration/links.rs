//! The objects of a device, from the payload of its Register (LwM2M Core 1.2 §6.2.1).

use serde::{Deserialize, Serialize};

use super::strings::Strings;
use crate::lwm2m::link::RegistrationLinks;
use crate::lwm2m::model::Version;
use crate::memory::{Heap, block};

/// What a device said of its objects, as far as it is needed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredLinks", into = "StoredLinks")]
pub(in crate::engine) struct Links {
    /// In the order of the device.
    pub(in crate::engine) objects: Strings,
    /// What many devices do not say.
    more: Option<Box<More>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct More {
    /// `None` for `/`, which most devices have.
    alternate_path: Option<Box<str>>,
    versions: Box<[(u16, Version)]>,
    /// Of the root link.
    content_formats: Box<[u16]>,
}

impl Links {
    fn new(objects: Strings, more: More) -> Self {
        let more = (more != More::default()).then(|| Box::new(more));
        Self { objects, more }
    }

    /// Of the root link.
    pub(in crate::engine) fn content_formats(&self) -> &[u16] {
        self.more.as_ref().map_or(&[], |more| &more.content_formats)
    }

    /// `None` for `/`.
    pub(super) fn alternate_path(&self) -> Option<&str> {
        self.more.as_ref()?.alternate_path.as_deref()
    }

    /// Those of objects that the device has announced.
    pub(super) fn versions(&self) -> &[(u16, Version)] {
        self.more.as_ref().map_or(&[], |more| &more.versions)
    }
}

impl From<RegistrationLinks> for Links {
    fn from(links: RegistrationLinks) -> Self {
        let path = links.alternate_path;
        let objects = links.objects.iter().map(String::as_str).collect();
        let more = More {
            alternate_path: (path != "/").then(|| path.into()),
            versions: links.versions.into(),
            content_formats: links.content_formats.into(),
        };
        Self::new(objects, more)
    }
}

impl Heap for Links {
    fn heap(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| {
            let versions = block(size_of_val(&*more.versions));
            let formats = block(size_of_val(&*more.content_formats));
            block(size_of::<More>()) + more.alternate_path.heap() + versions + formats
        });
        self.objects.heap() + more
    }
}

/// As they are stored: another field or order is another version of the record.
#[derive(Serialize, Deserialize)]
struct StoredLinks {
    alternate_path: Option<Box<str>>,
    objects: Strings,
    versions: Box<[(u16, Version)]>,
    content_formats: Box<[u16]>,
}

impl From<StoredLinks> for Links {
    fn from(stored: StoredLinks) -> Self {
        let more = More {
            alternate_path: stored.alternate_path,
            versions: stored.versions,
            content_formats: stored.content_formats,
        };
        Self::new(stored.objects, more)
    }
}

impl From<Links> for StoredLinks {
    fn from(Links { objects, more }: Links) -> Self {
        let more = more.map(|more| *more).unwrap_or_default();
        Self {
            alternate_path: more.alternate_path,
            objects,
            versions: more.versions,
            content_formats: more.content_formats,
        }
    }
}
