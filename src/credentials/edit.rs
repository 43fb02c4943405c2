//! Editing the text of a PSK file; all other lines stay as they are, byte by byte.

use zeroize::Zeroizing;

use super::lines::{LineError, read_line, write_line};
use super::rules::KeyEncoding;
use super::{Credential, EndpointPattern, Key};

/// Why a text is not edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The identity is there and must not be replaced.
    #[error("the identity already exists, in line {0}")]
    Exists(usize),
    /// The identity is not there.
    #[error("the file does not have this identity")]
    Missing,
    /// The file has no way to say it, such as a line break in an identity, or endpoints beside
    /// keys as text.
    #[error("the format of this file has no way to write it")]
    Unwritable,
    /// A line with this identity could not be read again.
    #[error(transparent)]
    Line(#[from] LineError),
}

/// The text with one credential more. With `replace` the line of the same identity is replaced,
/// which keeps its endpoints when `endpoints` is `None`.
///
/// # Errors
///
/// When the identity is there already and `replace` is not given, or when a line cannot say it.
pub fn set(
    text: &[u8],
    keys: KeyEncoding,
    identity: &[u8],
    key: &Key,
    endpoints: Option<Vec<EndpointPattern>>,
    replace: bool,
) -> Result<Zeroizing<Vec<u8>>, EditError> {
    let places = places(text, keys, identity);
    if let (Some((line, _)), false) = (places.last(), replace) {
        return Err(EditError::Exists(*line));
    }
    let kept = || {
        places
            .last()
            .map(|(_, credential)| credential.endpoints.clone())
    };
    let credential = Credential {
        identity: identity.into(),
        key: key.clone(),
        endpoints: endpoints.or_else(kept).unwrap_or_default(),
    };
    let line = write_line(&credential, keys);
    let is_one_line = !line.contains(&b'\n') && !line.ends_with(b"\r");
    if !is_one_line || read_line(&line, keys)? != Some(credential) {
        return Err(EditError::Unwritable);
    }
    let last = places.last().map(|(line, _)| *line);
    Ok(rewrite(text, &line, |number| {
        if last == Some(number) {
            Fate::Replaced
        } else if places.iter().any(|(line, _)| *line == number) {
            Fate::Removed
        } else {
            Fate::Kept
        }
    }))
}

/// The text without an identity.
///
/// # Errors
///
/// When it is not there.
pub fn remove(
    text: &[u8],
    keys: KeyEncoding,
    identity: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EditError> {
    let places = places(text, keys, identity);
    if places.is_empty() {
        return Err(EditError::Missing);
    }
    Ok(rewrite(text, &[], |number| {
        match places.iter().any(|(line, _)| *line == number) {
            true => Fate::Removed,
            false => Fate::Kept,
        }
    }))
}

/// The lines of an identity, of which the last counts.
fn places(text: &[u8], keys: KeyEncoding, identity: &[u8]) -> Vec<(usize, Credential)> {
    super::lines::numbered(text)
        .filter_map(|(number, line)| Some((number, read_line(line, keys).ok()??)))
        .filter(|(_, credential)| *credential.identity == *identity)
        .collect()
}

#[derive(PartialEq)]
enum Fate {
    Kept,
    Removed,
    Replaced,
}

/// Copies the lines; `new` takes the place of the one that is replaced, or comes last.
fn rewrite(text: &[u8], new: &[u8], fate: impl Fn(usize) -> Fate) -> Zeroizing<Vec<u8>> {
    // The whole room at once: a vector that grows leaves copies behind.
    let room = text.len().saturating_add(new.len()).saturating_add(4);
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    let end: &[u8] = match text.windows(2).any(|pair| pair == b"\r\n") {
        true => b"\r\n",
        false => b"\n",
    };
    let mut to_write = !new.is_empty();
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        match fate(number) {
            Fate::Kept => out.extend_from_slice(line),
            Fate::Removed => {}
            Fate::Replaced => {
                out.extend_from_slice(new);
                out.extend_from_slice(end);
                to_write = false;
            }
        }
    }
    if to_write {
        if out.last().is_some_and(|byte| *byte != b'\n') {
            out.extend_from_slice(end);
        }
        out.extend_from_slice(new);
        out.extend_from_slice(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credentials::Lines;

    const HEX: KeyEncoding = KeyEncoding::Hex;

    fn key() -> Key {
        Key::new(vec![0xab, 0xcd])
    }

    fn added(text: &str, identity: &str, replace: bool) -> Result<String, EditError> {
        set(
            text.as_bytes(),
            HEX,
            identity.as_bytes(),
            &key(),
            None,
            replace,
        )
        .map(shown)
    }

    fn shown(text: Zeroizing<Vec<u8>>) -> String {
        String::from_utf8(text.to_vec()).unwrap()
    }

    fn removed(text: &str, identity: &str) -> Result<String, EditError> {
        remove(text.as_bytes(), HEX, identity.as_bytes()).map(shown)
    }

    #[test]
    fn adding() {
        for (text, expected) in [
            ("", "b:abcd\n"),
            ("a:00\n", "a:00\nb:abcd\n"),
            ("a:00", "a:00\nb:abcd\n"),
            ("# c\r\na:00\r\n", "# c\r\na:00\r\nb:abcd\r\n"),
            ("# c\r\na:00", "# c\r\na:00\r\nb:abcd\r\n"),
            ("junk\n\n", "junk\n\nb:abcd\n"),
        ] {
            assert_eq!(added(text, "b", false).unwrap(), expected, "{text:?}");
        }
        let quoted = added("", "mac:1", false).unwrap();
        assert_eq!(quoted, "\"mac:1\":abcd\n");
        assert_eq!(added("", "urn", false).unwrap(), "\"urn\":abcd\n");
        let endpoints = Some(EndpointPattern::list("x,y*").unwrap());
        let listed = set(b"", HEX, b"b", &key(), endpoints.clone(), false);
        assert_eq!(shown(listed.unwrap()), "b:abcd:x,y*\n");

        assert_eq!(added("a:00\nb:00\n", "b", false), Err(EditError::Exists(2)));
        assert_eq!(added("", "a\nb", false), Err(EditError::Unwritable));
        assert!(matches!(added("", "", false), Err(EditError::Line(_))));
        let text = KeyEncoding::Text;
        let refused = set(b"", text, b"b", &key(), endpoints, false);
        assert_eq!(refused, Err(EditError::Unwritable));
        let broken = set(b"", text, b"b", &Key::new(b"a\nb".to_vec()), None, false);
        assert_eq!(broken, Err(EditError::Unwritable));
        let cut = set(b"", text, b"b", &Key::new(b"\r".to_vec()), None, false);
        assert_eq!(cut, Err(EditError::Unwritable));
        let fine = set(b"", text, b"b", &Key::new(b"a: b".to_vec()), None, false);
        assert_eq!(shown(fine.unwrap()), "b:a: b\n");
    }

    #[test]
    fn replacing() {
        for (text, expected) in [
            ("a:00\nb:00 \n#\n", "a:00\nb:abcd\n#\n"),
            ("a:00\nb:00", "a:00\nb:abcd\n"),
            ("b:00:x,y\na:00\n", "b:abcd:x,y\na:00\n"),
            ("b:00\na:00\nb:01:z\n", "a:00\nb:abcd:z\n"),
            ("a:00\n", "a:00\nb:abcd\n"),
        ] {
            assert_eq!(added(text, "b", true).unwrap(), expected, "{text:?}");
        }
        let none = set(b"b:00:x\n", HEX, b"b", &key(), Some(Vec::new()), true);
        assert_eq!(shown(none.unwrap()), "b:abcd\n");
    }

    #[test]
    fn removing() {
        for (text, expected) in [
            ("a:00\nb:00\n# c\n", "a:00\n# c\n"),
            ("b:00\nb:01\n", ""),
            ("a:00\nb:00", "a:00\n"),
            ("\u{feff}b:00\na:00\n", "a:00\n"),
            ("b:00\n\u{feff}a:00\n", "\u{feff}a:00\n"),
            ("a:00\n\u{feff}b:00\n", "a:00\n"),
            ("a:00\r\n \"b\" : 00\r\n", "a:00\r\n"),
        ] {
            assert_eq!(removed(text, "b").unwrap(), expected, "{text:?}");
        }
        for text in ["", "a:00\n", "# b:00\n", "b:zz\n", "ab:00\n"] {
            assert_eq!(removed(text, "b"), Err(EditError::Missing), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn other_credentials_stay(
            lines in proptest::collection::vec("([a-d]:[0-9a-f]{2}(:e)?|#.{0,4}|[a-d]|)\r?", 0..8),
            identity in "[a-d]",
        ) {
            let text = lines.join("\n");
            let others = |text: &[u8]| {
                let read = Lines::read(text, HEX);
                let mut others: Vec<_> = read
                    .credentials
                    .into_iter()
                    .filter(|(_, it)| *it.identity != *identity.as_bytes())
                    .map(|(_, credential)| credential)
                    .collect();
                others.sort_by(|a, b| a.identity.cmp(&b.identity));
                (others, read.bad)
            };
            let edited = set(text.as_bytes(), HEX, identity.as_bytes(), &key(), None, true);
            let edited = edited.unwrap();
            prop_assert_eq!(others(&edited), others(text.as_bytes()));
            let there = Lines::read(&edited, HEX).credentials;
            let there = there.iter().find(|(_, it)| *it.identity == *identity.as_bytes());
            prop_assert!(there.is_some_and(|(_, it)| it.key == key()));

            let gone = remove(&edited, HEX, identity.as_bytes()).unwrap();
            prop_assert_eq!(others(&gone), others(text.as_bytes()));
            let again = remove(&gone, HEX, identity.as_bytes());
            prop_assert_eq!(again, Err(EditError::Missing));
        }
    }
}
