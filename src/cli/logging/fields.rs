//! Fields of events as text, with everything escaped that would act on a terminal.

use std::fmt::{self, Write as _};
use std::io;

use crate::printable::{Escaping, escape_json, is_hidden};
use tracing::Metadata;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

/// The message, then `name=value`.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut fields_of = Visitor {
            writer,
            first: true,
            result: Ok(()),
        };
        fields.record(&mut fields_of);
        fields_of.result
    }
}

struct Visitor<'w> {
    writer: Writer<'w>,
    first: bool,
    result: fmt::Result,
}

impl Visitor<'_> {
    fn add(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !std::mem::take(&mut self.first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let name = name.strip_prefix("r#").unwrap_or(name);
            if self.writer.has_ansi_escapes() {
                write!(self.writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?;
            } else {
                write!(self.writer, "{name}=")?;
            }
        }
        write!(Escaping(&mut self.writer), "{value:?}")
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What the `log` crate adds to its records is shown elsewhere or not wanted.
        if !field.name().starts_with("log.") {
            self.result = self.result.and_then(|()| self.add(field.name(), value));
        }
    }
}

/// The line of the statistics with its counters as an object, which they are in the event as text:
/// names of fields are fixed there. No text of others can look like this, its quotes are escaped.
fn with_counters(document: &str) -> Option<String> {
    if !document.contains(r#""counters":"{"#) {
        return None;
    }
    let mut line: serde_json::Value = serde_json::from_str(document).ok()?;
    let counters = line.get_mut("counters")?;
    *counters = serde_json::from_str(counters.as_str()?).ok()?;
    Some(format!("{line}\n"))
}

/// Lines of JSON on their way to `W`: what JSON leaves as it is becomes `\uXXXX`.
pub(super) struct JsonWriter<W>(pub(super) W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for JsonWriter<W> {
    type Writer = JsonLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        JsonLine(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        JsonLine(self.0.make_writer_for(metadata))
    }
}

/// See [`JsonWriter`].
pub(super) struct JsonLine<W>(W);

impl<W: io::Write> io::Write for JsonLine<W> {
    /// A whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let document = text.strip_suffix('\n').unwrap_or(&text);
        if let Some(structured) = with_counters(document) {
            // Names and numbers of ours: nothing is hidden in them.
            self.0.write_all(structured.as_bytes())?;
            return Ok(line.len());
        }
        if !document.contains(is_hidden) {
            self.0.write_all(line)?;
            return Ok(line.len());
        }
        let mut escaped = String::with_capacity(line.len().saturating_add(16));
        // Writing to a string cannot fail.
        let _ = escape_json(document, &mut escaped);
        escaped.push('\n');
        self.0.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
