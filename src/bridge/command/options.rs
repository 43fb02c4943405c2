//! How commands are read.

use crate::config::Config;

/// Most bytes of a command that its notifications repeat, and the answer to one that is not read.
pub(super) const MAX_REPEATED: usize = 64 << 10;

/// How commands are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `limits.max_command_size`, bytes.
    pub max_size: usize,
    /// `compat.execute_arguments`: whether they must be those of LwM2M.
    pub check_arguments: bool,
}

impl Options {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            max_size: config.max_command_size(),
            check_arguments: !config.compat.pass_execute_arguments,
        }
    }
}
