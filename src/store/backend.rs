//! What a store is asked.

use super::batch::Batch;
use super::clock::Clocks;
use super::error::StoreError;
use crate::engine::Restored;

/// Everything that a store has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The clocks at its last commit; `None` for a new one.
    pub clocks: Option<Clocks>,
    /// By endpoint.
    pub devices: Vec<Restored>,
    /// Records that cannot be read.
    pub unreadable: usize,
}

/// A place where changes are kept.
pub trait Backend: Send {
    /// Everything that was committed.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn load(&mut self) -> Result<Contents, StoreError>;

    /// Takes all of a batch, or nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the same batch may be tried again.
    fn commit(&mut self, batch: &Batch, clocks: &Clocks) -> Result<(), StoreError>;
}
