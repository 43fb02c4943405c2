//! Write and Create of one path.

use serde_json::value::RawValue;

use super::items::{Items, join};
use super::parsed::Parts;
use crate::bridge::json::{Elements, Members, is_number, string};
use crate::bridge::refusal::{Fault, Reason};
use crate::bridge::target::Target;
use crate::lwm2m::operation::WriteMode;
use crate::lwm2m::{Operation, Path};

/// A write of `path`, without a `basePath` (or with `/`) and without `content`.
pub(super) fn is_single_write(data: &Members<'_>) -> bool {
    let base = data.value("basePath").and_then(string);
    base.is_none_or(|base| base.is_empty() || base == "/") && data.value("content").is_none()
}

pub(super) fn single_write(target: Target, data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
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

pub(super) fn batch_write(data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
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

pub(super) fn create(target: Target, data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
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
            let detail = format!("{path} is not a resource");
            return Err(Fault::new(Reason::BadPath, detail));
        }
        items.push(path, &members, hex)?;
    }
    Ok(items)
}
