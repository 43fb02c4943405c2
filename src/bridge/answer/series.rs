//! Measurement series: the values of an answer, a notification or a Send by path and in order of
//! time, as platforms for time series take them.
//!
//! ```json
//! {"series":[{"ingestionId":"urn:imei:35045779074654654$/3/0/9",
//!             "measurements":[{"number":74,"date":1700000000000}]}]}
//! ```

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use crate::bridge::json::{put, put_base64, put_float, put_integer, put_object_link, put_string};
use crate::config::{BooleanSeries, Series};
use crate::lwm2m::codec::Record;
use crate::lwm2m::{Path, Value};

/// Most measurements in one message.
pub const MAX_MEASUREMENTS: usize = 500;
/// Longest message in bytes.
pub const MAX_MESSAGE: usize = 200 << 10;

const OPEN: &str = r#"{"series":["#;
const CLOSE: &str = "]}]}";

/// The series of `records` in messages of at most [`MAX_MEASUREMENTS`] and [`MAX_MESSAGE`];
/// several for more than one can hold, none when nothing is to be sent. Series stand in the order
/// of their first record. In each the values are ordered by their time; those without a time are
/// of now and come last.
///
/// Left out are numbers that are not finite, values too large for a message of their own and
/// paths the configuration does not choose.
pub fn series(endpoint: &str, records: &[Record<'_>], config: &Series) -> Vec<Vec<u8>> {
    let mut writer = Writer::default();
    for (id, mut group) in groups(records, config) {
        group.sort_by(|a, b| by_time(a.time, b.time));
        let mut head = Vec::with_capacity(64 + endpoint.len());
        put(&mut head, r#"{"ingestionId":"#);
        put_string(&mut head, &format!("{endpoint}${id}"));
        put(&mut head, r#","measurements":["#);
        writer.series(&head, &group, config);
    }
    writer.finish()
}

/// Records by the id of their series.
fn groups<'r, 'a>(
    records: &'r [Record<'a>],
    config: &'r Series,
) -> Vec<(Cow<'r, str>, Vec<&'r Record<'a>>)> {
    /// Two paths may be mapped to one id, so the path alone is no key.
    #[derive(PartialEq, Eq, Hash)]
    enum Id<'r> {
        Path(&'r Path),
        Mapped(&'r str),
    }
    let mut known: HashMap<Id<'_>, usize> = HashMap::new();
    let mut groups: Vec<(Cow<'_, str>, Vec<&Record<'_>>)> = Vec::new();
    for record in records {
        let path = &record.path;
        if !config.paths.is_empty() && !config.paths.iter().any(|chosen| chosen.contains(path)) {
            continue;
        }
        let mapped = config.mapping.get(path);
        let id = mapped.map_or(Id::Path(path), |name| Id::Mapped(name));
        let index = *known.entry(id).or_insert(groups.len());
        match groups.get_mut(index) {
            Some((_, group)) => group.push(record),
            None => {
                let shown = match mapped {
                    Some(name) => Cow::Borrowed(name.as_str()),
                    None => Cow::Owned(path.to_string()),
                };
                groups.push((shown, vec![record]));
            }
        }
    }
    groups
}

fn by_time(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// Messages under way.
#[derive(Default)]
struct Writer {
    messages: Vec<Vec<u8>>,
    /// The last message, without its end; empty before the first measurement.
    message: Vec<u8>,
    count: usize,
}

impl Writer {
    /// Adds the measurements of one series; `head` opens it.
    fn series(&mut self, head: &[u8], records: &[&Record<'_>], config: &Series) {
        let mut open = false;
        let mut measurement = Vec::new();
        for record in records {
            measurement.clear();
            if !put_measurement(&mut measurement, record, config) {
                continue;
            }
            let alone = OPEN.len() + head.len() + measurement.len() + CLOSE.len();
            if alone > MAX_MESSAGE {
                continue;
            }
            // What comes before the measurement: a comma, or the end of another series and a head.
            let before = if open { 1 } else { 3 + head.len() };
            let length = self.message.len() + before + measurement.len() + CLOSE.len();
            if self.count >= MAX_MEASUREMENTS || length > MAX_MESSAGE {
                self.close();
                open = false;
            }
            if open {
                self.message.push(b',');
            } else {
                let between = if self.message.is_empty() { OPEN } else { "]}," };
                put(&mut self.message, between);
                self.message.extend_from_slice(head);
                open = true;
            }
            self.message.extend_from_slice(&measurement);
            self.count += 1;
        }
    }

    fn close(&mut self) {
        if !self.message.is_empty() {
            let mut message = std::mem::take(&mut self.message);
            put(&mut message, CLOSE);
            self.messages.push(message);
        }
        self.count = 0;
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        self.close();
        self.messages
    }
}

/// Appends a measurement; false, and nothing of use, for a value that none can be made of.
fn put_measurement(out: &mut Vec<u8>, record: &Record<'_>, config: &Series) -> bool {
    const NUMBER: &str = r#"{"number":"#;
    const TEXT: &str = r#"{"text":"#;
    match &record.value {
        Value::Float(number) if !number.is_finite() => return false,
        Value::Float(number) => {
            put(out, NUMBER);
            put_float(out, *number);
        }
        Value::Integer(number) | Value::Time(number) => {
            put(out, NUMBER);
            put_integer(out, number);
        }
        Value::Unsigned(number) => {
            put(out, NUMBER);
            put_integer(out, number);
        }
        Value::Boolean(value) => match config.boolean {
            BooleanSeries::Number => {
                put(out, NUMBER);
                out.push(if *value { b'1' } else { b'0' });
            }
            BooleanSeries::Text => {
                put(out, TEXT);
                put_string(out, if *value { "true" } else { "false" });
            }
        },
        Value::String(text) | Value::CoreLink(text) => {
            put(out, TEXT);
            put_string(out, text);
        }
        Value::Opaque(bytes) => {
            put(out, TEXT);
            put_base64(out, bytes);
        }
        Value::ObjectLink { object, instance } => {
            put(out, TEXT);
            put_object_link(out, *object, *instance);
        }
    }
    if let Some(date) = record.time.and_then(milliseconds) {
        put(out, r#","date":"#);
        put_integer(out, date);
    }
    out.push(b'}');
    true
}

/// Seconds as whole milliseconds; `None` outside of what JSON numbers hold exactly.
fn milliseconds(seconds: f64) -> Option<i64> {
    /// Floats are exact up to 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let millis = (seconds * 1000.0).round();
    // The range check makes the conversion exact; NaN is not in the range.
    #[allow(clippy::cast_possible_truncation)]
    (millis.abs() <= EXACT).then_some(millis as i64)
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
