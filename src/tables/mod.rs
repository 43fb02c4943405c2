//! Tables with up to a million entries, in as few bytes as they can be.

pub(crate) mod digest;
pub(crate) mod numbers;
pub(crate) mod pieces;
pub(crate) mod queue;
pub(crate) mod rare;
