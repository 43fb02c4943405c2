//! The LwM2M server.

pub mod request;
