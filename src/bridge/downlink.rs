//! Command JSON to operations.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::value::RawValue;

pub use super::command::{Command, CommandError, Kind, Reason, ReqPath, Target};
use super::command::{Fault, MAX_OPTION, split_segments};
use super::echo::Echo;
use super::json::{Elements, Members, is_number, string, too_deep};
use super::typed::Scalar;
use super::{Dialect, arguments, legacy};
use crate::config::Config;
use crate::lwm2m::codec::ContentFormat;
use crate::lwm2m::operation::{WriteItem, WriteMode};
use crate::lwm2m::{Operation, Path, PathError, ResourceType, Value};

/// Attributes of Write-Attributes (LwM2M Core 1.2 §5.1.1) in the order EMQX sends them.
pub(super) const ATTRIBUTES: [&str; 10] = [
    "con", "edge", "epmax", "epmin", "gt", "hqmax", "lt", "pmax", "pmin", "st",
];

/// Most bytes of a command that its notifications repeat.
const MAX_REPEATED: usize = 64 << 10;

/// How commands are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `limits.max_command_size`, bytes.
    pub max_size: usize,
    /// `compat.execute_arguments`: whether they must be those of LwM2M.
    pub check_arguments: bool,
}

impl Options {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            max_size: config.limits.max_command_size,
            check_arguments: !config.compat.pass_execute_arguments,
        }
    }
}

/// Reads one command. `dialect` is that of the topic it came by: the legacy topic takes both.
/// Bytes that are no UTF-8 become U+FFFD, as in EMQX.
///
/// # Errors
///
/// Everything that keeps the command from being sent; each error can be answered.
pub fn parse(payload: &[u8], dialect: Dialect, options: &Options) -> Result<Command, CommandError> {
    let mut parsed = parse_either(payload, dialect, options).and_then(check_repeated);
    match &mut parsed {
        Ok(command) => command.echo.set_pair(dialect),
        Err(error) => error.echo.set_pair(dialect),
    }
    parsed
}

/// Each notification repeats the members of its command and the paths.
fn check_repeated(command: Command) -> Result<Command, CommandError> {
    let repeated = command.echo.members_len() + command.target.text.len();
    if !command.kind.observes() || repeated <= MAX_REPEATED {
        return Ok(command);
    }
    let detail = format!(
        "each notification would repeat {repeated} bytes of the command, at most {MAX_REPEATED}"
    );
    let fault = Fault::new(Reason::TooLarge, detail);
    Err(fault.into_error(command.echo, Some(command.target.text)))
}

fn parse_either(
    payload: &[u8],
    dialect: Dialect,
    options: &Options,
) -> Result<Command, CommandError> {
    let max_size = options.max_size;
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
        let reason = match text.trim_start().starts_with('{') {
            _ if !error.is_data() => Reason::MalformedJson,
            true => Reason::TooLarge,
            false => Reason::NotAnObject,
        };
        unreadable(reason, error.to_string())
    })?;
    let old_form = command.get("Command").is_some() || command.get("CmdID").is_some();
    if dialect == Dialect::Legacy && old_form && command.get("msgType").is_none() {
        return legacy::parse(&command, options);
    }
    current(&command, options)
}

fn current(command: &Members<'_>, options: &Options) -> Result<Command, CommandError> {
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
    let req_path = match &data {
        Some(data) if kind.is_composite() => Some(requested_paths(data)),
        _ => req_path,
    };
    let Some(data) = data else {
        let fault = Fault::new(Reason::MissingData, "data must be an object");
        return Err(fault.into_error(echo, req_path));
    };
    let read = format(&data).and_then(|format| {
        let parts = read_operation(kind, &data, command.value("encoding"), options)?;
        Ok((format, parts))
    });
    match read {
        Ok((format, (target, operation, untyped))) => Ok(Command {
            kind,
            target,
            operation,
            untyped,
            format,
            echo,
            ttl: ttl(command),
        }),
        Err(fault) => Err(fault.into_error(echo, req_path)),
    }
}

/// `reqPath` by the rule of EMQX 6: `path`, else `basePath`, else `reqPath`, without its query.
fn requested_path(data: &Members<'_>) -> Option<ReqPath> {
    let text = ["path", "basePath", "reqPath"]
        .into_iter()
        .find_map(|name| data.value(name))
        .and_then(string)?;
    let path = text.split('?').next().unwrap_or_default();
    Some(ReqPath::One(path.to_owned()))
}

/// `reqPaths` of a composite operation that is refused: the paths that can be read.
fn requested_paths(data: &Members<'_>) -> ReqPath {
    let elements = |name| {
        let Elements(elements) = serde_json::from_str(data.value(name)?.get()).ok()?;
        Some(elements)
    };
    let paths = elements("paths").unwrap_or_default();
    let paths = paths.into_iter().filter_map(string);
    let content = elements("content").unwrap_or_default().into_iter();
    let content = content.filter_map(|element| {
        let members = Members::parse(element.get()).ok()?;
        string(members.value("path")?)
    });
    ReqPath::Several(paths.chain(content).map(Cow::into_owned).collect())
}

/// `format`: a name or a number.
fn format(data: &Members<'_>) -> Result<Option<ContentFormat>, Fault> {
    let Some(raw) = data.value("format") else {
        return Ok(None);
    };
    let name = string(raw).unwrap_or_else(|| Cow::Borrowed(raw.get()));
    let error = || Fault::new(Reason::BadFormat, format!("{name:?} is no content format"));
    ContentFormat::from_name(&name).map(Some).ok_or_else(error)
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
    options: &Options,
) -> Result<Parts, Fault> {
    match kind {
        Kind::ReadComposite | Kind::ObserveComposite | Kind::CancelObserveComposite => {
            return read_composite(kind, data);
        }
        Kind::WriteComposite => return write_composite(data, hex(encoding)?),
        _ => {}
    }
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
        Kind::Execute => execute(&target, data, options)?,
        Kind::WriteAttributes => write_attributes(&target, data)?,
        Kind::Write => return single_write(target, data, hex(encoding)?),
        Kind::Create => return create(target, data, hex(encoding)?),
        Kind::ReadComposite
        | Kind::ObserveComposite
        | Kind::CancelObserveComposite
        | Kind::WriteComposite => {
            return Err(Fault::new(Reason::MissingPath, "paths must be an array"));
        }
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

fn execute(target: &Target, data: &Members<'_>, options: &Options) -> Result<Operation, Fault> {
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
    if options.check_arguments {
        arguments::check(&arguments)?;
    }
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

/// The operations that only name paths.
fn read_composite(kind: Kind, data: &Members<'_>) -> Result<Parts, Fault> {
    let Some(raw) = data.value("paths") else {
        return Err(Fault::new(Reason::MissingPath, "paths must be an array"));
    };
    let bad = |error: serde_json::Error| Fault::new(Reason::BadPath, error.to_string());
    let Elements(elements) = serde_json::from_str(raw.get()).map_err(bad)?;
    if elements.is_empty() {
        return Err(Fault::new(Reason::MissingPath, "paths is empty"));
    }
    let mut written = Vec::with_capacity(elements.len());
    let mut paths = Vec::with_capacity(elements.len());
    let mut seen = BTreeSet::new();
    for element in elements {
        let error = || Fault::new(Reason::BadPath, "a path must be a string");
        let text = string(element).ok_or_else(error)?;
        let path = full_path(&text)?;
        // One key each: a map with equal keys is no CBOR.
        if seen.insert(path.clone()) {
            paths.push(path);
        }
        written.push(text.into_owned());
    }
    let target = Target::composite(written, paths.clone());
    let operation = match kind {
        Kind::ObserveComposite => Operation::ObserveComposite { paths },
        Kind::CancelObserveComposite => Operation::CancelObserveComposite { paths },
        _ => Operation::ReadComposite { paths },
    };
    Ok((target, operation, Vec::new()))
}

fn write_composite(data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
    let Some(content) = data.value("content") else {
        return Err(Fault::new(Reason::MissingContent, "content is missing"));
    };
    let bad = |error: serde_json::Error| Fault::new(Reason::BadContent, error.to_string());
    let Elements(elements) = serde_json::from_str(content.get()).map_err(bad)?;
    if elements.is_empty() {
        return Err(Fault::new(Reason::MissingContent, "content is empty"));
    }
    let mut written = Vec::with_capacity(elements.len());
    let mut items = Items::default();
    for element in elements {
        let members = Members::parse(element.get()).map_err(bad)?;
        let Some(raw) = members.value("path") else {
            return Err(Fault::new(Reason::MissingPath, "an element has no path"));
        };
        let error = || Fault::new(Reason::BadPath, "path must be a string");
        let text = string(raw).ok_or_else(error)?;
        let path = full_path(&text)?;
        if path.depth() < 3 {
            let detail = format!("{path} is no resource");
            return Err(Fault::new(Reason::BadPath, detail));
        }
        items.push(path, &members, hex)?;
        written.push(text.into_owned());
    }
    let paths = items.items.iter().map(|item| item.path.clone()).collect();
    let target = Target::composite(written, paths);
    let operation = Operation::WriteComposite { items: items.items };
    Ok((target, operation, items.untyped))
}

/// A path that a composite operation can name.
fn full_path(text: &str) -> Result<Path, Fault> {
    let error = |error: PathError| Fault::new(Reason::BadPath, error.to_string());
    text.parse().map_err(error)
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
    let name = string(raw).unwrap_or_else(|| Cow::Borrowed(raw.get()));
    name.parse()
        .map_err(|_| Fault::new(Reason::BadType, format!("{name:?} is no data type")))
}

#[cfg(test)]
mod tests;
