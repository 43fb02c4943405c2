//! The attributes of Write-Attributes.

use crate::bridge::refusal::{Fault, Reason};
use crate::bridge::target::MAX_OPTION;

/// Attributes of Write-Attributes (LwM2M Core 1.2 §5.1.1) in the order EMQX sends them.
pub(super) const ATTRIBUTES: [&str; 10] = [
    "con", "edge", "epmax", "epmin", "gt", "hqmax", "lt", "pmax", "pmin", "st",
];

/// Checks one attribute. An empty value unsets it.
pub(super) fn attribute(name: &str, value: &str) -> Result<(String, Option<String>), Fault> {
    let known = ATTRIBUTES.contains(&name);
    if !known || name.len() + 1 + value.len() > MAX_OPTION {
        return Err(bad_attribute(name));
    }
    let value = (!value.is_empty()).then(|| value.to_owned());
    Ok((name.to_owned(), value))
}

pub(super) fn bad_attribute(name: &str) -> Fault {
    let detail = format!("{name} is no attribute with a short string or number");
    Fault::new(Reason::BadAttribute, detail)
}
