//! Tables for people: as wide as the terminal, cut where they must be, in colour unless `NO_COLOR` is
//! set or nobody looks.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use crate::cli::say;
use crate::printable::Printable;

/// Width where there is no terminal: nothing is cut.
const ENDLESS: usize = usize::MAX;

/// A table of texts of others.
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(super) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; what would act on the terminal is escaped, so that it has its width.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let shown = cells.iter().map(|cell| Printable(cell).to_string());
        self.rows.push(shown.collect());
    }

    /// Writes it. The widest column that is wider than its share gives way.
    pub(super) fn print(&self) {
        for line in self.lines(width()) {
            say::out(line);
        }
    }

    fn lines(&self, width: usize) -> Vec<String> {
        let mut widths: Vec<usize> = self.head.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(cell.chars().count());
            }
        }
        let gaps = 2 * widths.len().saturating_sub(1);
        let mut too_much = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
        while too_much > 0 {
            let Some(widest) = widths.iter_mut().max() else {
                break;
            };
            if *widest <= 8 {
                break;
            }
            *widest -= 1;
            too_much -= 1;
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                let cut = cut(cell, *width);
                let pad = width.saturating_sub(cut.chars().count());
                // Writing to a string cannot fail.
                let _ = write!(line, "{cut}{:pad$}  ", "");
            }
            line.trim_end().to_owned()
        };
        let head = line(&mut self.head.iter().copied());
        let rows = self.rows.iter();
        let rows = rows.map(|row| line(&mut row.iter().map(String::as_str)));
        std::iter::once(head).chain(rows).collect()
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn width() -> usize {
    if !io::stdout().is_terminal() {
        return ENDLESS;
    }
    let told = env::var("COLUMNS").ok();
    let told = told.and_then(|columns| columns.parse().ok());
    told.or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
        .unwrap_or(ENDLESS)
}

/// A duration in seconds in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut units = UNITS.iter().skip_while(|(size, _)| seconds < *size);
    let Some((size, unit)) = units.next() else {
        return "0 s".to_owned();
    };
    let first = format!("{} {unit}", seconds / size);
    match units.next() {
        Some((next, unit)) if seconds % size >= *next => {
            format!("{first} {} {unit}", seconds % size / next)
        }
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(["1".to_owned(), "abcdefghijklmnop".to_owned()]);
        table.row(["\u{1b}[31m".to_owned(), String::new()]);
        let lines = table.lines(ENDLESS);
        assert_eq!(lines[0], format!("{:<12}LONG", "A"));
        assert_eq!(lines[1], format!("{:<12}abcdefghijklmnop", "1"));
        assert_eq!(lines[2], r"\u{1b}[31m");
        let lines = table.lines(20);
        assert!(
            lines.iter().all(|line| line.chars().count() <= 20),
            "{lines:?}"
        );
        assert!(lines[1].ends_with('…'), "{lines:?}");
    }

    #[test]
    fn durations_for_people() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (86_400, "1 d"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
