//! The LwM2M data model: paths, values, object definitions, links and content formats.
//!
//! No protocol state lives here; everything is a function of its arguments.

pub mod codec;
pub mod link;
pub mod model;
pub mod operation;
pub mod path;
pub mod value;

pub use operation::Operation;
pub(crate) use path::PathIds;
pub use path::{Path, PathError};
pub use value::{ResourceType, Value};
