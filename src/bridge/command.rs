//! A command as it was read, and why one cannot be.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::echo::Echo;
use crate::lwm2m::{Operation, Path, PathError};

/// Longest Uri-Path or Uri-Query option in bytes (RFC 7252 §5.10).
pub(super) const MAX_OPTION: usize = 255;

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `read`
    Read,
    /// `discover`
    Discover,
    /// `observe`
    Observe,
    /// `cancel-observe`
    CancelObserve,
    /// `write`
    Write,
    /// `write-attr`
    WriteAttributes,
    /// `execute`
    Execute,
    /// `create`
    Create,
    /// `delete`
    Delete,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Read,
        Self::Discover,
        Self::Observe,
        Self::CancelObserve,
        Self::Write,
        Self::WriteAttributes,
        Self::Execute,
        Self::Create,
        Self::Delete,
    ];

    /// The `msgType`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Discover => "discover",
            Self::Observe => "observe",
            Self::CancelObserve => "cancel-observe",
            Self::Write => "write",
            Self::WriteAttributes => "write-attr",
            Self::Execute => "execute",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Where a command goes on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `reqPath` of the answers: the path as it was written, without its query.
    pub text: String,
    /// Uri-Query items of the path.
    pub queries: Vec<String>,
    /// The path as numbers; `None` for one that LwM2M does not know, which is sent as it is.
    pub path: Option<Path>,
}

impl Target {
    /// The target of a path, as an application would write it.
    pub fn new(path: &Path) -> Self {
        Self {
            text: path.to_string(),
            queries: Vec::new(),
            path: Some(path.clone()),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (path_text, query) = text.split_once('?').unwrap_or((text, ""));
        let path = match path_text.parse() {
            Ok(path) => Some(path),
            // EMQX sends such paths, and devices have some, `/.well-known/core` for one.
            Err(PathError::BadSegment(_)) => None,
            Err(error) => return Err(Fault::new(Reason::BadPath, error.to_string())),
        };
        let segments: Vec<&str> = split_segments(path_text).collect();
        let queries: Vec<String> = query
            .split('&')
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        if path.is_none() && segments.len() > 4 {
            return Err(Fault::new(Reason::BadPath, PathError::TooDeep.to_string()));
        }
        if segments
            .iter()
            .any(|segment| matches!(*segment, "" | "." | ".."))
        {
            return Err(Fault::new(Reason::BadPath, "empty or dotted path segment"));
        }
        let queries_text = queries.iter().map(String::as_str);
        let mut options = segments.iter().copied().chain(queries_text);
        if options.any(|option| option.len() > MAX_OPTION) {
            return Err(Fault::new(
                Reason::BadPath,
                "path segment or query too long",
            ));
        }
        Ok(Self {
            text: path_text.to_owned(),
            queries,
            path,
        })
    }

    /// Uri-Path segments, without the alternate path of the device.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        split_segments(&self.text)
    }

    /// The path as numbers.
    pub(super) fn numeric(&self) -> Result<&Path, Fault> {
        let error = || Fault::new(Reason::BadPath, "path segments must be numbers");
        self.path.as_ref().ok_or_else(error)
    }
}

pub(super) fn split_segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    // The root has no segments; splitting "" would give one.
    path.split('/').skip(usize::from(path.is_empty()))
}

/// A command ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What it asks for.
    pub kind: Kind,
    /// Where on the device.
    pub target: Target,
    /// What to do there.
    pub operation: Operation,
    /// Indexes of written items without a `type`. Their values are guesses until
    /// `engine::request::build` sees the object definition.
    pub untyped: Vec<usize>,
    /// What the answers repeat.
    pub echo: Echo,
    /// `mheaders.ttl`: how long the command may wait for a sleeping device; zero = it is sent at
    /// once or not at all.
    pub ttl: Option<Duration>,
}

impl Command {
    /// An observation the gateway asks for by itself.
    pub fn auto_observe(path: &Path) -> Self {
        Self {
            kind: Kind::Observe,
            target: Target::new(path),
            operation: Operation::Observe,
            untyped: Vec::new(),
            echo: Echo::auto_observe(path),
            ttl: None,
        }
    }
}

/// Why a command is refused; applications see [`Reason::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No JSON.
    MalformedJson,
    /// More bytes than `limits.max_command_size`.
    TooLarge,
    /// Arrays or objects nested too deeply.
    TooDeep,
    /// JSON, but no object.
    NotAnObject,
    /// No `msgType` that is a string.
    MissingMsgType,
    /// A `msgType` that names no operation.
    UnknownMsgType,
    /// No `data` that is an object.
    MissingData,
    /// Neither `path` nor `basePath` as a string.
    MissingPath,
    /// A path that cannot be sent, or not with this operation.
    BadPath,
    /// A batch write without `content`.
    MissingContent,
    /// `content` is no array of objects.
    BadContent,
    /// Nothing to write.
    MissingValue,
    /// A value that is none of its type.
    BadValue,
    /// A `type` nobody knows.
    BadType,
    /// An `encoding` other than `plain` or `hex`.
    BadEncoding,
    /// No attribute, or one that is neither string nor number.
    BadAttribute,
    /// Arguments of execute that are no string.
    BadArguments,
    /// A `mode` other than `replace` or `update`.
    BadMode,
}

impl Reason {
    /// The stable code in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::MissingMsgType => "missing_msgType",
            Self::UnknownMsgType => "unknown_msgType",
            Self::MissingData => "missing_data",
            Self::MissingPath => "missing_path",
            Self::BadPath => "bad_path",
            Self::MissingContent => "missing_content",
            Self::BadContent => "bad_content",
            Self::MissingValue => "missing_value",
            Self::BadValue => "bad_value",
            Self::BadType => "bad_type",
            Self::BadEncoding => "bad_encoding",
            Self::BadAttribute => "bad_attribute",
            Self::BadArguments => "bad_arguments",
            Self::BadMode => "bad_mode",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command that cannot be sent, with what is needed to say so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}: {detail}")]
pub struct CommandError {
    /// What the answer repeats; without members when the command was no JSON object.
    pub echo: Box<Echo>,
    /// `reqPath` of the answer, where the command had a path.
    pub req_path: Option<String>,
    /// The stable code.
    pub reason: Reason,
    /// For people.
    pub detail: String,
}

/// A reason on its way to a [`CommandError`].
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    pub(super) fn into_error(self, echo: Echo, req_path: Option<String>) -> CommandError {
        CommandError {
            echo: Box::new(echo),
            req_path,
            reason: self.reason,
            detail: self.detail.into_owned(),
        }
    }
}
