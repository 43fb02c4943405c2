//! CoAP (RFC 7252, 7641, 7959), sans-IO: messages, exchanges, blocks and observations as plain
//! state that the engine drives.

pub mod block;
pub mod dedup;
pub mod echo;
pub mod exchange;
pub mod message;
pub mod observe;

pub use message::{Code, Message, MessageType, Token};
