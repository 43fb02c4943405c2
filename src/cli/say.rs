//! Lines for people. A pipe that nobody reads any more is no reason to stop.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::Value;

use crate::printable::{EscapingLines, escape_json};

/// A line on standard output.
pub(crate) fn out(line: impl Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{}", shown(line)).and_then(|()| stdout.flush());
}

/// A JSON document on standard output, in a line. What would act on the terminal is escaped as JSON
/// has it, so that it stays JSON.
pub(crate) fn json(document: &Value) {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = escape_json(&document.to_string(), &mut line);
    out(line);
}

/// A line on standard error.
pub(crate) fn error(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "error: {}", shown(line));
}

/// Mistakes on standard error, for the end of a command.
pub(crate) fn failure(errors: &[impl Display]) -> ExitCode {
    errors.iter().for_each(error);
    ExitCode::FAILURE
}

/// A line on standard error that stops nothing.
pub(crate) fn warning(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "warning: {}", shown(line));
}

/// Nothing that is shown acts on the terminal.
fn shown(line: impl Display) -> String {
    let mut shown = String::new();
    // Writing to a string cannot fail.
    let _ = write!(EscapingLines(&mut shown), "{line}");
    shown
}
