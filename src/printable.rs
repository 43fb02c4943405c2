//! Texts of others for people: what a terminal or an editor would act on instead of showing it is
//! escaped, so that nobody forges a line of the log, colours it or turns it around.

use std::fmt::{self, Write};

/// Writes a text with everything escaped that has no shape of its own, as in `\n` or `\u{202e}`.
///
/// ```
/// use lwm2m_gateway::printable::Printable;
/// assert_eq!(Printable("a\nb\u{202e}c").to_string(), r"a\nb\u{202e}c");
/// ```
#[derive(Clone, Copy)]
#[cfg(any(feature = "internals", feature = "standalone"))]
pub struct Printable<'a>(pub &'a str);

#[cfg(any(feature = "internals", feature = "standalone"))]
impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping(f).write_str(self.0)
    }
}

#[cfg(any(feature = "internals", feature = "standalone"))]
impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Passes text on as [`Printable`] shows it.
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(text, is_hidden, &mut self.0)
    }
}

/// As [`Escaping`], for text of several lines or columns of our own: line feeds and tabs stay.
#[cfg(any(feature = "internals", feature = "standalone"))]
pub struct EscapingLines<W>(pub W);

#[cfg(any(feature = "internals", feature = "standalone"))]
impl<W: Write> Write for EscapingLines<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_hidden = |c: char| !matches!(c, '\n' | '\t') && is_hidden(c);
        escape(text, is_hidden, &mut self.0)
    }
}

/// Escapes within a JSON document what a JSON writer leaves as it is. Such characters are only ever
/// part of strings there, where `\uXXXX` means the same (RFC 8259 §7).
#[cfg(any(feature = "internals", feature = "standalone"))]
pub fn escape_json(document: &str, to: &mut impl Write) -> fmt::Result {
    let mut rest = document;
    while let Some((at, c)) = find(rest, is_hidden) {
        to.write_str(rest.get(..at).unwrap_or_default())?;
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(to, "\\u{unit:04x}")?;
        }
        rest = rest.get(at + c.len_utf8()..).unwrap_or_default();
    }
    to.write_str(rest)
}

/// Whether a character is not shown but acted on, or has no width: control characters, line and
/// paragraph separators, marks of direction (Unicode TR 36 §2.10), joiners, fillers, variation
/// selectors and tags.
pub const fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

fn escape(text: &str, is_hidden: impl Fn(char) -> bool, to: &mut impl Write) -> fmt::Result {
    let mut rest = text;
    while let Some((at, c)) = find(rest, &is_hidden) {
        to.write_str(rest.get(..at).unwrap_or_default())?;
        write!(to, "{}", c.escape_default())?;
        rest = rest.get(at + c.len_utf8()..).unwrap_or_default();
    }
    to.write_str(rest)
}

fn find(text: &str, is_hidden: impl Fn(char) -> bool) -> Option<(usize, char)> {
    text.char_indices().find(|(_, c)| is_hidden(*c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &[(&str, &str)] = &[
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\u{1b}[31m", r"\u{1b}[31m"),
        ("\u{0}\u{7f}\u{85}\u{9b}", r"\u{0}\u{7f}\u{85}\u{9b}"),
        ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
        (
            "\u{202a}\u{202e}\u{2066}\u{2069}",
            r"\u{202a}\u{202e}\u{2066}\u{2069}",
        ),
        ("\u{200e}\u{200f}\u{61c}", r"\u{200e}\u{200f}\u{61c}"),
        (
            "\u{200b}\u{200d}\u{feff}\u{e0041}",
            r"\u{200b}\u{200d}\u{feff}\u{e0041}",
        ),
        ("sensor-1 é 温度 \"q\" \\ 😀", "sensor-1 é 温度 \"q\" \\ 😀"),
    ];

    #[test]
    fn c15_what_hides_is_escaped_and_nothing_else() {
        for (text, shown) in HOSTILE {
            assert_eq!(Printable(text).to_string(), *shown);
        }
        let mut lines = String::new();
        EscapingLines(&mut lines)
            .write_str("a\tb\nc\u{1b}\r")
            .unwrap();
        assert_eq!(lines, "a\tb\nc\\u{1b}\\r");
    }

    proptest! {
        #[test]
        fn c15_no_text_leaves_anything_hidden(text in any::<String>()) {
            let shown = Printable(&text).to_string();
            prop_assert!(!shown.contains(is_hidden));
            if !text.contains(is_hidden) {
                prop_assert_eq!(shown, text);
            }
        }

        #[test]
        fn c15_json_stays_the_same_document(text in any::<String>()) {
            let document = serde_json::to_string(&serde_json::json!({ &text: [text.as_str()] })).unwrap();
            let mut shown = String::new();
            escape_json(&document, &mut shown).unwrap();
            prop_assert!(!shown.contains(is_hidden));
            let document: serde_json::Value = serde_json::from_str(&document).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), document);
        }
    }
}
