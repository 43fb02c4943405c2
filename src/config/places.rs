//! Where in its file a key stands, for whoever has to mend it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Deepest nesting of tables that is looked at.
const MAX_DEPTH: usize = 16;

/// What EMQX puts before the keys of its gateway.
pub(super) const EMQX_PREFIX: &str = "gateway.lwm2m.";

/// The lines of a file, by dotted key path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    file: Option<String>,
    #[cfg_attr(
        not(feature = "standalone"),
        allow(dead_code, reason = "only the program shows lines")
    )]
    lines: BTreeMap<String, usize>,
    /// Keys with a value from elsewhere.
    elsewhere: BTreeSet<String>,
}

impl Places {
    pub(super) fn of_lines(lines: BTreeMap<String, usize>) -> Self {
        Self {
            lines,
            ..Self::default()
        }
    }

    /// Of TOML text that can be read.
    pub(super) fn of_toml(text: &str) -> Self {
        let mut lines = BTreeMap::new();
        if let Ok(table) = DeTable::parse(text) {
            let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
            walk(table.get_ref(), "", 1, &starts, &mut lines);
        }
        Self::of_lines(lines)
    }

    pub(super) fn set_file(&mut self, file: &str) {
        self.file = Some(file.to_owned());
    }

    /// What the file says of `key` does not count.
    pub(super) fn set_elsewhere(&mut self, key: &str) {
        self.elsewhere.insert(key.to_owned());
    }

    /// The line of `key`, or of the nearest table around it; 0 for the file as a whole.
    #[cfg_attr(
        not(feature = "standalone"),
        allow(dead_code, reason = "only the program shows lines")
    )]
    fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if self.elsewhere.contains(key) {
                return None;
            }
            let found = self.lines.get(key);
            let found = found.or_else(|| self.lines.get(&format!("{EMQX_PREFIX}{key}")));
            if let Some(line) = found {
                return Some(*line);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    /// `message` about `key` with the file and the line in front, where they are known. An empty
    /// key stands for the text as a whole.
    #[cfg_attr(
        not(feature = "standalone"),
        allow(dead_code, reason = "only the program shows lines")
    )]
    pub(crate) fn show(&self, key: &str, message: impl Display) -> String {
        match (&self.file, self.line(key)) {
            (Some(file), _) if key.is_empty() => format!("{file}: {message}"),
            (Some(file), Some(line)) => format!("{file}:{line}: {message}"),
            _ => message.to_string(),
        }
    }
}

fn walk(
    table: &DeTable<'_>,
    above: &str,
    depth: usize,
    starts: &[usize],
    lines: &mut BTreeMap<String, usize>,
) {
    for (name, value) in table {
        let path = match above {
            "" => name.get_ref().to_string(),
            above => format!("{above}.{}", name.get_ref()),
        };
        let line = starts.partition_point(|at| *at < name.span().start);
        lines.insert(path.clone(), line.saturating_add(1));
        if let Some(inner) = table_of(value).filter(|_| depth < MAX_DEPTH) {
            walk(inner, &path, depth.saturating_add(1), starts, lines);
        }
    }
}

fn table_of<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Option<&'a DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_toml() {
        let text = "a = 1\n\n[b.c]\nd = { e = 2 }\n[listeners.udp.default]\nbind = 7\n";
        let mut places = Places::of_toml(text);
        assert_eq!(places.show("a", "x"), "x", "no file");
        places.set_file("f.toml");
        for (key, expected) in [
            ("a", "f.toml:1: x"),
            ("b.c.d.e", "f.toml:4: x"),
            ("b.c.nothing", "f.toml:3: x"),
            ("listeners.udp.default.bind", "f.toml:6: x"),
            ("elsewhere", "x"),
            ("", "f.toml: x"),
        ] {
            assert_eq!(places.show(key, "x"), expected);
        }
        places.set_elsewhere("a");
        assert_eq!(places.show("a", "x"), "x");
    }
}
