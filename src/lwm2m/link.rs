//! CoRE links (RFC 6690) as devices write them in Register, Update and Discover
//! (LwM2M Core 1.2 §6.2.1, §6.3.2), and what a registration says with them.
//!
//! Devices get details wrong: attributes without value, twice, or with a quote missing. Such a
//! link is read as far as it can be, and what is no link at all is left out, because a device that
//! registers is worth more than a correct attribute.

use std::borrow::Cow;

use thiserror::Error;

use super::Path;
use super::model::Version;

/// More attributes of one link are ignored; a repeated one counts each time.
const MAX_ATTRIBUTES: usize = 64;

/// More content formats of a device are ignored. There are a dozen that LwM2M knows.
const MAX_FORMATS: usize = 64;

/// One link: `<target>;name=value;name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link<'a> {
    /// What stands between `<` and `>`.
    pub target: &'a str,
    /// The attributes in their order, each name once.
    pub attributes: Vec<Attribute<'a>>,
}

/// One attribute of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The name as written.
    pub name: &'a str,
    /// The value without quotes; the values of a repeated attribute with a space between them.
    pub value: Option<Cow<'a, str>>,
}

/// Why a payload is no list of links.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// Not a single link in a payload that is not empty.
    #[error("the payload holds no links")]
    NoLink,
}

impl Link<'_> {
    /// The attribute `name`, if the link has it.
    pub fn attribute(&self, name: &str) -> Option<&Attribute<'_>> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// The value of the attribute `name`, if the link has it with a value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.attribute(name)?.value.as_deref()
    }

    fn is_root(&self) -> bool {
        self.value("rt")
            .is_some_and(|types| types.split_ascii_whitespace().any(|rt| rt == "oma.lwm2m"))
    }
}

/// Reads a list of links. Entries that are no links are left out, except for the bare
/// `lwm2m="1.0"` that LwM2M 1.0 has in front of a bootstrap discovery (Core 1.0.2 §5.2.5.2): it
/// becomes an attribute of the link `/`.
///
/// # Errors
///
/// [`LinkError::NoLink`] when nothing of a non-empty payload is a link.
pub fn parse(payload: &[u8]) -> Result<Vec<Link<'_>>, LinkError> {
    let links: Vec<Link<'_>> = split(payload)
        .enumerate()
        .filter_map(|(index, entry)| {
            let entry = std::str::from_utf8(entry).ok()?.trim();
            match entry.strip_prefix('<') {
                Some(rest) => {
                    let (target, attributes) = rest.split_once('>')?;
                    Some(Link {
                        target,
                        attributes: parse_attributes(attributes),
                    })
                }
                None if index == 0 && entry.starts_with("lwm2m=") => Some(Link {
                    target: "/",
                    attributes: parse_attributes(entry),
                }),
                None => None,
            }
        })
        .collect();
    if links.is_empty() && !payload.trim_ascii().is_empty() {
        return Err(LinkError::NoLink);
    }
    Ok(links)
}

/// The entries of a list of links as text, as an application gets them from Discover, without
/// blanks around them and without empty ones. Bytes that are no UTF-8 become U+FFFD.
pub fn entries(payload: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    split(payload)
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
        .map(String::from_utf8_lossy)
}

/// The payload cut at each comma that is neither in a target nor in a quoted value.
fn split(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(payload);
    let mut quotes = true;
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = entry_length(bytes, &mut quotes);
        let (entry, tail) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        rest = tail.split_first().map(|(_comma, tail)| tail);
        Some(entry)
    })
}

/// The length of the first entry of `bytes`. `quotes` becomes false for good where a quote has no
/// partner up to the end, so that each byte is looked at a bounded number of times.
fn entry_length(bytes: &[u8], quotes: &mut bool) -> usize {
    let mut index = 0;
    let mut in_target = false;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'<' => in_target = true,
            b'>' => in_target = false,
            // A target without its `>` ends where the next one begins.
            b',' if !in_target || bytes.get(index + 1) == Some(&b'<') => return index,
            b'"' if *quotes && !in_target => match quoted_length(bytes.get(index + 1..)) {
                Some(length) => index += length,
                None => *quotes = false,
            },
            _ => {}
        }
        index += 1;
    }
    bytes.len()
}

/// The length of a quoted string from after its first quote to and including its last.
fn quoted_length(bytes: Option<&[u8]>) -> Option<usize> {
    let mut escaped = false;
    bytes?
        .iter()
        .position(|byte| {
            let closing = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closing
        })
        .map(|position| position + 1)
}

fn parse_attributes(text: &str) -> Vec<Attribute<'_>> {
    let mut attributes: Vec<Attribute<'_>> = Vec::new();
    let mut rest = text;
    let mut read = 0;
    while !rest.is_empty() && read < MAX_ATTRIBUTES {
        let (name, after) = match rest.find([';', '=']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let value;
        (value, rest) = match after.strip_prefix('=') {
            Some(after) => {
                let (value, after) = parse_value(after);
                (Some(value), after)
            }
            None => (None, after),
        };
        rest = rest
            .find(';')
            .and_then(|end| rest.get(end + 1..))
            .unwrap_or("");
        let name = name.trim();
        if name.is_empty() {
            continue;
        }
        read += 1;
        match attributes.iter_mut().find(|a| a.name == name) {
            Some(earlier) => match (&mut earlier.value, value) {
                (Some(first), Some(second)) => {
                    let first = first.to_mut();
                    first.push(' ');
                    first.push_str(&second);
                }
                (Some(_), None) => {}
                (none, second) => *none = second,
            },
            None => attributes.push(Attribute { name, value }),
        }
    }
    attributes
}

/// The value after a `=`, and what follows it.
fn parse_value(text: &str) -> (Cow<'_, str>, &str) {
    let text = text.trim_start();
    let quoted = text.strip_prefix('"').and_then(|inner| {
        let length = quoted_length(Some(inner.as_bytes()))?;
        Some((inner.get(..length - 1)?, inner.get(length..)?))
    });
    match quoted {
        Some((inner, rest)) if inner.contains('\\') => (Cow::Owned(unescape(inner)), rest),
        Some((inner, rest)) => (Cow::Borrowed(inner), rest),
        None => {
            let (value, rest) = text.split_at(text.find(';').unwrap_or(text.len()));
            (Cow::Borrowed(value.trim()), rest)
        }
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// What the links of a Register or Update say (LwM2M Core 1.2 §6.2.1 and §7.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationLinks {
    /// Where the objects are in the device's tree of resources, `/` unless the device says
    /// otherwise.
    pub alternate_path: String,
    /// Targets of the other links in their order, without the alternate path: `/1/0`. Those that
    /// are outside of the alternate path are kept as they are, as EMQX does.
    pub objects: Vec<String>,
    /// Object versions the device states, sorted by object id, each object once.
    pub versions: Vec<(u16, Version)>,
    /// Content formats the device supports (`ct` of the root link), each once, at most 64.
    pub content_formats: Vec<u16>,
    /// The device sends heartbeats (`hb` of the root link).
    pub heartbeat: bool,
}

impl RegistrationLinks {
    /// Reads the payload of a Register or Update.
    ///
    /// # Errors
    ///
    /// Those of [`parse`].
    pub fn parse(payload: &[u8]) -> Result<Self, LinkError> {
        Ok(Self::new(&parse(payload)?))
    }

    /// Sorts out links that are already read. The root is the link with `rt="oma.lwm2m"`, else the
    /// link `</>`.
    pub fn new(links: &[Link<'_>]) -> Self {
        let root = links
            .iter()
            .find(|link| link.is_root())
            .or_else(|| links.iter().find(|link| link.target == "/"));
        let alternate_path = root.map_or("/", |link| link.target);
        let prefix = alternate_path.trim_end_matches('/');
        let objects: Vec<(Cow<'_, str>, &Link<'_>)> = links
            .iter()
            .filter(|link| !link.is_root() && link.target != "/")
            .map(|link| {
                let below = link.target.strip_prefix(prefix);
                let target = below.filter(|b| b.starts_with('/')).unwrap_or(link.target);
                (absolute(target), link)
            })
            .collect();
        let mut versions: Vec<(u16, Version)> = objects
            .iter()
            .filter_map(|(target, link)| {
                let version = link.value("ver")?.parse().ok()?;
                let object = target.trim_start_matches('/').split('/').next()?;
                Some((object.parse().ok()?, version))
            })
            .collect();
        versions.sort_by_key(|(object, _)| *object);
        versions.dedup_by_key(|(object, _)| *object);
        let content_formats = root.and_then(|link| link.value("ct")).unwrap_or("");
        let numbers = content_formats.split_ascii_whitespace();
        let mut content_formats: Vec<u16> = Vec::new();
        for format in numbers.filter_map(|number| number.parse().ok()) {
            if content_formats.len() == MAX_FORMATS {
                break;
            }
            if !content_formats.contains(&format) {
                content_formats.push(format);
            }
        }
        Self {
            alternate_path: if prefix.is_empty() {
                "/".to_owned()
            } else {
                alternate_path.to_owned()
            },
            objects: objects
                .iter()
                .map(|(target, _)| target.to_string())
                .collect(),
            versions,
            content_formats,
            heartbeat: root.is_some_and(|link| link.attribute("hb").is_some()),
        }
    }
}

/// The target with the slash in front that some devices leave out.
fn absolute(target: &str) -> Cow<'_, str> {
    let is_path =
        target.starts_with(|c: char| c.is_ascii_digit()) && target.parse::<Path>().is_ok();
    if is_path {
        Cow::Owned(format!("/{target}"))
    } else {
        Cow::Borrowed(target)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registration(text: &str) -> RegistrationLinks {
        RegistrationLinks::parse(text.as_bytes()).unwrap()
    }

    fn targets(text: &str) -> Vec<&str> {
        parse(text.as_bytes())
            .unwrap()
            .iter()
            .map(|link| link.target)
            .collect()
    }

    #[test]
    fn attributes_as_devices_write_them() {
        let links = parse(br#"</>; rt = "oma.lwm2m" ;hb;ct="110 112";t="a\",\\b";;e="#).unwrap();
        let seen: Vec<_> = links[0]
            .attributes
            .iter()
            .map(|a| (a.name, a.value.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                ("rt", Some("oma.lwm2m")),
                ("hb", None),
                ("ct", Some("110 112")),
                ("t", Some("a\",\\b")),
                ("e", Some("")),
            ]
        );
        let repeated = parse(b"</>;ct=110;ct;ct=112;hb;hb").unwrap();
        assert_eq!(repeated[0].value("ct"), Some("110 112"));
        assert_eq!(repeated[0].attributes.len(), 2);
    }

    #[test]
    fn c2_attributes_count_with_their_repetitions() {
        let text = format!("</1>{}", ";a=1".repeat(100_000));
        let links = parse(text.as_bytes()).unwrap();
        assert_eq!(links[0].attributes.len(), 1);
        let value = links[0].value("a").unwrap();
        assert_eq!(value, vec!["1"; MAX_ATTRIBUTES].join(" "));
        let formats: Vec<String> = (0..1000u16).map(|n| (n / 2).to_string()).collect();
        let links = registration(&format!("</>;ct=\"{}\"", formats.join(" ")));
        assert_eq!(links.content_formats, (0..64).collect::<Vec<u16>>());
    }

    #[test]
    fn garbage_does_not_lose_the_links_around_it() {
        assert_eq!(targets("</1/0>, </2>,x,,</3/0>"), ["/1/0", "/2", "/3/0"]);
        assert_eq!(targets("</1/0>;a=\"b,</3/0>"), ["/1/0", "/3/0"]);
        assert_eq!(targets("</1/0,</3/0>"), ["/3/0"]);
        assert_eq!(targets("</a,b>,</3/0>"), ["/a,b", "/3/0"]);
        assert_eq!(parse(b"</1/0>;a=\xff,</3/0>").unwrap().len(), 1);
        assert_eq!(parse(b"hello"), Err(LinkError::NoLink));
        assert_eq!(parse(b" "), Ok(vec![]));
    }

    #[test]
    fn entries_keep_quoted_commas() {
        let seen: Vec<_> = entries(b"</3/0/7>;title=\"a,b\",</3/0/8>").collect();
        assert_eq!(seen, ["</3/0/7>;title=\"a,b\"", "</3/0/8>"]);
    }

    #[test]
    fn a11_no_empty_entries() {
        let none: [&str; 0] = [];
        assert_eq!(entries(b"").collect::<Vec<_>>(), none);
        assert_eq!(entries(b" ").collect::<Vec<_>>(), none);
        assert_eq!(entries(b"</1>,").collect::<Vec<_>>(), ["</1>"]);
        assert_eq!(
            entries(b"</1>, </3/0>").collect::<Vec<_>>(),
            ["</1>", "</3/0>"]
        );
    }

    #[test]
    fn roots_and_alternate_paths() {
        for (text, alternate_path, objects) in [
            ("</1/0>,</3/0>", "/", &["/1/0", "/3/0"][..]),
            ("</>;rt=\"oma.lwm2m\";ct=110,</3/0>", "/", &["/3/0"]),
            ("</>;ct=110,</3/0>", "/", &["/3/0"]),
            (
                "</lwm2m>;rt=oma.lwm2m,</lwm2m/1/0>,</3/0>",
                "/lwm2m",
                &["/1/0", "/3/0"],
            ),
            (
                "</3/0>,</a/b>;hb;rt=\"x oma.lwm2m\",</a/b/1/0>",
                "/a/b",
                &["/3/0", "/1/0"],
            ),
            (
                "</lwm2m>;rt=\"oma.lwm2m\",</lwm2mx/1>",
                "/lwm2m",
                &["/lwm2mx/1"],
            ),
            ("", "/", &[]),
            // A17
            ("<1/1>,<3>,<x/1>,<>", "/", &["/1/1", "/3", "x/1", ""]),
            ("</lwm2m>;rt=oma.lwm2m,<1/1>", "/lwm2m", &["/1/1"]),
        ] {
            let links = registration(text);
            assert_eq!(links.alternate_path, alternate_path, "{text}");
            assert_eq!(links.objects, objects, "{text}");
        }
    }

    #[test]
    fn root_attributes_and_versions() {
        let links = registration(
            "</>;ct=\"110 11542 x\";hb,</10>;ver=\"1.1\",</10/0>,</1>;ver=1.1,</25>;ver=2.0,\
             </3>;ver=x,</10>;ver=1.0",
        );
        assert_eq!(links.content_formats, [110, 11542]);
        assert!(links.heartbeat);
        let version = |major, minor| Version { major, minor };
        assert_eq!(
            links.versions,
            [(1, version(1, 1)), (10, version(1, 1)), (25, version(2, 0))]
        );
        assert!(!registration("</3/0>;hb").heartbeat);
    }

    proptest! {
        #[test]
        fn arbitrary_input_never_panics(bytes: Vec<u8>, text in r#"[<>;,="\\/a1 ]{0,40}"#) {
            for payload in [&bytes, text.as_bytes()] {
                let _ = RegistrationLinks::parse(payload);
                let joined: Vec<&[u8]> = split(payload).collect();
                prop_assert_eq!(joined.join(&b','), payload);
            }
        }

        #[test]
        fn written_links_are_read(
            links in prop::collection::vec(("/[a-z0-9/]{0,8}", "[a-z]{1,3}", "[^\\\\\"]{0,8}"), 1..5),
        ) {
            let text: Vec<String> =
                links.iter().map(|(t, n, v)| format!("<{t}>;{n}=\"{v}\"")).collect();
            let text = text.join(",");
            let read = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(read.len(), links.len());
            for (link, (target, name, value)) in read.iter().zip(&links) {
                prop_assert_eq!(link.target, target);
                prop_assert_eq!(link.value(name), Some(value.as_str()));
            }
        }
    }
}
