//! The facts of OMA's registry of objects, as one table of our own: ids, versions, names, types,
//! operations, multiplicity and units, no descriptions. `examples/oma_table.rs` makes it from a
//! folder of DDF files; `priv/oma/NOTICE` says whose they are.
//!
//! A line that begins with `/` starts an object, with its id, version, flags and name between
//! tabs. The lines below it are its resources: id, flags, type, unit and name. Flags are the
//! letters of the operations, `*` for what may have several instances and `!` for what is
//! mandatory. Lines that begin with `#` are remarks.

use std::sync::OnceLock;

use super::{ObjectDefinition, Operations, ResourceDefinition, Version};

const TABLE: &str = include_str!("../../../priv/oma/objects.tsv");

/// One object of the table. Its lines are read when it is first asked for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: u16,
    pub(super) version: Version,
    lines: &'static str,
    read: OnceLock<ObjectDefinition>,
}

impl Entry {
    /// The definition.
    pub(super) fn definition(&self) -> &ObjectDefinition {
        self.read.get_or_init(|| self.clone().into_definition())
    }

    /// The definition, read anew.
    pub(super) fn into_definition(self) -> ObjectDefinition {
        let (head, rest) = self.lines.split_once('\n').unwrap_or((self.lines, ""));
        let mut fields = head.split('\t').skip(2);
        let flags = fields.next().unwrap_or_default();
        ObjectDefinition {
            id: self.id,
            version: self.version,
            name: fields.next().unwrap_or_default().to_owned(),
            multiple: flags.contains('*'),
            mandatory: flags.contains('!'),
            resources: rest.lines().filter_map(resource).collect(),
        }
    }
}

/// The objects of the table, sorted by id and version. Nothing but their first lines is read.
pub(super) fn entries() -> Vec<Entry> {
    let mut entries = Vec::with_capacity(512);
    let mut rest = TABLE.split_once("\n/").map_or("", |(_, rest)| rest);
    while !rest.is_empty() {
        let (lines, next) = rest.split_once("\n/").unwrap_or((rest, ""));
        entries.extend(entry(lines));
        rest = next;
    }
    entries
}

fn entry(lines: &'static str) -> Option<Entry> {
    let mut fields = lines.split('\t');
    Some(Entry {
        id: fields.next()?.parse().ok()?,
        version: fields.next()?.parse().ok()?,
        lines,
        read: OnceLock::new(),
    })
}

fn resource(line: &str) -> Option<ResourceDefinition> {
    let mut fields = line.split('\t');
    let id = fields.next()?.parse().ok()?;
    let flags = fields.next()?;
    let kind = match fields.next()? {
        "" => None,
        name => Some(name.parse().ok()?),
    };
    Some(ResourceDefinition {
        id,
        operations: Operations {
            read: flags.contains('R'),
            write: flags.contains('W'),
            execute: flags.contains('E'),
        },
        multiple: flags.contains('*'),
        mandatory: flags.contains('!'),
        kind,
        units: fields.next()?.to_owned(),
        name: fields.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lwm2m::ResourceType;

    #[test]
    fn every_line_is_read() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        let (objects, resources): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('/'));
        let entries = entries();
        assert!(entries.len() > 350, "{}", entries.len());
        assert_eq!(entries.len(), objects.len());
        let read: usize = entries.iter().map(|e| e.definition().resources.len()).sum();
        assert!(read > 4000, "{read}");
        assert_eq!(read, resources.len());
        assert!(entries.iter().all(|e| !e.definition().name.is_empty()));
    }

    #[test]
    fn sorted_and_each_once() {
        let entries = entries();
        assert!(entries.is_sorted_by(|a, b| (a.id, a.version) < (b.id, b.version)));
        for entry in &entries {
            let resources = &entry.definition().resources;
            assert!(
                resources.is_sorted_by(|a, b| a.id < b.id),
                "object {}",
                entry.id
            );
        }
    }

    #[test]
    fn small() {
        assert!(TABLE.len() <= 500 << 10, "{}", TABLE.len());
    }

    #[test]
    fn known_facts() {
        let entries = entries();
        let temperature = entries.iter().rfind(|e| e.id == 3303).unwrap().definition();
        assert_eq!(temperature.version, Version::V1_1);
        assert!(temperature.multiple && !temperature.mandatory);
        let value = temperature.resource(5700).unwrap();
        assert_eq!(value.kind, Some(ResourceType::Float));
        assert!(value.mandatory && value.operations.read && !value.operations.write);
        let reset = temperature.resource(5605).unwrap();
        assert!(reset.operations.execute && reset.kind.is_none());
        let voltage = entries.iter().find(|e| e.id == 10_242).unwrap();
        assert_eq!(voltage.definition().resource(4).unwrap().units, "V");
    }
}
