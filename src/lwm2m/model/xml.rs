//! Reads object definition files (DDF, schemas LWM2M.xsd and LWM2M-v1_1.xsd of OMA).
//!
//! Files in the field come with a byte order mark, elements in another order and missing
//! versions, so only what codecs need is insisted on. Only the five predefined entities and
//! character references are expanded; a document type is passed over.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use thiserror::Error;

use super::definition::{ObjectDefinition, Operations, ResourceDefinition};
use super::version::Version;
use crate::lwm2m::ResourceType;

/// Elements may nest this deep; the schema needs five levels.
const MAX_DEPTH: usize = 32;

/// An object definition file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("object definition {file}: {problem}")]
pub struct ModelError {
    /// Name of the file.
    pub file: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an object definition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// The file is too large.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The file is not in UTF-8.
    #[error("not UTF-8 text")]
    NotUtf8,
    /// The file breaks the rules of XML.
    #[error("byte {position}: {reason}")]
    Xml {
        /// Where, from the start of the file.
        position: u64,
        /// What the XML reader says.
        reason: String,
    },
    /// The file ends inside an element.
    #[error("ends inside an element")]
    Truncated,
    /// Elements are nested too deep.
    #[error("elements nest deeper than {MAX_DEPTH}")]
    TooDeep,
    /// There is no object definition in the file.
    #[error("no Object element")]
    NoObject,
    /// An element that must have a value has none.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An element or attribute has a value that does not fit it.
    #[error("{what} has the invalid value {value:?}")]
    BadValue {
        /// Name of the element or attribute.
        what: &'static str,
        /// Its value.
        value: String,
    },
}

/// The objects of one file.
pub(super) fn parse(content: &[u8], max_bytes: usize) -> Result<Vec<ObjectDefinition>, Problem> {
    if content.len() > max_bytes {
        return Err(Problem::TooLarge { limit: max_bytes });
    }
    let text = std::str::from_utf8(content).map_err(|_| Problem::NotUtf8)?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    reader.config_mut().allow_dangling_amp = true;
    let mut file = File::default();
    let mut depth = 0_usize;
    loop {
        let event = reader.read_event().map_err(|error| Problem::Xml {
            position: reader.error_position(),
            reason: error.to_string(),
        })?;
        match event {
            Event::Start(start) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Problem::TooDeep);
                }
                file.open(&start)?;
            }
            Event::Empty(start) => {
                file.open(&start)?;
                file.close(start.local_name().as_ref())?;
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                file.close(end.local_name().as_ref())?;
            }
            Event::Text(text) => file.text.push_str(&text.xml10_content()),
            Event::CData(text) => file.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                if let Ok(Some(c)) = reference.resolve_char_ref() {
                    file.text.push(c);
                } else if let Some(text) = resolve_predefined_entity(&name) {
                    file.text.push_str(text);
                }
            }
            Event::Eof if depth > 0 => return Err(Problem::Truncated),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if file.objects.is_empty() {
        return Err(Problem::NoObject);
    }
    Ok(file.objects)
}

/// What has been read so far.
#[derive(Default)]
struct File {
    objects: Vec<ObjectDefinition>,
    object: Option<Object>,
    item: Option<Item>,
    /// Text since the last tag.
    text: String,
}

#[derive(Default)]
struct Object {
    id: Option<u16>,
    version: Option<Version>,
    name: String,
    multiple: bool,
    mandatory: bool,
    resources: Vec<ResourceDefinition>,
}

#[derive(Default)]
struct Item {
    id: Option<u16>,
    name: String,
    operations: Operations,
    multiple: bool,
    mandatory: bool,
    kind: Option<ResourceType>,
    units: String,
}

impl File {
    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), Problem> {
        self.text.clear();
        match start.local_name().as_ref() {
            "Object" => self.object = Some(Object::default()),
            "Item" if self.object.is_some() => {
                let id = match start.try_get_attribute("ID") {
                    Ok(Some(id)) => Some(number("ID of an Item", id.value.trim())?),
                    _ => None,
                };
                self.item = Some(Item {
                    id,
                    ..Item::default()
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, name: &str) -> Result<(), Problem> {
        let text = self.text.trim();
        match (name, &mut self.object, &mut self.item) {
            ("Item", Some(object), Some(_)) => {
                if let Some(item) = self.item.take() {
                    object.resources.push(item.finish()?);
                }
            }
            (_, Some(_), Some(item)) => item.set(name, text)?,
            ("Object", Some(_), None) => {
                if let Some(object) = self.object.take() {
                    self.objects.push(object.finish()?);
                }
            }
            (_, Some(object), None) => object.set(name, text)?,
            _ => {}
        }
        self.text.clear();
        Ok(())
    }
}

impl Object {
    fn set(&mut self, element: &str, text: &str) -> Result<(), Problem> {
        match element {
            "Name" => self.name = words(text),
            "ObjectID" => self.id = Some(number("ObjectID", text)?),
            "ObjectVersion" if !text.is_empty() => {
                let version = text.parse().map_err(|_| Problem::BadValue {
                    what: "ObjectVersion",
                    value: text.to_owned(),
                })?;
                self.version = Some(version);
            }
            "MultipleInstances" => self.multiple = text.eq_ignore_ascii_case("multiple"),
            "Mandatory" => self.mandatory = text.eq_ignore_ascii_case("mandatory"),
            _ => {}
        }
        Ok(())
    }

    /// Of two items with the same id the first counts.
    fn finish(mut self) -> Result<ObjectDefinition, Problem> {
        self.resources.sort_by_key(|resource| resource.id);
        self.resources.dedup_by_key(|resource| resource.id);
        Ok(ObjectDefinition {
            id: self.id.ok_or(Problem::Missing("ObjectID"))?,
            version: self.version.unwrap_or(Version::V1_0),
            name: self.name,
            multiple: self.multiple,
            mandatory: self.mandatory,
            resources: self.resources,
        })
    }
}

impl Item {
    fn set(&mut self, element: &str, text: &str) -> Result<(), Problem> {
        match element {
            "Name" => self.name = words(text),
            "Operations" => {
                let has = |letter| text.to_ascii_uppercase().contains(letter);
                self.operations = Operations {
                    read: has('R'),
                    write: has('W'),
                    execute: has('E'),
                };
            }
            "MultipleInstances" => self.multiple = text.eq_ignore_ascii_case("multiple"),
            "Mandatory" => self.mandatory = text.eq_ignore_ascii_case("mandatory"),
            "Type" if text.is_empty() => self.kind = None,
            "Type" => {
                let kind = text.parse().map_err(|_| Problem::BadValue {
                    what: "Type",
                    value: text.to_owned(),
                })?;
                self.kind = Some(kind);
            }
            "Units" => self.units = words(text),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<ResourceDefinition, Problem> {
        Ok(ResourceDefinition {
            id: self.id.ok_or(Problem::Missing("ID of an Item"))?,
            name: self.name,
            operations: self.operations,
            multiple: self.multiple,
            mandatory: self.mandatory,
            kind: self.kind,
            units: self.units,
        })
    }
}

/// The text on one line, with single blanks.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn number(what: &'static str, text: &str) -> Result<u16, Problem> {
    text.parse().map_err(|_| Problem::BadValue {
        what,
        value: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn read(text: &str) -> Result<Vec<ObjectDefinition>, Problem> {
        parse(text.as_bytes(), LIMIT)
    }

    #[test]
    fn reads_files_as_they_come() {
        let objects = read(
            "\u{feff}<?xml version='1.0'?><!DOCTYPE LWM2M [<!ENTITY a 'aaaa'>]><!-- c -->\
             <LWM2M><Object ObjectType='MODefinition'><Resources>\
             <Item ID='7'><Type>Unsigned Integer</Type><Units>A &amp; B&a;</Units>\
             <Description>x<br/>y & z</Description>\
             <Name><![CDATA[Power <1>]]></Name><Mandatory>Mandatory</Mandatory>\
             <MultipleInstances>Multiple</MultipleInstances><Operations>RW</Operations></Item>\
             <Item ID='3'><Name>Reboot&#33;</Name><Operations>E</Operations><Type></Type></Item>\
             <Item ID='4'><Type>Corelnk</Type></Item></Resources><ObjectID> 42 </ObjectID>\
             <Name>Thing</Name><MultipleInstances>Single</MultipleInstances></Object>\
             <Object><ObjectID>43</ObjectID><ObjectVersion>2.1</ObjectVersion><Resources/></Object>\
             </LWM2M>",
        )
        .unwrap();
        assert_eq!(objects.len(), 2);
        let thing = &objects[0];
        assert_eq!((thing.id, thing.version), (42, Version::V1_0));
        assert_eq!((thing.name.as_str(), thing.multiple), ("Thing", false));
        let ids: Vec<u16> = thing.resources().iter().map(|r| r.id).collect();
        assert_eq!(ids, [3, 4, 7]);
        let reboot = thing.resource(3).unwrap();
        assert_eq!((reboot.name.as_str(), reboot.kind), ("Reboot!", None));
        assert!(reboot.operations.execute && !reboot.operations.read);
        assert_eq!(
            thing.resource(4).unwrap().kind,
            Some(ResourceType::CoreLink)
        );
        let power = thing.resource(7).unwrap();
        assert_eq!(power.kind, Some(ResourceType::UnsignedInteger));
        assert_eq!(
            (power.name.as_str(), power.units.as_str()),
            ("Power <1>", "A & B")
        );
        assert!(power.multiple && power.mandatory && power.operations.write);
        assert_eq!(objects[1].version, Version { major: 2, minor: 1 });
    }

    #[test]
    fn says_what_is_wrong() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        for (text, problem) in [
            ("", Problem::NoObject),
            ("<LWM2M/>", Problem::NoObject),
            ("<LWM2M><Object>", Problem::Truncated),
            (
                "<LWM2M><Object></Object></LWM2M>",
                Problem::Missing("ObjectID"),
            ),
            (
                "<Object><ObjectID>x</ObjectID></Object>",
                Problem::BadValue {
                    what: "ObjectID",
                    value: "x".into(),
                },
            ),
            (
                "<Object><ObjectID>1</ObjectID><Item ID='1'><Type>Foo</Type></Item></Object>",
                Problem::BadValue {
                    what: "Type",
                    value: "Foo".into(),
                },
            ),
            (
                "<Object><ObjectID>1</ObjectID><Item></Item></Object>",
                Problem::Missing("ID of an Item"),
            ),
            (&deep, Problem::TooDeep),
        ] {
            assert_eq!(read(text), Err(problem), "{text}");
        }
        assert!(matches!(read("<a></b>"), Err(Problem::Xml { .. })));
        assert_eq!(parse(b"<a>\xff</a>", LIMIT), Err(Problem::NotUtf8));
        assert_eq!(parse(b"<a></a>", 3), Err(Problem::TooLarge { limit: 3 }));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(
            bytes: Vec<u8>,
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "<LWM2M>", "</LWM2M>", "<Object>", "</Object>", "<Item ID='1'>", "</Item>",
                    "<ObjectID>", "</ObjectID>", "1", "<Type>", "</Type>", "String", "&amp;", "&",
                    "<![CDATA[", "]]>", "<!DOCTYPE", "<!--", "-->", "<Name/>", ">", "<Object/>",
                ]),
                0..24,
            ),
        ) {
            let _ = parse(&bytes, LIMIT);
            let _ = read(&pieces.concat());
        }
    }
}
