//! The operations an application can ask of a device (LwM2M Core 1.2 §6.3 and §6.4), free of both
//! CoAP and MQTT.

use super::{Path, Value};
use crate::memory::Heap;

/// One value to be written, at its full path.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteItem {
    /// Full path of the resource or resource instance.
    pub path: Path,
    /// The value with its type.
    pub value: Value<'static>,
}

/// How a Write treats what it does not name (LwM2M Core 1.2 §6.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// CoAP PUT: the target is replaced.
    Replace,
    /// CoAP POST: what is not named stays.
    Update,
}

/// What to do at the device.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Read.
    Read,
    /// Discover.
    Discover,
    /// Observe.
    Observe,
    /// Cancel an observation.
    CancelObserve,
    /// Write a resource, or resources of an instance.
    Write {
        /// Replace or partial update.
        mode: WriteMode,
        /// What to write, in the order of the command.
        items: Vec<WriteItem>,
    },
    /// Write-Attributes, in wire order.
    WriteAttributes {
        /// Attribute name and value; without a value it is unset (LwM2M 1.0 §8.2.5, Core 1.1
        /// §6.3.5).
        attributes: Vec<(String, Option<String>)>,
    },
    /// Execute.
    Execute {
        /// Arguments as text (LwM2M Core 1.2 §6.3.5), may be empty.
        arguments: String,
    },
    /// Create an object instance.
    Create {
        /// Values of the new instances; empty lets the device choose everything.
        items: Vec<WriteItem>,
    },
    /// Delete an object instance.
    Delete,
    /// Read-Composite (LwM2M Core 1.2 §6.3.8).
    ReadComposite {
        /// What to read, in the order of the command.
        paths: Vec<Path>,
    },
    /// Observe-Composite (LwM2M Core 1.2 §6.4.4).
    ObserveComposite {
        /// What to observe.
        paths: Vec<Path>,
    },
    /// Cancel a composite observation (LwM2M Core 1.2 §6.4.5).
    CancelObserveComposite {
        /// What was observed.
        paths: Vec<Path>,
    },
    /// Write-Composite (LwM2M Core 1.2 §6.3.9).
    WriteComposite {
        /// What to write, in the order of the command.
        items: Vec<WriteItem>,
    },
}

impl Heap for WriteItem {
    fn heap(&self) -> usize {
        self.path.heap() + self.value.heap()
    }
}

impl Heap for Operation {
    fn heap(&self) -> usize {
        match self {
            Self::Write { items, .. } | Self::Create { items } | Self::WriteComposite { items } => {
                items.heap()
            }
            Self::WriteAttributes { attributes } => attributes.heap(),
            Self::Execute { arguments } => arguments.heap(),
            Self::ReadComposite { paths }
            | Self::ObserveComposite { paths }
            | Self::CancelObserveComposite { paths } => paths.heap(),
            Self::Read | Self::Discover | Self::Observe | Self::CancelObserve | Self::Delete => 0,
        }
    }
}
