//! What a device says in the query of a Register, Updates merged in.

use std::collections::HashMap;
use std::str;

use serde::{Deserialize, Serialize};

use super::error::RegisterError;
use super::strings::Strings;
use crate::config::Limits;
use crate::memory::Heap;

/// The query of a Register or Update as it was sent, in order; a key without `=` has no value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Query(Strings);

impl Query {
    /// Reads the Uri-Query options of a request, up to the bounds of a registration. A parameter
    /// that is repeated counts once, as it came first, so that the gateway and who reads its reports
    /// see the same; a second `ep` is an error, since one of the two is a name that was not checked.
    pub(in crate::engine) fn parse<'a>(
        options: impl Iterator<Item = &'a [u8]>,
        limits: &Limits,
    ) -> Result<Self, RegisterError> {
        let mut bounds = Bounds::new(limits);
        let mut items: Vec<&str> = Vec::with_capacity(8);
        for bytes in options {
            let item = str::from_utf8(bytes).map_err(|_| RegisterError::NotUtf8)?;
            bounds.add(item)?;
            let key = key_and_value(item).0;
            if items.iter().all(|known| key_and_value(known).0 != key) {
                items.push(item);
            } else if key == "ep" {
                return Err(RegisterError::TwoEndpoints);
            }
        }
        Ok(Self(items.into_iter().collect()))
    }

    /// As they were sent.
    #[cfg(any(test, feature = "internals", feature = "standalone"))]
    pub(in crate::engine) fn items(&self) -> impl Iterator<Item = &str> {
        self.0.iter()
    }

    pub(in crate::engine) fn get(&self, key: &str) -> Option<&str> {
        // Notifications ask for two keys each: no more work than needed.
        self.0
            .iter()
            .find_map(|item| item.strip_prefix(key)?.strip_prefix('='))
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::engine) fn has_flag(&self, key: &str) -> bool {
        self.0.contains(key)
    }

    /// Keys and values for the report.
    pub(in crate::engine) fn pairs(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(key_and_value)
    }

    /// An Update's query over what was known (LwM2M Core 1.2 §6.2.2). The endpoint cannot change.
    pub(in crate::engine) fn merged(
        &self,
        update: &Self,
        limits: &Limits,
    ) -> Result<Self, RegisterError> {
        let mut items: Vec<&str> = self.0.iter().collect();
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            places.entry(key_and_value(item).0).or_insert(place);
        }
        for item in update.0.iter() {
            let (key, _) = key_and_value(item);
            if key == "ep" {
                continue;
            }
            let place = *places.entry(key).or_insert(items.len());
            match items.get_mut(place) {
                Some(known) => *known = item,
                None => items.push(item),
            }
        }
        let mut bounds = Bounds::new(limits);
        items.iter().try_for_each(|item| bounds.add(item))?;
        Ok(Self(items.into_iter().collect()))
    }
}

/// What is left of the room for a registration's query.
struct Bounds<'a> {
    limits: &'a Limits,
    items: usize,
    bytes: usize,
}

impl<'a> Bounds<'a> {
    const fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            items: limits.max_query_items,
            bytes: limits.max_query_bytes,
        }
    }

    fn add(&mut self, item: &str) -> Result<(), RegisterError> {
        let too_many = RegisterError::TooManyQueryItems(self.limits.max_query_items);
        self.items = self.items.checked_sub(1).ok_or(too_many)?;
        let too_long = RegisterError::QueryTooLong(self.limits.max_query_bytes);
        self.bytes = self.bytes.checked_sub(item.len()).ok_or(too_long)?;
        Ok(())
    }
}

impl Heap for Query {
    fn heap(&self) -> usize {
        self.0.heap()
    }
}

fn key_and_value(item: &str) -> (&str, Option<&str>) {
    match item.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (item, None),
    }
}
