//! The lines of a PSK file: `identity:key`, `identity:key:endpoints`, comments.
//!
//! - Lines end in LF or CRLF. Blank lines and lines that start with `#` say nothing, nor do byte
//!   order marks.
//! - The first `:` ends the identity, as for Mosquitto and EMQX, with two exceptions for
//!   identities that hold a `:`. In double quotes an identity may hold anything, `\"` and `\\`
//!   stand for `"` and `\`. And if it starts with `urn:`, as the endpoint names of LwM2M do, then
//!   the key is the first field of at least 32 hexadecimal digits.
//! - [`KeyEncoding::Hex`]: the key ends at the next `:`, if any; what follows is the list of
//!   endpoints, with commas. Blanks around the fields do not count.
//! - [`KeyEncoding::Text`]: all that follows the identity is the key, as for EMQX; there are no
//!   endpoints.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
use zeroize::Zeroizing;

use super::rules::KeyEncoding;
use super::{
    Credential, EndpointPattern, IdentityError, Key, KeyError, PatternError, check_identity,
};

/// Why a line is skipped. Never holds a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No `:`.
    #[error("a : between identity and key is missing")]
    NoKey,
    /// Starts with `"`, but has no second one, or no `:` behind it.
    #[error("the identity in double quotes does not end in \":")]
    Quotes,
    /// Starts with `urn:`, but no field can be the key.
    #[error(
        "an identity that starts with urn: needs a key of 32 or more hexadecimal digits, or \
         double quotes around it"
    )]
    Urn,
    /// Not an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a list of endpoints.
    #[error(transparent)]
    Endpoints(#[from] PatternError),
    /// Endpoints in another encoding.
    #[error("the endpoints are not UTF-8")]
    NotUtf8,
}

/// What is worth a word about a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub kind: ProblemKind,
}

/// See [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The line is skipped.
    #[error("{0}; the line is skipped")]
    Bad(#[from] LineError),
    /// The line takes the place of an earlier one.
    #[error("replaces line {0}, which names the same identity")]
    Again(usize),
}

/// Most problems that are listed; the others are counted.
pub(crate) const MAX_PROBLEMS: usize = 100;

/// What a PSK file says.
#[derive(Debug, Default)]
pub struct Lines {
    /// Line and credential, in order of first mention. Each identity once, as its last line has
    /// it.
    pub credentials: Vec<(usize, Credential)>,
    /// The first [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// Lines that are skipped.
    pub bad: usize,
    /// Lines that replace others.
    pub again: usize,
}

impl Lines {
    /// Reads a whole file. A bad line harms no other.
    pub fn read(text: &[u8], keys: KeyEncoding) -> Self {
        let mut lines = Self::default();
        let mut places: HashMap<Box<[u8]>, usize> = HashMap::new();
        for (line, text) in numbered(text) {
            match read_line(text, keys) {
                Ok(None) => {}
                Ok(Some(credential)) => lines.insert(&mut places, line, credential),
                Err(error) => {
                    lines.bad = lines.bad.saturating_add(1);
                    lines.problem(line, ProblemKind::Bad(error));
                }
            }
        }
        lines
    }

    fn insert(
        &mut self,
        places: &mut HashMap<Box<[u8]>, usize>,
        line: usize,
        credential: Credential,
    ) {
        match places.entry(credential.identity.clone()) {
            Entry::Vacant(place) => {
                place.insert(self.credentials.len());
                self.credentials.push((line, credential));
            }
            Entry::Occupied(place) => {
                if let Some(known) = self.credentials.get_mut(*place.get()) {
                    let (earlier, _) = std::mem::replace(known, (line, credential));
                    self.again = self.again.saturating_add(1);
                    self.problem(line, ProblemKind::Again(earlier));
                }
            }
        }
    }

    fn problem(&mut self, line: usize, kind: ProblemKind) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { line, kind });
        }
    }
}

/// Byte order mark, which some editors put at the beginning of a file.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// The lines with their numbers from 1, without LF, and without byte order marks: where files are
/// put together, or lines taken out, one may come to stand at the beginning of any line.
pub(super) fn numbered(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.split(|byte| *byte == b'\n');
    (1..).zip(lines.map(|line| line.strip_prefix(MARK).unwrap_or(line)))
}

/// The credential of a line, `None` if it says nothing.
pub(super) fn read_line(line: &[u8], keys: KeyEncoding) -> Result<Option<Credential>, LineError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let (identity, rest) = split_identity(line, keys)?;
    check_identity(&identity)?;
    let (key, endpoints) = match keys {
        KeyEncoding::Text => (Key::from_text(rest)?, Vec::new()),
        KeyEncoding::Hex => {
            let (key, endpoints) = split_at_colon(rest).unwrap_or((rest, b""));
            (Key::from_hex(key.trim_ascii())?, read_endpoints(endpoints)?)
        }
    };
    Ok(Some(Credential {
        identity: identity.into(),
        key,
        endpoints,
    }))
}

/// The line that [`read_line`] reads back, without its end; the endpoints only with keys in
/// hexadecimal.
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
pub(super) fn write_line(credential: &Credential, keys: KeyEncoding) -> Zeroizing<Vec<u8>> {
    let identity = &*credential.identity;
    let endpoints: Vec<&str> = credential
        .endpoints
        .iter()
        .map(EndpointPattern::as_str)
        .collect();
    let endpoints = endpoints.join(",");
    let key = match keys {
        KeyEncoding::Hex => Zeroizing::new(credential.key.to_hex().as_bytes().to_vec()),
        KeyEncoding::Text => Zeroizing::new(credential.key.as_bytes().to_vec()),
    };
    // The whole room at once: a vector that grows leaves copies behind.
    let room = identity
        .len()
        .saturating_mul(2)
        .saturating_add(key.len())
        .saturating_add(endpoints.len())
        .saturating_add(4);
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    let is_plain = !identity.contains(&b':')
        && !identity.starts_with(b"\"")
        && !identity.starts_with(b"#")
        && !identity.starts_with(MARK)
        && identity != b"urn"
        && identity.trim_ascii() == identity;
    if is_plain {
        line.extend_from_slice(identity);
    } else {
        line.push(b'"');
        for byte in identity {
            if matches!(byte, b'"' | b'\\') {
                line.push(b'\\');
            }
            line.push(*byte);
        }
        line.push(b'"');
    }
    line.push(b':');
    line.extend_from_slice(&key);
    if keys == KeyEncoding::Hex && !endpoints.is_empty() {
        line.push(b':');
        line.extend_from_slice(endpoints.as_bytes());
    }
    line
}

/// Identity and what follows the `:` behind it.
fn split_identity(line: &[u8], keys: KeyEncoding) -> Result<(Vec<u8>, &[u8]), LineError> {
    if let Some(quoted) = line.strip_prefix(b"\"") {
        return split_quoted(quoted).ok_or(LineError::Quotes);
    }
    if line.starts_with(b"urn:") {
        return split_urn(line, keys).ok_or(LineError::Urn);
    }
    let (identity, rest) = split_at_colon(line).ok_or(LineError::NoKey)?;
    Ok((identity.trim_ascii_end().to_vec(), rest))
}

fn split_quoted(quoted: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut identity = Vec::new();
    let mut rest = quoted;
    loop {
        (identity, rest) = match rest {
            [b'"', after @ ..] => {
                let rest = after.trim_ascii_start().strip_prefix(b":")?;
                return Some((identity, rest));
            }
            [b'\\', byte @ (b'"' | b'\\'), after @ ..] | [byte, after @ ..] => {
                identity.push(*byte);
                (identity, after)
            }
            [] => return None,
        };
    }
}

/// Digits of a key behind an identity that may itself have fields of digits: more than an IMEI or
/// an EUI-64 has.
const LONG_KEY: usize = 32;

fn split_urn(line: &[u8], keys: KeyEncoding) -> Option<(Vec<u8>, &[u8])> {
    if keys == KeyEncoding::Text {
        return None;
    }
    let colons = line
        .iter()
        .enumerate()
        .filter_map(|(at, byte)| (*byte == b':').then_some(at));
    for at in colons.skip(1) {
        let (identity, rest) = line.split_at_checked(at)?;
        let rest = rest.strip_prefix(b":")?;
        let field = split_at_colon(rest).map_or(rest, |(field, _)| field);
        let field = field.trim_ascii();
        if field.len() >= LONG_KEY && field.iter().all(u8::is_ascii_hexdigit) {
            return Some((identity.trim_ascii_end().to_vec(), rest));
        }
    }
    None
}

fn split_at_colon(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b':')?;
    let (before, after) = text.split_at_checked(at)?;
    Some((before, after.strip_prefix(b":")?))
}

fn read_endpoints(text: &[u8]) -> Result<Vec<EndpointPattern>, LineError> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let text = str::from_utf8(text).map_err(|_| LineError::NotUtf8)?;
    Ok(EndpointPattern::list(text)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    fn hex(line: &str) -> Result<Option<Credential>, LineError> {
        read_line(line.as_bytes(), KeyEncoding::Hex)
    }

    fn endpoints(credential: &Credential) -> String {
        let texts = credential.endpoints.iter().map(EndpointPattern::as_str);
        texts.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn lines_with_hexadecimal_keys() {
        for (line, identity, listed) in [
            ("sn1:KEY", "sn1", ""),
            ("sn1:KEY\r", "sn1", ""),
            ("  sn1 : KEY  ", "sn1", ""),
            ("sn1:KEY:", "sn1", ""),
            ("sn1:KEY:a", "sn1", "a"),
            ("sn1:KEY: a , urn:imei:* \r", "sn1", "a,urn:imei:*"),
            (
                "urn:imei:350457790123456:KEY",
                "urn:imei:350457790123456",
                "",
            ),
            (
                "urn:dev:ops:1-a:KEY:urn:dev:*",
                "urn:dev:ops:1-a",
                "urn:dev:*",
            ),
            ("urn:x:KEY:KEY", "urn:x", KEY),
            ("\"mac:001122\":KEY:b", "mac:001122", "b"),
            ("\"a\\\"\\\\ \" : KEY", "a\"\\ ", ""),
            ("\"#1\":KEY", "#1", ""),
            ("a\"b\":KEY", "a\"b\"", ""),
            ("a b:KEY", "a b", ""),
        ] {
            let credential = hex(&line.replace("KEY", KEY)).unwrap().unwrap();
            assert_eq!(*credential.identity, *identity.as_bytes(), "{line}");
            assert_eq!(credential.key.to_hex().as_str(), KEY, "{line}");
            assert_eq!(endpoints(&credential), listed, "{line}");
        }
        for nothing in ["", "   ", "\r", "#", "  # sn1:00", "#sn1:00"] {
            assert_eq!(hex(nothing), Ok(None), "{nothing:?}");
        }
        for (line, error) in [
            ("sn1", LineError::NoKey),
            ("sn1 0011", LineError::NoKey),
            (":0011", IdentityError::Empty.into()),
            ("\"\":0011", IdentityError::Empty.into()),
            ("a\0b:0011", IdentityError::Nul.into()),
            ("sn1:", KeyError::Empty.into()),
            ("sn1::ep", KeyError::Empty.into()),
            ("sn1:001", KeyError::OddHex.into()),
            ("sn1:0011zz", KeyError::NotHex.into()),
            ("sn1:00 11", KeyError::NotHex.into()),
            ("sn1:00:a,,b", PatternError::Empty.into()),
            ("\"sn1:0011", LineError::Quotes),
            ("\"sn1\"0011", LineError::Quotes),
            ("\"sn1\\\":0011", LineError::Quotes),
            ("urn:imei:1:0011", LineError::Urn),
            ("urn:0011", LineError::Urn),
        ] {
            assert_eq!(hex(line), Err(error), "{line:?}");
        }
        let not_utf8 = read_line(b"a\xff:00:\xff", KeyEncoding::Hex);
        assert_eq!(not_utf8, Err(LineError::NotUtf8));
        let bytes = read_line(b"a\xff:00", KeyEncoding::Hex).unwrap().unwrap();
        assert_eq!(&*bytes.identity, b"a\xff");
    }

    #[test]
    fn lines_with_keys_as_text() {
        let text = |line: &str| read_line(line.as_bytes(), KeyEncoding::Text);
        for (line, identity, key) in [
            ("emqx_c:BA0D", "emqx_c", "BA0D"),
            ("emqx_c:se:cret \r", "emqx_c", "se:cret "),
            ("\"urn:imei:1\":secret", "urn:imei:1", "secret"),
        ] {
            let credential = text(line).unwrap().unwrap();
            assert_eq!(*credential.identity, *identity.as_bytes(), "{line}");
            assert_eq!(credential.key.as_bytes(), key.as_bytes(), "{line}");
            assert!(credential.endpoints.is_empty());
        }
        assert_eq!(text("# note: this"), Ok(None));
        assert_eq!(text("urn:imei:1:secret"), Err(LineError::Urn));
        assert_eq!(text("sn1:"), Err(KeyError::Empty.into()));
    }

    #[test]
    fn bad_lines_harm_no_other_and_the_last_of_one_identity_counts() {
        let text = format!("\u{feff}a:{KEY}\n# c\nb:zz\n\na:0011\r\nc:{KEY}");
        let lines = Lines::read(text.as_bytes(), KeyEncoding::Hex);
        let read: Vec<_> = lines
            .credentials
            .iter()
            .map(|(line, it)| (*line, &*it.identity, it.key.as_bytes().len()))
            .collect();
        assert_eq!(read, [(5, &b"a"[..], 2), (6, b"c", 16)]);
        assert_eq!((lines.bad, lines.again), (1, 1));
        let problems: Vec<_> = lines
            .problems
            .iter()
            .map(|it| format!("line {} {}", it.line, it.kind))
            .collect();
        assert_eq!(
            problems,
            [
                "line 3 the key is not hexadecimal; the line is skipped",
                "line 5 replaces line 1, which names the same identity",
            ]
        );
    }

    #[test]
    fn only_so_many_problems_are_listed() {
        let lines = Lines::read("bad\n".repeat(1000).as_bytes(), KeyEncoding::Hex);
        assert_eq!((lines.problems.len(), lines.bad), (MAX_PROBLEMS, 1000));
        assert!(Lines::read(b"", KeyEncoding::Hex).credentials.is_empty());
    }

    proptest! {
        #[test]
        fn written_lines_read_back(
            identity in proptest::collection::vec(1u8.., 1..40),
            urn in any::<bool>(),
            key in proptest::collection::vec(any::<u8>(), 1..40),
            names in proptest::collection::vec("[a-z:*?\" é-]{0,6}[a-z#]", 0..4),
        ) {
            let mut identity = identity;
            identity.retain(|byte| !matches!(byte, b'\n' | b'\r'));
            if urn {
                identity.splice(0..0, *b"urn:");
            }
            prop_assume!(!identity.is_empty());
            let credential = Credential {
                identity: identity.into(),
                key: Key::new(key),
                endpoints: names
                    .iter()
                    .map(|name| EndpointPattern::new(name.trim()).unwrap())
                    .collect(),
            };
            let line = write_line(&credential, KeyEncoding::Hex);
            prop_assert_eq!(read_line(&line, KeyEncoding::Hex), Ok(Some(credential)));
        }

        #[test]
        fn keys_as_text_read_back(identity in "[ -~]{1,20}", key in "[ -~]{1,20}") {
            let credential = Credential {
                identity: identity.as_bytes().into(),
                key: Key::new(key.into_bytes()),
                endpoints: Vec::new(),
            };
            let line = write_line(&credential, KeyEncoding::Text);
            prop_assert_eq!(read_line(&line, KeyEncoding::Text), Ok(Some(credential)));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            for keys in [KeyEncoding::Hex, KeyEncoding::Text] {
                let lines = Lines::read(&text, keys);
                prop_assert!(lines.problems.len() <= lines.bad + lines.again);
            }
        }
    }
}
