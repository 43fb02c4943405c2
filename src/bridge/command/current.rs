//! The dialect of today: `msgType` and `data`.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::arguments;
use super::attributes::{ATTRIBUTES, attribute, bad_attribute};
use super::composite::{read_composite, write_composite};
use super::options::Options;
use super::own;
use super::parsed::{Command, Parts};
use super::waiting::is_passive;
use super::write::{batch_write, create, is_single_write, single_write};
use crate::bridge::echo::Echo;
use crate::bridge::json::{Elements, Members, is_number, string};
use crate::bridge::kind::Kind;
use crate::bridge::refusal::{CommandError, Fault, Reason};
use crate::bridge::req_path::ReqPath;
use crate::bridge::target::Target;
use crate::lwm2m::Operation;
use crate::lwm2m::codec::ContentFormat;

pub(super) fn parse(command: &Members<'_>, options: &Options) -> Result<Command, CommandError> {
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
    if data.as_ref().is_some_and(own::is_answer) {
        let fault = Fault::new(
            Reason::OwnMessage,
            "this is an answer of the gateway, not a command",
        );
        return Err(fault.into_error(echo, None));
    }
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
    if kind.cancels() && data.as_ref().is_some_and(is_passive) {
        // Nothing is asked of the device: the queue's module reads it.
        let fault = Fault::new(
            Reason::UnknownMsgType,
            "this operation is not sent to the device",
        );
        return Err(fault.into_error(echo, req_path));
    }
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
            number: 0,
            order: 0,
        }),
        Err(fault) => Err(fault.into_error(echo, req_path)),
    }
}

/// What the answer to a command that cannot be read repeats of it. `data` is that of the command,
/// if it could be read.
pub(super) fn repeated(
    command: &Members<'_>,
    data: Option<&Members<'_>>,
) -> (Echo, Option<ReqPath>) {
    let name = command.get("msgType").and_then(string);
    let kind = name.and_then(|name| Kind::from_name(&name));
    let req_path = match data {
        Some(data) if kind.is_some_and(Kind::is_composite) => Some(requested_paths(data)),
        _ => data.and_then(requested_path),
    };
    (Echo::without_data(command), req_path)
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
    let error = || {
        Fault::new(
            Reason::BadFormat,
            format!("{name:?} is not a content format"),
        )
    };
    ContentFormat::from_name(&name).map(Some).ok_or_else(error)
}

/// `mheaders.ttl` in seconds; what is no such number is ignored, as EMQX does.
fn ttl(command: &Members<'_>) -> Option<Duration> {
    let headers = Members::parse(command.value("mheaders")?.get()).ok()?;
    let seconds = headers.value("ttl")?.get().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

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
        let Some(raw) = data.get(name) else {
            continue;
        };
        let value = match (raw.get(), string(raw)) {
            // Like an empty text.
            ("null", _) => Cow::Borrowed(""),
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
