//! JSON in and out without building trees: members stay raw text, output goes straight into the
//! payload.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of a command.
pub(super) const MAX_DEPTH: usize = 32;
/// Most members of one object, so that looking for one of them stays cheap.
pub(super) const MAX_MEMBERS: usize = 256;
/// Most elements of `content`.
pub(super) const MAX_ITEMS: usize = 16_384;

/// The members of one object in their order, values unparsed.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The members that stand whole before whatever keeps `text` from being read, in one pass that
    /// copies none of their values. None when it begins no object.
    pub(super) fn whole(text: &'a str) -> Self {
        let mut members = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        // What is wrong with the rest is known already.
        let _ = deserializer.deserialize_map(Collector(&mut members));
        // A number that ends with the text may have lost digits.
        let end = text.as_bytes().as_ptr_range().end;
        members.pop_if(|(_, value)| {
            let value = value.get();
            value.as_bytes().as_ptr_range().end == end && !value.ends_with(['"', '}', ']'])
        });
        Self(members)
    }

    /// Keeps those for which `keep` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.0.retain(|(key, value)| keep(key, value.get()));
    }

    /// The member's value; of several with one name the last, as most JSON parsers do.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    }

    /// Like [`Members::get`], but `null` counts as absent.
    pub(super) fn value(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get() != "null")
    }

    /// Name and value of each member; of several with one name the last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        let mut seen = HashSet::with_capacity(self.0.len());
        let last = self.0.iter().rev();
        let last = last.filter(|(key, _)| seen.insert(key.as_ref()));
        let mut members: Vec<_> = last.map(|(key, value)| (key.as_ref(), *value)).collect();
        members.reverse();
        members.into_iter()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Vec::new();
        deserializer.deserialize_map(Collector(&mut members))?;
        Ok(Self(members))
    }
}

/// Puts the members of an object where they stay when the object turns out to be broken.
struct Collector<'m, 'a>(&'m mut Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Visitor<'de> for Collector<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if self.0.len() >= MAX_MEMBERS {
                return Err(A::Error::custom("too many members in an object"));
            }
            let value: &'de RawValue = map.next_value()?;
            self.0.push((key, value));
        }
        Ok(())
    }
}

/// A member name, borrowed unless it holds escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The elements of an array, unparsed, at most [`MAX_ITEMS`].
pub(super) struct Elements<'a>(pub(super) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementsVisitor;
        impl<'de> Visitor<'de> for ElementsVisitor {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Vec::new();
                while elements.len() < MAX_ITEMS {
                    let Some(element) = seq.next_element()? else {
                        return Ok(Elements(elements));
                    };
                    elements.push(element);
                }
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom("too many elements in an array"));
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(ElementsVisitor)
    }
}

/// Whether arrays and objects nest deeper than [`MAX_DEPTH`]. One pass over the bytes, before
/// any parser sees them.
pub(super) fn too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The text of a JSON string; `None` for any other value.
pub(super) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(text).ok().map(Cow::Owned)
}

/// Whether the value is a JSON number.
pub(super) fn is_number(raw: &RawValue) -> bool {
    raw.get()
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// Appends text as it is.
pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a string with quotes and escapes.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    // Neither serializing a string nor writing to a Vec can fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends bytes as a string of base64.
pub(super) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    put(out, &STANDARD.encode(bytes));
    out.push(b'"');
}

/// Appends an integer.
pub(super) fn put_integer(out: &mut Vec<u8>, value: impl Serialize) {
    // Neither serializing an integer nor writing to a Vec can fail.
    let _ = serde_json::to_writer(out, &value);
}

/// Appends an object link as text, `"3:0"`.
pub(super) fn put_object_link(out: &mut Vec<u8>, object: u16, instance: u16) {
    out.push(b'"');
    put_integer(out, object);
    out.push(b':');
    put_integer(out, instance);
    out.push(b'"');
}

/// Appends a finite number, shortest form that reads back the same.
pub(super) fn put_float(out: &mut Vec<u8>, value: f64) {
    // Writing to a Vec cannot fail; the caller excludes what JSON cannot carry, which would be
    // written as null.
    let _ = serde_json::to_writer(out, &value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_member_wins() {
        let members = Members::parse(r#"{"a":1,"b":{"c":[1, 2]},"\u0061":1e400}"#).unwrap();
        assert_eq!(members.get("a").unwrap().get(), "1e400");
        let all: Vec<_> = members.iter().map(|(key, raw)| (key, raw.get())).collect();
        assert_eq!(all, [("b", r#"{"c":[1, 2]}"#), ("a", "1e400")]);
        assert!(Members::parse("[1]").is_err());
    }

    #[test]
    fn whole_members_of_broken_objects() {
        let whole = |text: &str| -> Vec<(String, String)> {
            let members = Members::whole(text);
            let pairs = members.iter();
            pairs
                .map(|(key, raw)| (key.into(), raw.get().into()))
                .collect()
        };
        let first = ("a".to_owned(), "1".to_owned());
        for text in [
            r#"{"a":1}"#,
            r#"{"a":1,"b":{"c":[}"#,
            r#"{"a":1,"b":"x"#,
            r#"{"a":1,"b":12"#,
            r#"{"a":1,"b":tru"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1,"b"#,
            r#"{"a":1} x"#,
        ] {
            assert_eq!(whole(text), std::slice::from_ref(&first), "{text}");
        }
        let last = whole(r#"{"a":1,"b":"x""#);
        assert_eq!(last, [first, ("b".to_owned(), r#""x""#.to_owned())]);
        for text in ["", "{", "[1]", "{bad", r#"{"a":1"#, "1"] {
            assert_eq!(whole(text), [], "{text}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let many = |n: usize| {
            let members: Vec<String> = (0..n).map(|i| format!("\"k{i}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(Members::parse(&many(MAX_MEMBERS)).is_ok());
        assert!(Members::parse(&many(MAX_MEMBERS + 1)).is_err());
        let array = |n: usize| format!("[{}]", vec!["0"; n].join(","));
        assert!(serde_json::from_str::<Elements<'_>>(&array(MAX_ITEMS)).is_ok());
        assert!(serde_json::from_str::<Elements<'_>>(&array(MAX_ITEMS + 1)).is_err());
        assert!(!too_deep(&"[".repeat(MAX_DEPTH)) && too_deep(&"[".repeat(MAX_DEPTH + 1)));
        assert!(!too_deep(&format!("\"\\\"{}", "[".repeat(99))));
    }

    #[test]
    fn strings() {
        let raw = |text: &'static str| -> &'static RawValue { serde_json::from_str(text).unwrap() };
        assert_eq!(string(raw(r#""a/b""#)).unwrap(), "a/b");
        assert_eq!(string(raw(r#""\u0041\n""#)).unwrap(), "A\n");
        assert_eq!(string(raw(r#""\ud800""#)), None);
        assert_eq!(string(raw("1")), None);
    }
}
