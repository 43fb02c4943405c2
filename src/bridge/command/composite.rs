//! Operations that name several paths at once (LwM2M Core 1.2 §6.3.7 to §6.3.9, §6.4.3).

use std::collections::BTreeSet;

use super::items::Items;
use super::parsed::Parts;
use crate::bridge::json::{Elements, Members, string};
use crate::bridge::kind::Kind;
use crate::bridge::refusal::{Fault, Reason};
use crate::bridge::target::Target;
use crate::lwm2m::{Operation, Path, PathError};

/// The operations that only name paths.
pub(super) fn read_composite(kind: Kind, data: &Members<'_>) -> Result<Parts, Fault> {
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

pub(super) fn write_composite(data: &Members<'_>, hex: bool) -> Result<Parts, Fault> {
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
            return Err(Fault::new(
                Reason::MissingPath,
                "path is missing in an element",
            ));
        };
        let error = || Fault::new(Reason::BadPath, "path must be a string");
        let text = string(raw).ok_or_else(error)?;
        let path = full_path(&text)?;
        if path.depth() < 3 {
            let detail = format!("{path} is not a resource");
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
