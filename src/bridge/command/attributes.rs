//! The attributes of Write-Attributes.

use crate::bridge::refusal::{Fault, Reason};
use crate::bridge::target::MAX_OPTION;

/// Attributes of Write-Attributes (LwM2M Core 1.2 §5.1.1) in the order EMQX sends them.
pub(super) const ATTRIBUTES: [&str; 10] = [
    "con", "edge", "epmax", "epmin", "gt", "hqmax", "lt", "pmax", "pmin", "st",
];

/// Checks one attribute before it costs the device a message. An empty value unsets it.
pub(super) fn attribute(name: &str, value: &str) -> Result<(String, Option<String>), Fault> {
    let known = ATTRIBUTES.contains(&name);
    if !known || name.len() + 1 + value.len() > MAX_OPTION {
        return Err(bad_attribute(name));
    }
    if let Some(wanted) = wanted(name, value).filter(|_| !value.is_empty()) {
        let detail = format!("{name} must be {wanted}");
        return Err(Fault::new(Reason::BadAttribute, detail));
    }
    let value = (!value.is_empty()).then(|| value.to_owned());
    Ok((name.to_owned(), value))
}

/// What an attribute has to be (LwM2M Core 1.2 §5.1.2), if `value` is something else.
fn wanted(name: &str, value: &str) -> Option<&'static str> {
    let is_count = || !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match name {
        "pmin" | "pmax" | "epmin" | "epmax" => {
            (!is_count()).then_some("a whole number of seconds, without a sign")
        }
        "hqmax" => (!is_count()).then_some("a whole number, without a sign"),
        "con" | "edge" => (!matches!(value, "0" | "1")).then_some("0 or 1"),
        // gt, lt, st
        _ => {
            let number = value.parse::<f64>().is_ok_and(f64::is_finite);
            (!number).then_some("a number")
        }
    }
}

pub(super) fn bad_attribute(name: &str) -> Fault {
    let detail =
        format!("{name} is not an attribute, or its value is not a short string or a number");
    Fault::new(Reason::BadAttribute, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d16_values_are_checked() {
        for (name, value) in [
            ("pmin", "0"),
            ("pmax", "86400"),
            ("gt", "-2.5"),
            ("st", "1e3"),
            ("con", "1"),
            ("edge", "0"),
            ("lt", ""),
        ] {
            assert!(attribute(name, value).is_ok(), "{name}={value}");
        }
        for (name, value) in [
            ("pmin", "abc"),
            ("pmin", "-1"),
            ("pmax", "1.5"),
            ("hqmax", "+1"),
            ("gt", "warm"),
            ("gt", "inf"),
            ("con", "2"),
            ("edge", "yes"),
        ] {
            let fault = attribute(name, value).unwrap_err();
            assert!(fault.detail.starts_with(name), "{fault:?}");
        }
    }
}
