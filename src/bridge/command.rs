//! A command as it was read, and why one cannot be.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use thiserror::Error;

use super::echo::Echo;
use crate::lwm2m::codec::ContentFormat;
use crate::lwm2m::{Operation, Path, PathError};
use crate::memory::Heap;

/// Most Uri-Query options of a path: what is far beyond them makes no datagram.
const MAX_QUERIES: usize = 32;

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
    /// `read-composite`
    ReadComposite,
    /// `observe-composite`
    ObserveComposite,
    /// `cancel-observe-composite`
    CancelObserveComposite,
    /// `write-composite`
    WriteComposite,
}

impl Kind {
    pub(super) const ALL: [Self; 13] = [
        Self::Read,
        Self::Discover,
        Self::Observe,
        Self::CancelObserve,
        Self::Write,
        Self::WriteAttributes,
        Self::Execute,
        Self::Create,
        Self::Delete,
        Self::ReadComposite,
        Self::ObserveComposite,
        Self::CancelObserveComposite,
        Self::WriteComposite,
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
            Self::ReadComposite => "read-composite",
            Self::ObserveComposite => "observe-composite",
            Self::CancelObserveComposite => "cancel-observe-composite",
            Self::WriteComposite => "write-composite",
        }
    }

    /// Whether the operation names several places at once.
    pub const fn is_composite(self) -> bool {
        matches!(
            self,
            Self::ReadComposite
                | Self::ObserveComposite
                | Self::CancelObserveComposite
                | Self::WriteComposite
        )
    }

    /// Whether the operation is answered with values.
    pub const fn reads(self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::Observe
                | Self::CancelObserve
                | Self::ReadComposite
                | Self::ObserveComposite
                | Self::CancelObserveComposite
        )
    }

    /// Whether the operation begins an observation.
    pub const fn observes(self) -> bool {
        matches!(self, Self::Observe | Self::ObserveComposite)
    }

    /// Whether the operation ends an observation.
    pub const fn cancels(self) -> bool {
        matches!(self, Self::CancelObserve | Self::CancelObserveComposite)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a command asked for, as its answers name it: paths as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReqPath {
    /// `reqPath`, without its query.
    One(String),
    /// `reqPaths` of a composite operation.
    Several(Vec<String>),
}

impl ReqPath {
    /// The path, when it is one.
    pub fn one(&self) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::Several(_) => None,
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

/// Where a command goes on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the answers repeat.
    pub text: ReqPath,
    /// Uri-Query items of the path.
    pub queries: Vec<String>,
    /// The path as numbers; `None` for one that LwM2M does not know, which is sent as it is. The
    /// root for a composite operation.
    pub path: Option<Path>,
    /// The paths of a composite operation in their order, empty for any other.
    pub paths: Vec<Path>,
    /// Of `paths` in whatever order.
    fingerprint: u64,
}

impl Heap for Target {
    fn heap(&self) -> usize {
        self.text.heap() + self.queries.heap() + self.path.heap() + self.paths.heap()
    }
}

impl Target {
    /// The target of a path, as an application would write it.
    pub fn new(path: &Path) -> Self {
        Self {
            text: ReqPath::One(path.to_string()),
            queries: Vec::new(),
            path: Some(path.clone()),
            paths: Vec::new(),
            fingerprint: 0,
        }
    }

    /// The target of a composite operation: the root, where the payload names the paths.
    pub(super) fn composite(written: Vec<String>, paths: Vec<Path>) -> Self {
        Self {
            text: ReqPath::Several(written),
            queries: Vec::new(),
            path: Some(Path::ROOT),
            fingerprint: fingerprint(&paths),
            paths,
        }
    }

    /// Whether both are the same place, however it is written. The order of the paths of a
    /// composite operation does not matter.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.text, &other.text) {
            (ReqPath::One(_), ReqPath::One(_)) => {
                self.segments().eq(other.segments()) && self.queries == other.queries
            }
            // Nearly all that are not the same have another fingerprint, or another length.
            (ReqPath::Several(_), ReqPath::Several(_)) => {
                self.fingerprint == other.fingerprint
                    && (self.paths == other.paths || {
                        let set = |paths: &[Path]| paths.iter().cloned().collect::<BTreeSet<_>>();
                        set(&self.paths) == set(&other.paths)
                    })
            }
            _ => false,
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
        // One more than there may be tells.
        let segments: Vec<&str> = split_segments(path_text).take(6).collect();
        let items = query.split('&').filter(|item| !item.is_empty());
        if items.clone().nth(MAX_QUERIES).is_some() {
            return Err(Fault::new(Reason::BadPath, "too many queries"));
        }
        let queries: Vec<String> = items.map(str::to_owned).collect();
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
            text: ReqPath::One(path_text.to_owned()),
            queries,
            path,
            paths: Vec::new(),
            fingerprint: 0,
        })
    }

    /// Uri-Path segments, without the alternate path of the device; none for a composite
    /// operation.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.one().into_iter().flat_map(split_segments)
    }

    /// The path as numbers.
    pub(super) fn numeric(&self) -> Result<&Path, Fault> {
        let error = || Fault::new(Reason::BadPath, "path segments must be numbers");
        self.path.as_ref().ok_or_else(error)
    }
}

/// A number that is the same for the same paths in any order, and hardly ever for others.
fn fingerprint(paths: &[Path]) -> u64 {
    let hash = |path: &Path| {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        hasher.finish()
    };
    paths.iter().map(hash).fold(0, u64::wrapping_add)
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
    /// `data.format`: what to ask for, or to write, whatever the device says of itself.
    pub format: Option<ContentFormat>,
    /// What the answers repeat.
    pub echo: Echo,
    /// `mheaders.ttl`: how long the command may wait for a sleeping device; zero = it is sent at
    /// once or not at all.
    pub ttl: Option<Duration>,
}

impl Heap for Command {
    fn heap(&self) -> usize {
        let untyped = self.untyped.heap();
        self.target.heap() + self.operation.heap() + untyped + self.echo.heap()
    }
}

impl Command {
    /// An observation the gateway asks for by itself.
    pub fn auto_observe(path: &Path) -> Self {
        Self {
            kind: Kind::Observe,
            target: Target::new(path),
            operation: Operation::Observe,
            untyped: Vec::new(),
            format: None,
            echo: Echo::auto_observe(path),
            ttl: None,
        }
    }

    /// The command that asks again for an observation of `target`.
    pub fn observe_again(target: &Target, echo: &Echo, format: Option<ContentFormat>) -> Self {
        let (kind, operation) = match target.text {
            ReqPath::One(_) => (Kind::Observe, Operation::Observe),
            ReqPath::Several(_) => (
                Kind::ObserveComposite,
                Operation::ObserveComposite {
                    paths: target.paths.clone(),
                },
            ),
        };
        Self::of_observation(kind, operation, target, echo, format)
    }

    /// The command that reads what an observation of `target` watches, for the rest of a
    /// notification in blocks (RFC 7959 §3.4).
    pub fn read_observed(target: &Target, echo: &Echo, format: Option<ContentFormat>) -> Self {
        let (kind, operation) = match target.text {
            ReqPath::One(_) => (Kind::Read, Operation::Read),
            ReqPath::Several(_) => (
                Kind::ReadComposite,
                Operation::ReadComposite {
                    paths: target.paths.clone(),
                },
            ),
        };
        Self::of_observation(kind, operation, target, echo, format)
    }

    fn of_observation(
        kind: Kind,
        operation: Operation,
        target: &Target,
        echo: &Echo,
        format: Option<ContentFormat>,
    ) -> Self {
        Self {
            kind,
            target: target.clone(),
            operation,
            untyped: Vec::new(),
            format,
            echo: echo.clone(),
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
    /// Arguments of execute that are no string, or break the rules of LwM2M.
    BadArguments,
    /// A `mode` other than `replace` or `update`.
    BadMode,
    /// A `format` that nobody knows, or that cannot do what is asked.
    BadFormat,
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
            Self::BadFormat => "bad_format",
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
    /// `reqPath` or `reqPaths` of the answer, where the command had any.
    pub req_path: Option<ReqPath>,
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

    pub(super) fn into_error(self, echo: Echo, req_path: Option<ReqPath>) -> CommandError {
        CommandError {
            echo: Box::new(echo),
            req_path,
            reason: self.reason,
            detail: self.detail.into_owned(),
        }
    }
}
