//! How commands are written.

/// How a command is written, and therefore its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `msgType` and `data`, as EMQX 3 and later.
    Current,
    /// `CmdID`, `Command` and `BaseName`, as EMQ 2.
    Legacy,
}
