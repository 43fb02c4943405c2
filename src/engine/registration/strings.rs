//! Texts that are kept for each registered device, in one allocation.

use std::fmt;
use std::str;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::memory::{Heap, block};

/// Ends each text: a byte that never occurs in UTF-8.
const END: u8 = 0xff;

/// Texts in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct Strings(Box<[u8]>);

impl Heap for Strings {
    fn heap(&self) -> usize {
        block(self.0.len())
    }
}

impl Strings {
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_inclusive(|byte| *byte == END).map(|text| {
            let text = text.split_last().map_or(text, |(_, text)| text);
            str::from_utf8(text).unwrap_or_default()
        })
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::engine) fn contains(&self, text: &str) -> bool {
        self.iter().any(|known| known == text)
    }
}

impl<'a> FromIterator<&'a str> for Strings {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut bytes = Vec::new();
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(END);
        }
        Self(bytes.into())
    }
}

/// As a list of texts: this is how they are stored.
impl Serialize for Strings {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let count = self.0.iter().filter(|byte| **byte == END).count();
        to.collect_seq(Counted(self.iter(), count))
    }
}

/// A list whose length is known: formats without an end mark begin with it.
struct Counted<I>(I, usize);

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Texts)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Strings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Strings, A::Error> {
        let mut bytes = Vec::new();
        while texts.next_element_seed(Append(&mut bytes))?.is_some() {}
        Ok(Strings(bytes.into()))
    }
}

/// One text, behind the others.
struct Append<'b>(&'b mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(END);
        Ok(())
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_come_back(texts in proptest::collection::vec("\\PC{0,5}", 0..5)) {
            let strings: Strings = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(strings.iter().collect::<Vec<_>>(), texts.clone());
            // Stored as any list of texts.
            let bytes = postcard::to_allocvec(&strings).unwrap();
            prop_assert_eq!(&bytes, &postcard::to_allocvec(&texts).unwrap());
            prop_assert_eq!(postcard::from_bytes::<Strings>(&bytes).unwrap(), strings);
        }
    }
}
