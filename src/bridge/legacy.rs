//! The dialect of EMQ 2: `CmdID`, `Command`, `BaseName` down, `Result` or `Error` up.

use serde_json::value::RawValue;

use super::command::{Command, CommandError, Fault, Kind, Reason, ReqPath, Target};
use super::content::{self, Body, Context};
use super::downlink::{ATTRIBUTES, Items, Options, attribute, join};
use super::echo::Echo;
use super::json::{Elements, Members, is_number, put, put_string, string};
use super::typed::Scalar;
use super::uplink::{Answer, Ids};
use super::{arguments, code};
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

pub(super) fn parse(command: &Members<'_>, options: &Options) -> Result<Command, CommandError> {
    let echo = Echo::legacy(command);
    let base = command.value("BaseName").and_then(string);
    let req_path = base.as_ref().map(|text| {
        let path = text.split('?').next().unwrap_or_default();
        ReqPath::One(path.to_owned())
    });
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
        }),
        Err(fault) => Err(fault.into_error(echo, req_path)),
    }
}

fn read_operation(
    kind: Kind,
    base: &str,
    command: &Members<'_>,
    options: &Options,
) -> Result<(Target, Operation, Vec<usize>), Fault> {
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
            let missing = || Fault::new(Reason::BadContent, "Value has no e");
            record.value("e").ok_or_else(missing)?
        }
        _ => {
            let value = Scalar::read(value, false).and_then(Scalar::untyped);
            let Some(value) = value.filter(|_| base.depth() >= 3) else {
                return Err(Fault::new(
                    Reason::BadValue,
                    "Value is no value for BaseName",
                ));
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

/// The answer of a device, also a notification: the command's id and name with `Result` or
/// `Error`.
pub(super) fn answer(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&ReqPath>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    let mut out = head(echo, ids);
    if code::is_error(answer.code) {
        return error(out, &error_text(answer.code));
    }
    let start = out.len();
    put(&mut out, r#","Result":"#);
    let written = match echo.kind() {
        Some(Kind::Discover) if answer.code == code::CONTENT => {
            content::put_links(&mut out, answer.payload);
            true
        }
        _ if !matches!(body, Body::Nothing) => {
            let base = req_path.and_then(ReqPath::one).unwrap_or("/");
            content::put_lwm2m_json(&mut out, base, answer, body, context)
        }
        _ => {
            put_string(&mut out, &title(code::name(answer.code)));
            true
        }
    };
    if !written {
        out.truncate(start);
        return error(out, "Bad Request");
    }
    out.push(b'}');
    out
}

/// An error of ours.
pub(super) fn local_error(echo: &Echo, ids: &Ids<'_>, code: u8, reason: &str) -> Vec<u8> {
    let mut out = head(echo, ids);
    put(&mut out, r#","Reason":"#);
    put_string(&mut out, reason);
    error(out, &error_text(code))
}

/// Reset and timeout, for which EMQ 2 had no word.
pub(super) fn failure(echo: &Echo, ids: &Ids<'_>, text: &str) -> Vec<u8> {
    error(head(echo, ids), text)
}

fn head(echo: &Echo, ids: &Ids<'_>) -> Vec<u8> {
    let mut out = b"{".to_vec();
    echo.put_members(&mut out, ids);
    put(&mut out, r#""Command":"#);
    put(&mut out, echo.name());
    out
}

fn error(mut out: Vec<u8>, text: &str) -> Vec<u8> {
    put(&mut out, r#","Error":"#);
    put_string(&mut out, text);
    out.push(b'}');
    out
}

fn error_text(code: u8) -> String {
    title(code::name(code))
}

/// `not_found` as `Not Found`.
fn title(name: &str) -> String {
    let mut title = String::with_capacity(name.len());
    for word in name.split('_') {
        if !title.is_empty() {
            title.push(' ');
        }
        let (first, rest) = word.split_at_checked(1).unwrap_or(("", word));
        title.push_str(&first.to_ascii_uppercase());
        title.push_str(rest);
    }
    title
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, downlink, uplink};
    use super::*;
    use crate::config::Compat;
    use crate::engine::format::FormatChoice;
    use crate::engine::request::{self, Method};
    use crate::lwm2m::model::{DeviceSchema, ObjectModels, Version};
    use serde_json::{Value as Json, json};

    const IDS: Ids<'static> = Ids {
        imei: None,
        imsi: None,
    };

    const OPTIONS: Options = Options {
        max_size: 4096,
        check_arguments: true,
    };

    fn parse(command: &Json) -> Result<Command, CommandError> {
        downlink::parse(command.to_string().as_bytes(), Dialect::Legacy, &OPTIONS)
    }

    fn build(command: &Json) -> (Method, String, Vec<u8>) {
        let models = ObjectModels::builtin();
        let schema = DeviceSchema::new(&models, &[], Version::V1_0);
        let request = request::build(
            &parse(command).unwrap(),
            "/",
            &schema,
            &FormatChoice::default(),
        );
        let request = request.unwrap();
        let queries = request.queries.join("&");
        (
            request.method,
            format!("{}?{queries}", request.path.join("/")),
            request.payload,
        )
    }

    fn answered(command: &Json, code: u8, format: u16, payload: &[u8]) -> Json {
        let command = parse(command).unwrap();
        let models = ObjectModels::builtin();
        let schema = DeviceSchema::new(&models, &[], Version::V1_0);
        let context = Context {
            alternate_path: "/",
            path: command.target.path.as_ref(),
            schema: &schema,
            compat: &Compat::default(),
            now: None,
        };
        let answer = Answer {
            code,
            observe: None,
            content_format: Some(format),
            payload,
        };
        let body = content::read(Some(command.kind), &answer, &context);
        let text = Some(&command.target.text);
        let json = uplink::response(&command.echo, &IDS, text, &answer, &body, &context);
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn commands() {
        let command =
            |name: &str, base: &str| json!({"CmdID": 1, "Command": name, "BaseName": base});
        let with = |mut command: Json, key: &str, value: Json| {
            command[key] = value;
            command
        };
        let read = command("Read", "/3/0");
        assert_eq!(build(&read), (Method::Get, "3/0?".to_owned(), vec![]));
        let execute = with(command("Execute", "/3/0/4"), "Arguments", json!("2,7"));
        assert_eq!(
            build(&execute),
            (Method::Post, "3/0/4?".to_owned(), b"2,7".to_vec())
        );
        let attributes = with(
            command("Write-Attributes", "/3/0/9"),
            "Value",
            json!("pmin=1&pmax=5&gt=3"),
        );
        assert_eq!(
            build(&attributes),
            (Method::Put, "3/0/9?gt=3&pmax=5&pmin=1".to_owned(), vec![])
        );
        for (base, value, method, payload) in [
            (
                "/3/0",
                json!({"e": [{"n": "13", "v": 5}, {"n": "/14", "sv": "+1"}]}),
                Method::Post,
                &b"\xc1\x0d\x05\xc2\x0e+1"[..],
            ),
            (
                "/3/0/14",
                json!({"bn": "/3/0/14", "e": [{"sv": "5"}]}),
                Method::Put,
                b"\xc1\x0e5",
            ),
            (
                "/1/0/6",
                json!([{"bv": true}]),
                Method::Put,
                b"\xc1\x06\x01",
            ),
            ("/3/0/14", json!("x"), Method::Put, b"\xc1\x0ex"),
            (
                "/5/0/0",
                json!({"e": [{"sv": "AQI="}]}),
                Method::Put,
                b"\xc2\x00\x01\x02",
            ),
        ] {
            let write = with(command("Write", base), "Value", value);
            let expected = (method, format!("{}?", &base[1..]), payload.to_vec());
            assert_eq!(build(&write), expected, "{write}");
        }
    }

    #[test]
    fn answers() {
        let command =
            |name: &str, base: &str| json!({"CmdID": 1, "Command": name, "BaseName": base});
        let read = command("Read", "/3/0");
        assert_eq!(
            answered(
                &read,
                0x45,
                11542,
                b"\xc3\x00EMQ\xc1\x09\x5f\x86\x0b\x41\x00\x05\x41\x01\x06"
            ),
            json!({"CmdID": 1, "Command": "Read", "Result": {"bn": "/3/0", "e": [
                {"n": "/0", "sv": "EMQ"}, {"n": "/9", "v": 95},
                {"n": "/11/0", "v": 5}, {"n": "/11/1", "v": 6},
            ]}})
        );
        assert_eq!(
            answered(&command("Observe", "/3/0/9"), 0x45, 0, b"95"),
            json!({"CmdID": 1, "Command": "Observe",
                "Result": {"bn": "/3/0/9", "e": [{"v": 95}]}})
        );
        assert_eq!(
            answered(&command("Execute", "/3/0/4"), 0x44, 0, b""),
            json!({"CmdID": 1, "Command": "Execute", "Result": "Changed"})
        );
        assert_eq!(
            answered(
                &command("Discover", "/3/0"),
                0x45,
                40,
                b"</3/0>;dim=8,</3/0/1>"
            ),
            json!({"CmdID": 1, "Command": "Discover", "Result": ["</3/0>;dim=8", "</3/0/1>"]})
        );
        assert_eq!(
            answered(&read, 0x85, 0, b""),
            json!({"CmdID": 1, "Command": "Read", "Error": "Method Not Allowed"})
        );
        assert_eq!(
            answered(&read, 0x45, 11542, b"\xc8"),
            json!({"CmdID": 1, "Command": "Read", "Error": "Bad Request"})
        );
    }

    #[test]
    fn refusals() {
        for (command, reason) in [
            (json!({"CmdID": 1}), Reason::UnknownMsgType),
            (
                json!({"CmdID": 1, "Command": "Fly", "BaseName": "/3"}),
                Reason::UnknownMsgType,
            ),
            (json!({"CmdID": 1, "Command": "Read"}), Reason::MissingPath),
            (
                json!({"CmdID": 1, "Command": "Write", "BaseName": "/3/0"}),
                Reason::MissingValue,
            ),
            (
                json!({"CmdID": 1, "Command": "Write", "BaseName": "/3/0", "Value": {"e": [{}]}}),
                Reason::MissingValue,
            ),
            (
                json!({"CmdID": 1, "Command": "Write", "BaseName": "/3/0", "Value": "x"}),
                Reason::BadValue,
            ),
        ] {
            let error = parse(&command).unwrap_err();
            assert_eq!(error.reason, reason, "{command}");
            let answer: Json = serde_json::from_slice(&uplink::refused(&error, &IDS)).unwrap();
            assert_eq!(answer["Error"], "Bad Request");
            assert_eq!(answer["Reason"], reason.as_str());
            assert_eq!(answer["CmdID"], 1);
        }
    }

    #[test]
    fn both_dialects_on_one_topic() {
        let today = json!({"msgType": "read", "CmdID": 5, "data": {"path": "/3"}});
        assert_eq!(parse(&today).unwrap().echo.dialect(), Dialect::Current);
        let old = json!({"CmdID": 5, "Command": "read", "BaseName": "/3"});
        let echo = parse(&old).unwrap().echo;
        assert_eq!(uplink::ack(&echo, &IDS), None);
        let timeout = uplink::coap_timeout(&echo, &IDS);
        assert_eq!(
            String::from_utf8(timeout).unwrap(),
            r#"{"CmdID":5,"Command":"read","Error":"Timeout"}"#
        );
    }
}
