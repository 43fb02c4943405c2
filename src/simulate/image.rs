//! The image of a new firmware, as a device holds it.

use std::time::Instant;

use crate::lwm2m::Path;

/// Largest image in bytes.
pub(super) const MAX_IMAGE: usize = 16 << 20;

/// Firmware Update.
pub(super) const OBJECT: u16 = 5;

/// What a device has of a new firmware.
#[derive(Debug, Default)]
pub(super) struct Firmware {
    /// Size and SHA-256 of the image that waits.
    pub(super) image: Option<(usize, String)>,
    /// What is to be fetched, until somebody fetches it.
    pub(super) wanted: Option<String>,
    /// It is being fetched.
    pub(super) pulling: bool,
    /// When the new firmware runs.
    pub(super) installed_at: Option<Instant>,
}

/// Whether this is where an image is pushed to.
pub(super) fn is_package(path: &Path) -> bool {
    matches!(path.ids(), [OBJECT, _, 0])
}
