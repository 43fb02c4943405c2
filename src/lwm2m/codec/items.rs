//! The values of a write, as encoders want them.

use std::collections::{HashMap, HashSet};

use super::error::EncodeError;
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, Value};

/// The items that count: of several with the same path the last one, at its own place. Each is
/// checked to be a resource or resource instance at or below `base`.
pub(super) fn effective_items<'i>(
    format: &'static str,
    base: &Path,
    items: &'i [WriteItem],
) -> Result<Vec<&'i WriteItem>, EncodeError> {
    for item in items {
        if !base.contains(&item.path) {
            return Err(EncodeError::OutsideBase {
                path: item.path.clone(),
                base: base.clone(),
            });
        }
        if item.path.depth() < 3 {
            return Err(EncodeError::Unsuitable {
                format,
                reason: "a value needs the path of a resource",
            });
        }
    }
    let mut seen = HashSet::with_capacity(items.len());
    let mut kept: Vec<&WriteItem> = items
        .iter()
        .rev()
        .filter(|item| seen.insert(&item.path))
        .collect();
    kept.reverse();
    Ok(kept)
}

/// The items by their id at `level` of the path, in order of first appearance.
pub(super) fn groups<'i>(items: &[&'i WriteItem], level: usize) -> Vec<(u16, Vec<&'i WriteItem>)> {
    let mut order: HashMap<u16, usize> = HashMap::new();
    let mut groups: Vec<(u16, Vec<&WriteItem>)> = Vec::new();
    for item in items {
        let Some(id) = item.path.ids().get(level).copied() else {
            continue;
        };
        let index = *order.entry(id).or_insert(groups.len());
        match groups.get_mut(index) {
            Some((_, members)) => members.push(item),
            None => groups.push((id, vec![item])),
        }
    }
    groups
}

/// The one value of a format that carries no paths.
pub(super) fn single_value<'i>(
    format: &'static str,
    base: &Path,
    items: &'i [WriteItem],
) -> Result<&'i Value<'static>, EncodeError> {
    match effective_items(format, base, items)?.as_slice() {
        [item] if item.path == *base => Ok(&item.value),
        _ => Err(EncodeError::Unsuitable {
            format,
            reason: "it can hold only one value, that of the path itself",
        }),
    }
}
