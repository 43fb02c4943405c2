//! How commands are read.

use crate::config::Config;

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
            max_size: config.limits.max_command_size,
            check_arguments: !config.compat.pass_execute_arguments,
        }
    }
}
