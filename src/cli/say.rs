//! Lines for people. A pipe that nobody reads any more is no reason to stop.

use std::fmt::Display;
use std::io::{self, Write as _};

/// A line on standard output.
pub(crate) fn out(line: impl Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// A line on standard error.
pub(crate) fn error(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "error: {line}");
}

/// A line on standard error that stops nothing.
pub(crate) fn warning(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "warning: {line}");
}
