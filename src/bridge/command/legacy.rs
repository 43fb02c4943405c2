//! Commands of EMQ 2: `CmdID`, `Command`, `BaseName`.

use serde_json::value::RawValue;

use super::arguments;
use super::attributes::{ATTRIBUTES, attribute};
use super::items::{Items, join};
use super::options::Options;
use super::parsed::{Command, Parts};
use super::typed::Scalar;
use crate::bridge::dialect::Dialect;
use crate::bridge::echo::Echo;
use crate::bridge::json::{Elements, Members, is_number, string};
use crate::bridge::kind::Kind;
use crate::bridge::refusal::{CommandError, Fault, Reason};
use crate::bridge::req_path::ReqPath;
use crate::bridge::target::Target;
use crate::lwm2m::operation::WriteMode;
use crate::lwm2m::{Operation, Path, ResourceType};

/// `Command` by its folded name. The last three are ours: EMQ 2 had no such commands.
const COMMANDS: [(&str, Kind); 9] = [
    ("read", Kind::Read),
    ("write", Kind::Write),
    ("execute", Kind::Execute),
    ("discover", Kind::Discover),
    ("write-attributes", Kind::WriteAttributes),
    ("observe", Kind::Observe),
    ("cancel-observe", Kind::CancelObserve),
    ("create", Kind::Create),
    ("delete", Kind::Delete),
];

/// Whether a command is in this dialect: the topic pair of EMQ 2 takes both.
pub(super) fn is_old_form(command: &Members<'_>, dialect: Dialect) -> bool {
    let old = command.get("Command").is_some() || command.get("CmdID").is_some();
    dialect == Dialect::Legacy && old && command.get("msgType").is_none()
}

/// What the answer to a command that is refused repeats of it.
pub(super) fn repeated(command: &Members<'_>) -> (Echo, Option<ReqPath>) {
    let base = command.value("BaseName").and_then(string);
    let req_path = base.map(|text| {
        let path = text.split('?').next().unwrap_or_default();
        ReqPath::One(path.to_owned())
    });
    (Echo::legacy(command), req_path)
}

pub(super) fn parse(command: &Members<'_>, options: &Options) -> Result<Command, CommandError> {
    let (echo, req_path) = repeated(command);
    let base = command.value("BaseName").and_then(string);
    let name = command.value("Command").and_then(string);
    let kind = name.and_then(|name| {
        let known = COMMANDS.iter();
        let mut known = known.filter(|(known, _)| known.eq_ignore_ascii_case(&name));
        known.next().map(|(_, kind)| *kind)
    });
    let Some(kind) = kind else {
        let fault = Fault::new(Reason::UnknownMsgType, "no such Command");
        return Err(fault.into_error(echo, req_path));
    };
    let echo = echo.with_kind(kind);
    let Some(base) = base else {
        let fault = Fault::new(Reason::MissingPath, "BaseName must be a string");
        return Err(fault.into_error(echo, req_path));
    };
    match read_operation(kind, &base, command, options) {
        Ok((target, operation, untyped)) => Ok(Command {
            kind,
            target,
            operation,
            untyped,
            format: None,
            echo,
            ttl: None,
            number: 0,
            order: 0,
        }),
        Err(fault) => Err(fault.into_error(echo, req_path)),
    }
}

fn read_operation(
    kind: Kind,
    base: &str,
    command: &Members<'_>,
    options: &Options,
) -> Result<Parts, Fault> {
    let target = Target::parse(base)?;
    let value = command.value("Value");
    let mut untyped = Vec::new();
    let operation = match kind {
        Kind::Read => Operation::Read,
        Kind::Discover => Operation::Discover,
        Kind::Observe => Operation::Observe,
        Kind::CancelObserve => Operation::CancelObserve,
        Kind::Delete => Operation::Delete,
        Kind::Execute => {
            let arguments = match command.value("Arguments").map(|raw| (raw, string(raw))) {
                None => String::new(),
                Some((_, Some(text))) => text.into_owned(),
                Some((raw, None)) if is_number(raw) => raw.get().to_owned(),
                Some(_) => {
                    return Err(Fault::new(
                        Reason::BadArguments,
                        "Arguments must be a string",
                    ));
                }
            };
            if options.check_arguments {
                arguments::check(&arguments)?;
            }
            Operation::Execute { arguments }
        }
        Kind::WriteAttributes => {
            let text = value.and_then(string).unwrap_or_default();
            let pairs = text.split('&').filter(|pair| !pair.is_empty());
            if pairs.clone().nth(ATTRIBUTES.len()).is_some() {
                return Err(Fault::new(Reason::BadAttribute, "too many attributes"));
            }
            let mut attributes = pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    attribute(name, value)
                })
                .collect::<Result<Vec<_>, _>>()?;
            attributes.sort();
            if attributes.is_empty() && target.queries.is_empty() {
                return Err(Fault::new(Reason::BadAttribute, "no attribute is given"));
            }
            Operation::WriteAttributes { attributes }
        }
        Kind::Create => {
            let items = match value {
                Some(raw) => lwm2m_json(target.numeric()?, raw)?,
                None => Items::default(),
            };
            untyped = items.untyped;
            Operation::Create { items: items.items }
        }
        Kind::Write => {
            let path = target.numeric()?;
            let mode = match path.depth() {
                2 => WriteMode::Update,
                3 | 4 => WriteMode::Replace,
                _ => {
                    return Err(Fault::new(
                        Reason::BadPath,
                        "BaseName must be an object instance or a resource",
                    ));
                }
            };
            let Some(raw) = value else {
                return Err(Fault::new(Reason::MissingValue, "Value is missing"));
            };
            let items = lwm2m_json(path, raw)?;
            untyped = items.untyped;
            Operation::Write {
                mode,
                items: items.items,
            }
        }
        // EMQ 2 had none, and the table of names has none.
        Kind::ReadComposite
        | Kind::ObserveComposite
        | Kind::CancelObserveComposite
        | Kind::WriteComposite => {
            return Err(Fault::new(Reason::UnknownMsgType, "no such Command"));
        }
    };
    Ok((target, operation, untyped))
}

/// Values in LwM2M JSON (LwM2M 1.0 §6.4.4): `{"bn":..,"e":[..]}` or the array alone. A plain
/// value is taken for the resource that `base` names.
fn lwm2m_json(base: &Path, value: &RawValue) -> Result<Items, Fault> {
    let bad = |error: serde_json::Error| Fault::new(Reason::BadContent, error.to_string());
    let mut items = Items::default();
    let mut base = base.clone();
    let elements = match value.get().as_bytes().first() {
        Some(b'[') => value,
        Some(b'{') => {
            let record = Members::parse(value.get()).map_err(bad)?;
            if let Some(name) = record.value("bn").and_then(string) {
                base = join(&Path::ROOT, &name)?;
            }
            let missing = || Fault::new(Reason::BadContent, "e is missing in Value");
            record.value("e").ok_or_else(missing)?
        }
        _ => {
            let value = Scalar::read(value, false).and_then(Scalar::untyped);
            let Some(value) = value.filter(|_| base.depth() >= 3) else {
                return Err(Fault::new(Reason::BadValue, "Value does not fit BaseName"));
            };
            items.add(base, value, false);
            return Ok(items);
        }
    };
    let Elements(elements) = serde_json::from_str(elements.get()).map_err(bad)?;
    for element in elements {
        let element = Members::parse(element.get()).map_err(bad)?;
        let name = element.value("n").and_then(string).unwrap_or_default();
        let path = join(&base, &name)?;
        let read = |name| Some(Scalar::read(element.value(name)?, false));
        let (value, kind) = None
            .or_else(|| Some((read("ov")?, Some(ResourceType::ObjectLink))))
            .or_else(|| Some((read("bv")?, Some(ResourceType::Boolean))))
            // Numbers and strings of JSON stand for several types of LwM2M.
            .or_else(|| Some((read("v").or_else(|| read("sv"))?, None)))
            .ok_or_else(|| Fault::new(Reason::MissingValue, format!("no value for {path}")))?;
        let value = value.and_then(|scalar| match kind {
            Some(kind) => scalar.typed(kind),
            None => scalar.untyped(),
        });
        let Some(value) = value.filter(|_| path.depth() >= 3) else {
            let detail = format!("the value for {path} cannot be written");
            return Err(Fault::new(Reason::BadValue, detail));
        };
        items.add(path, value, kind.is_some());
    }
    Ok(items)
}
