//! Command JSON to operations.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde_json::value::RawValue;
use thiserror::Error;

use super::echo::Echo;
use super::json::{Elements, Members, is_number, string, too_deep};
use super::typed::Scalar;
use super::{Dialect, legacy};
use crate::lwm2m::operation::{WriteItem, WriteMode};
use crate::lwm2m::{Operation, Path, PathError, ResourceType, Value};

/// Longest Uri-Path or Uri-Query option in bytes (RFC 7252 §5.10).
const MAX_OPTION: usize = 255;

/// Attributes of Write-Attributes (LwM2M Core 1.2 §5.1.1) in the order EMQX sends them.
const ATTRIBUTES: [&str; 10] = [
    "con", "edge", "epmax", "epmin", "gt", "hqmax", "lt", "pmax", "pmin", "st",
];

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
    const ALL: [Self; 9] = [
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

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Where a command goes on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `reqPath` of the answers: the path as it was written, without its query.
    pub text: String,
    /// Uri-Path segments, without the alternate path of the device.
    pub segments: Vec<String>,
    /// Uri-Query items of the path.
    pub queries: Vec<String>,
    /// The path as numbers; `None` for one that LwM2M does not know, which is sent as it is.
    pub path: Option<Path>,
}

impl Target {
    /// The target of a path, as an application would write it.
    pub fn new(path: &Path) -> Self {
        let text = path.to_string();
        let segments = split_segments(&text).map(str::to_owned).collect();
        Self {
            text,
            segments,
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
        let segments: Vec<String> = split_segments(path_text).map(str::to_owned).collect();
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
            .any(|segment| matches!(segment.as_str(), "" | "." | ".."))
        {
            return Err(Fault::new(Reason::BadPath, "empty or dotted path segment"));
        }
        let mut options = segments.iter().chain(&queries);
        if options.any(|option| option.len() > MAX_OPTION) {
            return Err(Fault::new(
                Reason::BadPath,
                "path segment or query too long",
            ));
        }
        Ok(Self {
            text: path_text.to_owned(),
            segments,
            queries,
            path,
        })
    }

    /// The path as numbers.
    pub(super) fn numeric(&self) -> Result<&Path, Fault> {
        let error = || Fault::new(Reason::BadPath, "path segments must be numbers");
        self.path.as_ref().ok_or_else(error)
    }
}

fn split_segments(path: &str) -> impl Iterator<Item = &str> {
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

/// Reads one command. `dialect` is that of the topic it came by: the legacy topic takes both.
/// Bytes that are no UTF-8 become U+FFFD, as in EMQX.
///
/// # Errors
///
/// Everything that keeps the command from being sent; each error can be answered.
pub fn parse(payload: &[u8], dialect: Dialect, max_size: usize) -> Result<Command, CommandError> {
    let unreadable =
        |reason, detail: String| Fault::new(reason, detail).into_error(Echo::nothing(), None);
    if payload.len() > max_size {
        let detail = format!("{} bytes, at most {max_size}", payload.len());
        return Err(unreadable(Reason::TooLarge, detail));
    }
    let text = String::from_utf8_lossy(payload);
    if too_deep(&text) {
        return Err(unreadable(Reason::TooDeep, "nested too deeply".to_owned()));
    }
    let command = Members::parse(&text).map_err(|error| {
        let reason = if error.is_data() && !text.trim_start().starts_with('{') {
            Reason::NotAnObject
        } else {
            Reason::MalformedJson
        };
        unreadable(reason, error.to_string())
    })?;
    let old_form = command.get("Command").is_some() || command.get("CmdID").is_some();
    if dialect == Dialect::Legacy && old_form && command.get("msgType").is_none() {
        return legacy::parse(&command);
    }
    current(&command)
}

fn current(command: &Members<'_>) -> Result<Command, CommandError> {
    let echo = Echo::current(command);
    let data = command
        .get("data")
        .filter(|raw| raw.get().starts_with('{'))
        .map(|raw| Members::parse(raw.get()))
        .transpose();
    let data = match data {
        Ok(data) => data,
        Err(error) => {
            let fault = Fault::new(Reason::MissingData, error.to_string());
            return Err(fault.into_error(echo, None));
        }
    };
    let req_path = data.as_ref().and_then(requested_path);
    let Some(name) = command.get("msgType").and_then(string) else {
        let fault = Fault::new(Reason::MissingMsgType, "msgType must be a string");
        return Err(fault.into_error(echo, req_path));
    };
    let Some(kind) = Kind::from_name(&name) else {
        let fault = Fault::new(Reason::UnknownMsgType, "no such operation");
        return Err(fault.into_error(echo, req_path));
    };
    let echo = echo.with_kind(kind);
    let Some(data) = data else {
        let fault = Fault::new(Reason::MissingData, "data must be an object");
        return Err(fault.into_error(echo, req_path));
    };
    match read_operation(kind, &data, command.value("encoding")) {
        Ok((target, operation, untyped)) => Ok(Command {
            kind,
            target,
            operation,
            untyped,
            echo,
            ttl: ttl(command),
        }),
        Err(fault) => Err(fault.into_error(echo, req_path)),
    }
}

/// `reqPath` by the rule of EMQX 6: `path`, else `basePath`, else `reqPath`, without its query.
fn requested_path(data: &Members<'_>) -> Option<String> {
    let text = ["path", "basePath", "reqPath"]
        .into_iter()
        .find_map(|name| data.value(name))
        .and_then(string)?;
    let path = text.split('?').next().unwrap_or_default();
    Some(path.to_owned())
}

/// `mheaders.ttl` in seconds; what is no such number is ignored, as EMQX does.
fn ttl(command: &Members<'_>) -> Option<Duration> {
    let headers = Members::parse(command.value("mheaders")?.get()).ok()?;
    let seconds = headers.value("ttl")?.get().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

type Parts = (Target, Operation, Vec<usize>);

fn read_operation(
    kind: Kind,
    data: &Members<'_>,
    encoding: Option<&RawValue>,
) -> Result<Parts, Fault> {
    if kind == Kind::Write && !is_single_write(data) {
        return batch_write(data, hex(encoding)?);
    }
    let name = match kind {
        Kind::Create if data.value("basePath").is_some() => "basePath",
        _ if data.value("path").is_some() => "path",
        _ => "basePath",
    };
    let Some(raw) = data.value(name) else {
        return Err(Fault::new(Reason::MissingPath, "path must be a string"));
    };
    let Some(text) = string(raw) else {
        return Err(Fault::new(Reason::BadPath, "path must be a string"));
    };
    let target = Target::parse(&text)?;
    let operation = match kind {
        Kind::Read => Operation::Read,
        Kind::Discover => Operation::Discover,
        Kind::Observe => Operation::Observe,
        Kind::CancelObserve => Operation::CancelObserve,
        Kind::Delete => Operation::Delete,
        Kind::Execute => execute(&target, data)?,
        Kind::WriteAttributes => write_attributes(&target, data)?,
        Kind::Write => return single_write(target, data, hex(encoding)?),
        Kind::Create => return create(target, data, hex(encoding)?),
    };
    Ok((target, operation, Vec::new()))
}

/// `encoding`: true for `hex`.
fn hex(encoding: Option<&RawValue>) -> Result<bool, Fault> {
    match encoding.map(string) {
        None => Ok(false),
        Some(Some(name)) if name == "plain" => Ok(false),
        Some(Some(name)) if name == "hex" => Ok(true),
        Some(_) => Err(Fault::new(
            Reason::BadEncoding,
            "encoding must be plain or hex",
        )),
    }
}

fn execute(target: &Target, data: &Members<'_>) -> Result<Operation, Fault> {
    if target.path.as_ref().is_some_and(|path| path.depth() != 3) {
        return Err(Fault::new(
            Reason::BadPath,
            "only a resource can be executed",
        ));
    }
    let arguments = match data.value("args").map(|raw| (raw, string(raw))) {
        // "undefined" is what an unset field of some applications becomes; EMQX sends nothing.
        Some((_, Some(text))) if text == "undefined" => String::new(),
        Some((_, Some(text))) => text.into_owned(),
        Some((raw, None)) if is_number(raw) => raw.get().to_owned(),
        Some(_) => return Err(Fault::new(Reason::BadArguments, "args must be a string")),
        None => String::new(),
    };
    Ok(Operation::Execute { arguments })
}

fn write_attributes(target: &Target, data: &Members<'_>) -> Result<Operation, Fault> {
    let mut attributes = Vec::new();
    for name in ATTRIBUTES {
        let Some(raw) = data.value(name) else {
            continue;
        };
        let value = match (raw.get(), string(raw)) {
            ("true", _) => Cow::Borrowed("1"),
            ("false", _) => Cow::Borrowed("0"),
            (text, _) if is_number(raw) => Cow::Borrowed(text),
            (_, Some(text)) => text,
            _ => return Err(bad_attribute(name)),
        };
        attributes.push(attribute(name, &value)?);
    }
    // Attributes in `data` replace a query in the path.
    if attributes.is_empty() && target.queries.is_empty() {
        return Err(Fault::new(Reason::BadAttribute, "no attribute is given"));
    }
    Ok(Operation::WriteAttributes { attributes })
}

/// Checks one attribute.
pub(super) fn attribute(name: &str, value: &str) -> Result<(String, String), Fault> {
    let known = ATTRIBUTES.contains(&name);
    if !known || name.len() + 1 + value.len() > MAX_OPTION {
        return Err(bad_attribute(name));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn bad_attribute(name: &str) -> Fault {
    let detail = format!("{name} is no attribute with a short string or number");
    Fault::new(Reason::BadAttribute, detail)
}

/// A write of `path`, without a `basePath` (or with `/`) and without `content`.
fn is_single_write(data: &Members<'_>) -> bool {
    let base = data.value("basePath").and_then(string);
    base.is_none_or(|base| base.is_empty() || base == "/") && data.value("content").is_none()
}

fn single_write(target: Target, data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
    let path = target.numeric()?.clone();
    if path.depth() < 3 {
        return Err(Fault::new(
            Reason::BadPath,
            "a single value can only be written to a resource; use basePath and content",
        ));
    }
    let mode = write_mode(data)?.unwrap_or(WriteMode::Replace);
    let mut items = Items::default();
    items.push(path, data, hex)?;
    let operation = Operation::Write {
        mode,
        items: items.items,
    };
    Ok((target, operation, items.untyped))
}

fn batch_write(data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
    let raw = data.value("basePath").or_else(|| data.value("path"));
    let Some(text) = raw.and_then(string) else {
        return Err(Fault::new(Reason::MissingPath, "basePath must be a string"));
    };
    let target = Target::parse(&text)?;
    let base = target.numeric()?.clone();
    // A resource, or a resource instance, is replaced; an instance keeps what is not named.
    let default = match base.depth() {
        2 => WriteMode::Update,
        3 | 4 => WriteMode::Replace,
        _ => {
            return Err(Fault::new(
                Reason::BadPath,
                "basePath must be an object instance or a resource",
            ));
        }
    };
    let mode = write_mode(data)?.unwrap_or(default);
    let Some(content) = data.value("content") else {
        return Err(Fault::new(Reason::MissingContent, "content is missing"));
    };
    let items = read_items(&base, content, hex)?;
    let operation = Operation::Write {
        mode,
        items: items.items,
    };
    Ok((target, operation, items.untyped))
}

fn create(target: Target, data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
    let base = target.numeric()?.clone();
    // A create below an instance is a partial write to the device; EMQX lets it pass.
    if !matches!(base.depth(), 1 | 2) {
        return Err(Fault::new(Reason::BadPath, "basePath must be an object"));
    }
    let items = match data.value("content") {
        Some(content) => read_items(&base, content, hex)?,
        None => Items::default(),
    };
    let operation = Operation::Create { items: items.items };
    Ok((target, operation, items.untyped))
}

/// `mode`, an addition of ours: `replace` is PUT, `update` is POST (LwM2M Core 1.2 §6.3.3).
fn write_mode(data: &Members<'_>) -> Result<Option<WriteMode>, Fault> {
    let Some(raw) = data.value("mode") else {
        return Ok(None);
    };
    match string(raw).as_deref() {
        Some("replace") => Ok(Some(WriteMode::Replace)),
        Some("update") => Ok(Some(WriteMode::Update)),
        _ => Err(Fault::new(
            Reason::BadMode,
            "mode must be replace or update",
        )),
    }
}

fn read_items(base: &Path, content: &RawValue, hex: bool) -> Result<Items, Fault> {
    let bad = |error: serde_json::Error| Fault::new(Reason::BadContent, error.to_string());
    let Elements(elements) = serde_json::from_str(content.get()).map_err(bad)?;
    let mut items = Items::default();
    for element in elements {
        let members = Members::parse(element.get()).map_err(bad)?;
        let path = match members.value("path").map(|raw| (raw, string(raw))) {
            None => base.clone(),
            Some((_, Some(text))) => join(base, &text)?,
            Some((raw, None)) if is_number(raw) => join(base, raw.get())?,
            Some(_) => return Err(Fault::new(Reason::BadPath, "path must be a string")),
        };
        if path.depth() < 3 {
            let detail = format!("{path} is no resource");
            return Err(Fault::new(Reason::BadPath, detail));
        }
        items.push(path, &members, hex)?;
    }
    Ok(items)
}

/// `path` below `base`; slashes at its ends do not matter.
pub(super) fn join(base: &Path, path: &str) -> Result<Path, Fault> {
    let mut joined = base.clone();
    for segment in split_segments(path) {
        let digits = segment.len() <= 5 && segment.bytes().all(|byte| byte.is_ascii_digit());
        let child = segment
            .parse()
            .ok()
            .filter(|_| digits)
            .and_then(|id| joined.child(id));
        let error = || Fault::new(Reason::BadPath, format!("{path:?} is no path below {base}"));
        joined = child.ok_or_else(error)?;
    }
    Ok(joined)
}

/// Written values, some without a type.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) items: Vec<WriteItem>,
    pub(super) untyped: Vec<usize>,
}

impl Items {
    fn push(&mut self, path: Path, members: &Members<'_>, hex: bool) -> Result<(), Fault> {
        let Some(raw) = members.value("value") else {
            let detail = format!("no value for {path}");
            return Err(Fault::new(Reason::MissingValue, detail));
        };
        let kind = members.value("type").map(resource_type).transpose()?;
        let value = Scalar::read(raw, hex).and_then(|scalar| match kind {
            Some(kind) => scalar.typed(kind),
            None => scalar.untyped(),
        });
        let Some(value) = value else {
            let expected = kind.map_or("value", ResourceType::name);
            let hint = if hex { " in hex" } else { "" };
            let detail = format!("the value for {path} is no {expected}{hint}");
            return Err(Fault::new(Reason::BadValue, detail));
        };
        self.add(path, value, kind.is_some());
        Ok(())
    }

    pub(super) fn add(&mut self, path: Path, value: Value<'static>, typed: bool) {
        if !typed {
            self.untyped.push(self.items.len());
        }
        self.items.push(WriteItem { path, value });
    }
}

fn resource_type(raw: &RawValue) -> Result<ResourceType, Fault> {
    let name = string(raw).unwrap_or(Cow::Borrowed(raw.get()));
    name.parse()
        .map_err(|_| Fault::new(Reason::BadType, format!("{name:?} is no data type")))
}
