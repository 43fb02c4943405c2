//! What a definition says of an object.

use super::version::Version;
use crate::lwm2m::ResourceType;

/// What may be done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations {
    /// Read and Observe.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Execute.
    pub execute: bool,
}

/// One resource of an object definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceDefinition {
    /// Resource id.
    pub id: u16,
    /// Name.
    pub name: String,
    /// What may be done with it by a server; nothing for what only a bootstrap server writes.
    pub operations: Operations,
    /// It may have several instances.
    pub multiple: bool,
    /// Every instance of the object has it.
    pub mandatory: bool,
    /// Data type; `None` for an executable resource.
    pub kind: Option<ResourceType>,
    /// Unit of the value.
    pub units: String,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectDefinition {
    /// Object id.
    pub id: u16,
    /// Version of the object.
    pub version: Version,
    /// Name.
    pub name: String,
    /// It may have several instances.
    pub multiple: bool,
    /// Every device has it.
    pub mandatory: bool,
    /// Sorted by id, each id once.
    pub(super) resources: Vec<ResourceDefinition>,
}

impl ObjectDefinition {
    /// The resources by their ids.
    #[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
    pub fn resources(&self) -> &[ResourceDefinition] {
        &self.resources
    }

    /// The resource `id`.
    pub fn resource(&self, id: u16) -> Option<&ResourceDefinition> {
        let index = self.resources.binary_search_by_key(&id, |r| r.id).ok()?;
        self.resources.get(index)
    }
}
