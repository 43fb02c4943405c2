//! An event of the log as one line, for hosts whose log takes lines.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};

use crate::printable::Escaping;

/// Bytes of a line; what is longer is cut.
pub(crate) const MAX_LINE: usize = 4096;

/// The message, then the fields as `name=value`. Texts of peers are escaped: it is always one line,
/// and one of at most [`MAX_LINE`] bytes.
pub fn line_of(event: &tracing::Event<'_>) -> String {
    let mut line = Line::default();
    event.record(&mut line);
    let mut text = line.message;
    text.push_str(&line.fields);
    if text.len() > MAX_LINE {
        text.truncate(text.floor_char_boundary(MAX_LINE - CUT.len()));
        text.push_str(CUT);
    }
    text
}

/// Ends a line that was cut.
const CUT: &str = " …";

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // What the `log` crate adds to its records says where in a library, which nobody asked.
        if field.name().starts_with("log.") {
            return;
        }
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            Escaping(&mut self.message).write_fmt(value)
        } else {
            write!(self.fields, " {}=", field.name())
                .and_then(|()| Escaping(&mut self.fields).write_fmt(value))
        };
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_word = !value.is_empty() && !value.contains([' ', '"', '=']);
        if is_word || field.name() == "message" {
            self.add(field, format_args!("{value}"));
        } else {
            self.add(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing::{Event, Metadata};

    use super::super::events::{EventLog, TakesEvents};
    use super::*;
    use crate::printable::is_hidden;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl TakesEvents for Lines {
        fn wants(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn event(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(line_of(event));
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        tracing::subscriber::with_default(EventLog(lines.clone()), log);
        lines.0.lock().unwrap().clone()
    }

    #[test]
    fn message_and_fields() {
        let nobody = None::<u64>;
        let said = lines(|| {
            tracing::warn!(a = "x", b = "y z", c = "", n = 5, nobody, error = %"why not", "{}", "no");
        });
        assert_eq!(said, ["no a=x b=\"y z\" c=\"\" n=5 error=why not"]);
    }

    #[test]
    fn c15_a_long_line_is_cut_between_characters() {
        let long = "é".repeat(MAX_LINE);
        let said = lines(|| tracing::info!(long, "text"));
        assert!(
            said[0].len() <= MAX_LINE && said[0].ends_with('…'),
            "{}",
            said[0]
        );
    }

    proptest! {
        #[test]
        fn c15_an_event_is_one_line(text in any::<String>()) {
            let said = lines(|| {
                tracing::info!(endpoint = text.as_str(), shown = %text, debug = ?text, "of {text}");
            });
            prop_assert_eq!(said.len(), 1);
            prop_assert!(!said[0].contains(is_hidden));
        }
    }
}
