//! Messages about registrations.

use std::fmt::Display;

use crate::bridge::json::{put, put_integer, put_string};
use crate::bridge::secret::is_secret;

/// What happened to a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `register`, also for a re-registration.
    Register,
    /// `update`
    Update,
    /// `deregister`; EMQX has no such message.
    Deregister,
    /// `expired`; EMQX has no such message.
    Expired,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Update => "update",
            Self::Deregister => "deregister",
            Self::Expired => "expired",
        }
    }
}

/// A registration as its device stated it, Updates merged in.
#[derive(Debug)]
pub struct RegistrationReport<'a, T = String> {
    /// Queries of Register and Updates, by name and value; of several with one name the last.
    pub queries: &'a [(String, String)],
    /// `lt` in seconds. `None`: `lt` is reported as the device wrote it.
    pub lifetime: Option<i64>,
    /// Path of the root, `/` unless the object list named another. `None`: no object list ever.
    pub alternate_path: Option<&'a str>,
    /// Objects and instances in the order of the device. `None`: no object list ever.
    pub object_list: Option<&'a [T]>,
}

/// The report for the register or update topic: queries as strings, but `lt` as a number, then
/// `alternatePath` and `objectList`. Secrets in the queries are left out.
pub fn report<T: Display>(event: Event, info: &RegistrationReport<'_, T>) -> Vec<u8> {
    let mut out = br#"{"msgType":""#.to_vec();
    put(&mut out, event.name());
    put(&mut out, r#"","data":{"#);
    let mut first = true;
    let mut name = |out: &mut Vec<u8>, name: &str| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        put_string(out, name);
        out.push(b':');
    };
    for (index, (key, value)) in info.queries.iter().enumerate() {
        let rest = info.queries.get(index + 1..).unwrap_or_default();
        let ours = matches!(key.as_str(), "alternatePath" | "objectList");
        if ours || is_secret(key) || rest.iter().any(|(later, _)| later == key) {
            continue;
        }
        match info.lifetime.filter(|_| key == "lt") {
            Some(_) => {}
            None => {
                name(&mut out, key);
                put_string(&mut out, value);
            }
        }
    }
    if let Some(lifetime) = info.lifetime {
        name(&mut out, "lt");
        put_integer(&mut out, lifetime);
    }
    if let Some(path) = info.alternate_path {
        name(&mut out, "alternatePath");
        put_string(&mut out, path);
    }
    if let Some(list) = info.object_list {
        name(&mut out, "objectList");
        out.push(b'[');
        for (index, link) in list.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            put_string(&mut out, &link.to_string());
        }
        out.push(b']');
    }
    put(&mut out, "}}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn queries(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn register_report() {
        let queries = queries(&[
            ("ep", "ep1"),
            ("lt", "60"),
            ("lwm2m", "1.0"),
            ("b", "UQ"),
            ("b", "U"),
            ("Password", "hunter2"),
            ("devicePin", "1234"),
            ("x\"", "\u{1}"),
        ]);
        let list = ["/1/0", "/3/0"];
        let info = RegistrationReport {
            queries: &queries,
            lifetime: Some(60),
            alternate_path: Some("/"),
            object_list: Some(&list),
        };
        let value: Value = serde_json::from_slice(&report(Event::Register, &info)).unwrap();
        assert_eq!(
            value,
            json!({"msgType": "register", "data": {
                "ep": "ep1", "lt": 60, "lwm2m": "1.0", "b": "U", "x\"": "\u{1}",
                "alternatePath": "/", "objectList": ["/1/0", "/3/0"],
            }})
        );
    }

    #[test]
    fn without_object_list() {
        let queries = queries(&[("ep", "ep1"), ("lt", "soon")]);
        let info = RegistrationReport::<String> {
            queries: &queries,
            lifetime: None,
            alternate_path: None,
            object_list: None,
        };
        let payload = report(Event::Expired, &info);
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            r#"{"msgType":"expired","data":{"ep":"ep1","lt":"soon"}}"#
        );
    }
}
