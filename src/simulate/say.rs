//! What the simulator says to people.

use std::fmt::Write as _;
use std::io;

use crate::printable::EscapingLines;

/// A line for whoever still listens; a closed pipe is no reason to stop. Nothing that the server
/// said acts on the terminal.
pub(super) fn say(to: &mut dyn io::Write, line: &str) {
    let mut shown = String::new();
    // Writing to a string cannot fail.
    let _ = EscapingLines(&mut shown).write_str(line);
    let _ = writeln!(to, "{shown}").and_then(|()| to.flush());
}
