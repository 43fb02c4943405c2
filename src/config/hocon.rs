//! HOCON, as far as EMQX's configuration needs it: objects with or without braces, dotted keys,
//! `=` or `:` or nothing before a brace, comments, texts without quotes, several texts in a row,
//! commas that are left out, keys that come twice. Substitutions, `include` and `+=` are mistakes
//! here. JSON is HOCON, too.
//!
//! <https://github.com/lightbend/config/blob/main/HOCON.md>

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Deepest nesting of objects and lists.
const MAX_DEPTH: usize = 16;

/// What does not stand in a text without quotes (HOCON, "Unquoted strings").
const FORBIDDEN: &[char] = &[
    '$', '"', '{', '}', '[', ']', ':', '=', ',', '+', '#', '`', '^', '?', '!', '@', '*', '&', '\\',
];

/// A document, and the line on which each of its keys stands last, from 1.
pub(super) type Document = (Map<String, Value>, BTreeMap<String, usize>);

/// Reads a document.
///
/// # Errors
/// The line, from 1, and what is wrong there.
pub(super) fn parse(text: &str) -> Result<Document, (usize, String)> {
    let mut reader = Reader {
        rest: text,
        line: 1,
        lines: BTreeMap::new(),
    };
    match reader.document() {
        Ok(root) => Ok((root, reader.lines)),
        Err(message) => Err((reader.line, message)),
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    lines: BTreeMap<String, usize>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Map<String, Value>, String> {
        self.skip();
        let braced = self.take('{');
        let mut root = Map::new();
        self.fields(&mut root, "", 1)?;
        if braced && !self.take('}') {
            return Err("the opening brace is not closed".to_owned());
        }
        self.skip();
        match self.rest.chars().next() {
            None => Ok(root),
            Some(other) => Err(format!("unexpected {other:?}")),
        }
    }

    /// The fields of an object, up to its brace or the end.
    fn fields(
        &mut self,
        into: &mut Map<String, Value>,
        above: &str,
        depth: usize,
    ) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("is nested too deeply".to_owned());
        }
        loop {
            self.skip();
            while self.take(',') {
                self.skip();
            }
            if self.rest.is_empty() || self.rest.starts_with('}') {
                return Ok(());
            }
            self.field(into, above, depth)?;
        }
    }

    fn field(
        &mut self,
        into: &mut Map<String, Value>,
        above: &str,
        depth: usize,
    ) -> Result<(), String> {
        let names = self.key()?;
        let mut path = above.to_owned();
        for name in &names {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            self.lines.insert(path.clone(), self.line);
        }
        if depth.saturating_add(names.len()) > MAX_DEPTH.saturating_add(1) {
            return Err("is nested too deeply".to_owned());
        }
        self.skip();
        if self.rest.starts_with("+=") {
            return Err("+= is not supported: write the whole list".to_owned());
        }
        if !self.rest.starts_with('{') && !self.take('=') && !self.take(':') {
            return Err(format!("{path} has no value: expected =, : or {{"));
        }
        self.skip();
        let inner = depth.saturating_add(names.len());
        let mut table = into;
        let Some((last, parents)) = names.split_last() else {
            return Err("expected a key".to_owned());
        };
        for name in parents {
            table = object(table, name)?;
        }
        if self.take('{') {
            let table = object(table, last)?;
            self.fields(table, &path, inner)?;
            self.close('}')?;
            return self.end_of_value();
        }
        let value = self.value(&path, inner)?;
        table.insert(last.clone(), value);
        self.end_of_value()
    }

    /// A key: names with dots between them, each with or without quotes.
    fn key(&mut self) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        loop {
            let name = match self.rest.starts_with('"') {
                true => self.quoted()?,
                false => {
                    let ends = |c: char| c == '.' || c.is_whitespace() || FORBIDDEN.contains(&c);
                    self.take_until(ends).to_owned()
                }
            };
            if name == "include" && names.is_empty() && !self.rest.starts_with('.') {
                return Err("include is not supported: put everything into one file".to_owned());
            }
            if name.is_empty() {
                let found = self.rest.chars().next().unwrap_or(' ');
                return Err(format!("expected a key, found {found:?}"));
            }
            names.push(name);
            self.blanks();
            if !self.take('.') {
                return Ok(names);
            }
        }
    }

    fn value(&mut self, path: &str, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err("is nested too deeply".to_owned());
        }
        if self.take('{') {
            let mut object = Map::new();
            self.fields(&mut object, path, depth.saturating_add(1))?;
            self.close('}')?;
            return Ok(Value::Object(object));
        }
        if self.take('[') {
            return self.list(path, depth);
        }
        self.scalar(path)
    }

    fn list(&mut self, path: &str, depth: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            self.skip();
            while self.take(',') {
                self.skip();
            }
            if self.take(']') {
                return Ok(Value::Array(list));
            }
            if self.rest.is_empty() {
                return Err(format!("the list of {path} is not closed"));
            }
            list.push(self.value(path, depth.saturating_add(1))?);
            self.end_of_value()?;
        }
    }

    /// A number, a word, or texts in a row, which are one text with the blanks between them.
    fn scalar(&mut self, path: &str) -> Result<Value, String> {
        let mut text = String::new();
        let mut has_quotes = false;
        let mut blanks = "";
        loop {
            let piece = if self.rest.starts_with("\"\"\"") {
                has_quotes = true;
                self.raw()?
            } else if self.rest.starts_with('"') {
                has_quotes = true;
                self.quoted()?
            } else if self.rest.starts_with("${") {
                return Err(format!(
                    "{path}: substitutions are not supported: write the value itself, or put ${{…}} in quotes if it is meant as text"
                ));
            } else {
                let ends = |c: char| c.is_whitespace() || FORBIDDEN.contains(&c);
                let word = self.take_until(ends);
                // What follows `//` is a comment, as in `1 // one`.
                let length = word.find("//").unwrap_or(word.len());
                let (word, comment) = word.split_at(length);
                if !comment.is_empty() {
                    self.skip_line();
                }
                word.to_owned()
            };
            if piece.is_empty() && !has_quotes {
                break;
            }
            text.push_str(blanks);
            text.push_str(&piece);
            blanks = self.blanks();
            let next = self.rest.chars().next();
            if next.is_none_or(|c| matches!(c, '\n' | '\r' | ',' | '}' | ']' | '#'))
                || self.rest.starts_with("//")
            {
                break;
            }
            if next.is_some_and(|c| c != '"' && c != '$' && FORBIDDEN.contains(&c)) {
                break;
            }
        }
        if has_quotes {
            return Ok(Value::String(text));
        }
        match text.as_str() {
            "" => Err(format!("{path} has no value")),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            _ => Ok(number(&text).unwrap_or(Value::String(text))),
        }
    }

    /// A text in quotes, with the escapes of JSON.
    fn quoted(&mut self) -> Result<String, String> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '\n' || (*c == '"' && !escaped);
            escaped = *c == '\\' && !escaped;
            ends
        });
        let end = end.filter(|(_, c)| *c == '"').map(|(at, _)| at);
        let text = end.and_then(|end| self.rest.get(..=end));
        let text = text.ok_or("a string has no closing quote on its line")?;
        let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        self.advance(text.len());
        Ok(value)
    }

    /// A text in three quotes: as it stands, over several lines.
    fn raw(&mut self) -> Result<String, String> {
        let inner = self.rest.get(3..).unwrap_or_default();
        let end = inner
            .find("\"\"\"")
            .ok_or("a string has no closing quotes (\"\"\")")?;
        // More quotes at the end belong to the text.
        let after = inner.get(end..).unwrap_or_default();
        let quotes = after.chars().take_while(|c| *c == '"').count();
        let length = end.saturating_add(quotes).saturating_sub(3);
        let text = inner.get(..length).unwrap_or_default().to_owned();
        self.advance(length.saturating_add(6));
        Ok(text)
    }

    /// Behind a value comes the next one only after a comma or on another line.
    fn end_of_value(&mut self) -> Result<(), String> {
        let line = self.line;
        self.skip();
        let next = self.rest.chars().next();
        match next {
            None | Some(',' | '}' | ']') => Ok(()),
            _ if self.line > line => Ok(()),
            Some(other) => Err(format!("unexpected {other:?}")),
        }
    }

    fn close(&mut self, bracket: char) -> Result<(), String> {
        match self.take(bracket) {
            true => Ok(()),
            false => Err(format!("expected {bracket:?}")),
        }
    }

    /// Takes white space and comments.
    fn skip(&mut self) {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.advance(blank);
            if !self.rest.starts_with('#') && !self.rest.starts_with("//") {
                return;
            }
            self.skip_line();
        }
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        self.advance(end);
    }

    /// Takes blanks of this line.
    fn blanks(&mut self) -> &'a str {
        self.take_until(|c: char| !c.is_whitespace() || c == '\n')
    }

    fn take_until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let taken = self.rest.get(..end).unwrap_or_default();
        self.advance(end);
        taken
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest.starts_with(wanted);
        if found {
            self.advance(wanted.len_utf8());
        }
        found
    }

    fn advance(&mut self, bytes: usize) {
        let (over, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line = self.line.saturating_add(over.matches('\n').count());
        self.rest = rest;
    }
}

/// The object of this name, in place of a value that is none.
fn object<'m>(
    table: &'m mut Map<String, Value>,
    name: &str,
) -> Result<&'m mut Map<String, Value>, String> {
    let entry = table.entry(name.to_owned()).or_insert(Value::Null);
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    entry
        .as_object_mut()
        .ok_or_else(|| format!("{name} is not an object"))
}

/// A number of JSON.
fn number(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.is_number().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tree(text: &str) -> Value {
        Value::Object(parse(text).unwrap().0)
    }

    #[test]
    fn a_section_of_emqx() {
        let text = r#"
            # EMQX
            gateway.lwm2m {
              xml_dir = "etc/lwm2m_xml/"   // a comment
              lifetime_min = 1s
              lifetime_max : 86400s,
              auto_observe = false
              "mountpoint": "lwm2m/${endpoint_name}/"
              translators {
                command { topic = "/dn/#", qos = 0 }
                response.topic = "/up/resp"
                response { qos = 1 }
              }
              listeners.udp.default {
                bind = 5783
                acceptors = 16, access_rules = ["allow all", deny all]
                note = one "two"  three
              }
            }"#;
        assert_eq!(
            tree(text),
            json!({"gateway": {"lwm2m": {
                "xml_dir": "etc/lwm2m_xml/",
                "lifetime_min": "1s",
                "lifetime_max": "86400s",
                "auto_observe": false,
                "mountpoint": "lwm2m/${endpoint_name}/",
                "translators": {
                    "command": {"topic": "/dn/#", "qos": 0},
                    "response": {"topic": "/up/resp", "qos": 1},
                },
                "listeners": {"udp": {"default": {
                    "bind": 5783, "acceptors": 16, "access_rules": ["allow all", "deny all"],
                    "note": "one two  three",
                }}},
            }}})
        );
        let lines = parse(text).unwrap().1;
        assert_eq!(lines["gateway.lwm2m.lifetime_min"], 5);
        assert_eq!(lines["gateway.lwm2m.listeners.udp.default.bind"], 15);
    }

    #[test]
    fn json_is_hocon() {
        let json = r#"{"a": {"b": [1, -2.5, "x\"y", null, {"c": {}}]}, "d.e": true}"#;
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(tree(json), value);
    }

    #[test]
    fn values_that_come_twice() {
        assert_eq!(tree("a=1\na=2"), json!({"a": 2}));
        assert_eq!(tree("a{b=1},a{c=2}"), json!({"a": {"b": 1, "c": 2}}));
        assert_eq!(tree("a=1\na.b=2"), json!({"a": {"b": 2}}));
        assert_eq!(tree("a=\"\"\"x\n\"y\"\"\"\""), json!({"a": "x\n\"y\""}));
        assert_eq!(tree(""), json!({}));
    }

    #[test]
    fn mistakes_have_a_line() {
        for (text, line, part) in [
            ("a = 1\nb = ${a}", 2, "substitution"),
            ("include \"x\"", 1, "include"),
            ("a = 1\n\nb += 2", 3, "+="),
            ("a", 1, "no value"),
            ("a =", 1, "no value"),
            ("a = 1 b = 2", 1, "'='"),
            ("a = \"x", 1, "closing quote"),
            ("a {\n b = 1", 2, "'}'"),
            ("{a = 1", 1, "not closed"),
            ("a = [1", 1, "not closed"),
            ("a = 1 }", 1, "'}'"),
            ("= 1", 1, "expected a key"),
        ] {
            let (at, message) = parse(text).unwrap_err();
            assert_eq!(at, line, "{text}: {message}");
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(parse(&"a{".repeat(50)).is_err());
        assert!(parse(&format!("a={}", "[".repeat(50))).is_err());
        assert!(parse(&format!("{}=1", vec!["a"; 50].join("."))).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c=:{}\\[\\],.\"#/\\n $\\\\+1]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn every_json_object_is_read(values in prop::collection::btree_map(
            any::<String>(), prop::collection::vec(any::<Option<i64>>(), 0..4), 0..4
        )) {
            let value = serde_json::to_value(&values).unwrap();
            let names_are_filled = values.keys().all(|key| !key.is_empty());
            prop_assume!(names_are_filled);
            prop_assert_eq!(tree(&value.to_string()), value);
        }
    }
}
