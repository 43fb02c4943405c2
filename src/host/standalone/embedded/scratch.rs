//! Directories for tests.

use std::path::PathBuf;

/// A new and empty one, which goes with this.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    /// `name` is this test's alone.
    pub(super) fn new(name: &str) -> Self {
        let name = format!("lwm2m-embedded-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
