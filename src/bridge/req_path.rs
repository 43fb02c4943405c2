//! The paths of a command as its answers name them.

use super::json::put_string;
use crate::memory::Heap;

/// What a command asked for, as its answers name it: paths as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReqPath {
    /// `reqPath`, without its query.
    One(String),
    /// `reqPaths` of a composite operation.
    Several(Vec<String>),
}

/// The same, wherever it is.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// `reqPath`.
    One(Written<'a>),
    /// `reqPaths`.
    Several(&'a [String]),
}

/// A path as it was written.
#[derive(Debug, Clone, Copy)]
pub enum Written<'a> {
    /// Slashes and digits, nothing that has to be escaped.
    Numbers(&'a [u8]),
    /// Anything.
    Text(&'a str),
}

impl<'a> Written<'a> {
    /// Its text.
    pub fn text(self) -> &'a str {
        match self {
            Self::Numbers(text) => std::str::from_utf8(text).unwrap_or_default(),
            Self::Text(text) => text,
        }
    }

    /// Appends it as JSON.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Numbers(text) => {
                out.push(b'"');
                out.extend_from_slice(text);
                out.push(b'"');
            }
            Self::Text(text) => put_string(out, text),
        }
    }
}

impl<'a> From<&'a ReqPath> for Asked<'a> {
    fn from(path: &'a ReqPath) -> Self {
        match path {
            ReqPath::One(text) => Self::One(Written::Text(text)),
            ReqPath::Several(paths) => Self::Several(paths),
        }
    }
}

impl<'a> Asked<'a> {
    /// The path, when it is one.
    pub const fn one(self) -> Option<Written<'a>> {
        match self {
            Self::One(text) => Some(text),
            Self::Several(_) => None,
        }
    }
}

impl ReqPath {
    /// The path, when it is one.
    pub fn one(&self) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::Several(_) => None,
        }
    }

    #[cfg(any(feature = "http", feature = "internals"))]
    /// All paths.
    pub fn paths(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(paths) => paths,
        }
    }

    /// Bytes of all paths.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(text) => text.len(),
            Self::Several(paths) => paths.iter().map(String::len).sum(),
        }
    }
}

impl Heap for ReqPath {
    fn heap(&self) -> usize {
        match self {
            Self::One(text) => text.heap(),
            Self::Several(texts) => texts.heap(),
        }
    }
}
