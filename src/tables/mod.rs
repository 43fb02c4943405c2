//! Lists and tables for a million devices, in few bytes: an entry of a standard map costs up to twice its
//! size, since the map doubles when it grows, and keys are often larger than what stands under them.

pub(crate) mod digest;
pub(crate) mod numbers;
pub(crate) mod pieces;
pub(crate) mod queue;
pub(crate) mod rare;
