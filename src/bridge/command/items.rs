//! Values to be written.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::typed::Scalar;
use crate::bridge::json::{Members, string};
use crate::bridge::refusal::{Fault, Reason};
use crate::bridge::target::split_segments;
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, ResourceType, Value};

/// `path` below `base`; slashes at its ends do not matter. A path that begins with a slash and with
/// the whole of `base`, and goes on to a resource, is one as answers give them: absolute.
pub(super) fn join(base: &Path, path: &str) -> Result<Path, Fault> {
    if let Some(absolute) = absolute_below(base, path) {
        return Ok(absolute);
    }
    let mut joined = base.clone();
    for segment in split_segments(path) {
        let digits = segment.len() <= 5 && segment.bytes().all(|byte| byte.is_ascii_digit());
        let child = segment
            .parse()
            .ok()
            .filter(|_| digits)
            .and_then(|id| joined.child(id));
        let error = || {
            Fault::new(
                Reason::BadPath,
                format!("{path:?} is not a path below {base}"),
            )
        };
        joined = child.ok_or_else(error)?;
    }
    Ok(joined)
}

fn absolute_below(base: &Path, path: &str) -> Option<Path> {
    let absolute: Path = path.strip_prefix('/')?.parse().ok()?;
    let below = base.depth() > 0
        && absolute.depth() >= 3
        && absolute.prefix() == base.prefix()
        && absolute.ids().starts_with(base.ids());
    below.then_some(absolute)
}

/// Written values, some without a type.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) items: Vec<WriteItem>,
    pub(super) untyped: Vec<usize>,
}

impl Items {
    pub(super) fn push(
        &mut self,
        path: Path,
        members: &Members<'_>,
        hex: bool,
    ) -> Result<(), Fault> {
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
            let hint = if hex { " in hex" } else { "" };
            let detail = match kind.map(ResourceType::name) {
                Some(kind) => format!("the value for {path} is not of type {kind}{hint}"),
                None => format!("the value for {path} is not a number, text or boolean{hint}"),
            };
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
        .map_err(|_| Fault::new(Reason::BadType, format!("{name:?} is not a data type")))
}
