//! Texts that are kept for each registered device, in one allocation.

use std::fmt;
use std::str;

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
            prop_assert_eq!(strings.iter().collect::<Vec<_>>(), texts);
        }
    }
}
