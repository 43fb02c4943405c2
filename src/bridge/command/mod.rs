//! From the JSON of a command to an operation, in both dialects.

mod arguments;
mod attributes;
mod composite;
mod current;
mod items;
mod legacy;
mod options;
mod own;
mod parse;
mod parsed;
pub mod typed;
mod unreadable;
mod waiting;
mod write;

// The engine asks for it here.
pub use crate::bridge::refusal::Reason;
pub use options::Options;
pub use parse::parse;
pub use parsed::Command;
pub use waiting::{QueueRequest, queue_request};
