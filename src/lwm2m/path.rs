//! Paths to objects, object instances, resources and resource instances
//! (LwM2M Core 1.2 §7.2), with the optional prefix of devices behind an LwM2M gateway (/25).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::memory::Heap;

/// Longest prefix of a device behind a gateway, in bytes. It is repeated with each value below it,
/// in payloads that name it once.
pub const MAX_PREFIX: usize = 64;

/// `/`, `/O`, `/O/I`, `/O/I/R` or `/O/I/R/RI`, each number 0 to 65535, optionally below a
/// non-numeric prefix (`/dev0/3303/0/5700`, LwM2M Gateway Object 25).
///
/// ```
/// use lwm2m_gateway::lwm2m::Path;
/// let path: Path = "/3/0/9".parse().unwrap();
/// assert_eq!((path.object(), path.resource()), (Some(3), Some(9)));
/// assert_eq!(path.to_string(), "/3/0/9");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Path {
    prefix: Option<Arc<str>>,
    ids: [u16; 4],
    len: u8,
}

/// A path without its prefix, in nine bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed)]
pub(crate) struct PathIds {
    ids: [u16; 4],
    len: u8,
}

impl From<&Path> for PathIds {
    fn from(path: &Path) -> Self {
        let Path { ids, len, .. } = *path;
        Self { ids, len }
    }
}

impl From<PathIds> for Path {
    fn from(PathIds { ids, len }: PathIds) -> Self {
        Self {
            prefix: None,
            ids,
            len,
        }
    }
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// More than four numbers.
    #[error("path has more than 4 levels")]
    TooDeep,
    /// A segment that is neither a number 0 to 65535 nor, in first place, a prefix of at most
    /// [`MAX_PREFIX`] bytes without control characters.
    #[error("path segment {0:?} is not a number from 0 to 65535")]
    BadSegment(String),
    /// Two slashes in a row.
    #[error("path has an empty segment")]
    EmptySegment,
}

impl Heap for Path {
    fn heap(&self) -> usize {
        self.prefix.heap()
    }
}

impl Path {
    /// The root path, `/`.
    pub const ROOT: Self = Self {
        prefix: None,
        ids: [0; 4],
        len: 0,
    };

    /// A path of up to four ids; `None` when there are more.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub fn new(ids: &[u16]) -> Option<Self> {
        let mut path = Self::ROOT;
        for id in ids {
            path = path.child(*id)?;
        }
        Some(path)
    }

    /// The ids, zero to four of them.
    pub fn ids(&self) -> &[u16] {
        self.ids.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// How many ids the path has: 0 root, 1 object, 2 instance, 3 resource, 4 resource instance.
    pub fn depth(&self) -> usize {
        usize::from(self.len)
    }

    /// The name of the device behind a gateway, without slashes.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// The same, shared.
    #[cfg(any(feature = "http", feature = "internals"))]
    pub(crate) fn shared_prefix(&self) -> Option<Arc<str>> {
        self.prefix.clone()
    }

    /// The same path below `prefix`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: Option<Arc<str>>) -> Self {
        self.prefix = prefix;
        self
    }

    /// Object id.
    pub fn object(&self) -> Option<u16> {
        self.ids().first().copied()
    }

    /// Object instance id.
    pub fn instance(&self) -> Option<u16> {
        self.ids().get(1).copied()
    }

    /// Resource id.
    pub fn resource(&self) -> Option<u16> {
        self.ids().get(2).copied()
    }

    /// Resource instance id.
    pub fn resource_instance(&self) -> Option<u16> {
        self.ids().get(3).copied()
    }

    /// The path one level below, `None` below a resource instance.
    #[must_use]
    pub fn child(&self, id: u16) -> Option<Self> {
        let mut path = self.clone();
        *path.ids.get_mut(usize::from(self.len))? = id;
        path.len += 1;
        Some(path)
    }

    /// The path one level above; the root is its own parent.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn parent(&self) -> Self {
        self.truncated(self.depth().saturating_sub(1))
    }

    /// The first `depth` ids of the path.
    #[must_use]
    pub fn truncated(&self, depth: usize) -> Self {
        let mut path = self.clone();
        path.len = path.len.min(u8::try_from(depth).unwrap_or(u8::MAX));
        for id in path.ids.iter_mut().skip(usize::from(path.len)) {
            *id = 0;
        }
        path
    }

    /// Whether `self` is `other` or lies above it.
    pub fn contains(&self, other: &Self) -> bool {
        self.prefix == other.prefix && other.ids().starts_with(self.ids())
    }
}

impl std::str::FromStr for Path {
    type Err = PathError;

    /// Leading and trailing slashes are optional, as in the MQTT contract.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        if let Some(path) = numbers(text) {
            return Ok(path);
        }
        let mut path = Self::ROOT;
        if text.is_empty() {
            return Ok(path);
        }
        for (index, segment) in text.split('/').enumerate() {
            if segment.is_empty() {
                return Err(PathError::EmptySegment);
            }
            let digits = segment.len() <= 5 && segment.bytes().all(|b| b.is_ascii_digit());
            match segment.parse::<u16>() {
                Ok(id) if digits => path = path.child(id).ok_or(PathError::TooDeep)?,
                _ if index == 0 && is_prefix(segment) => {
                    path.prefix = Some(segment.into());
                }
                _ => return Err(PathError::BadSegment(segment.to_owned())),
            }
        }
        Ok(path)
    }
}

fn is_prefix(segment: &str) -> bool {
    segment.len() <= MAX_PREFIX
        && !segment.starts_with(|c: char| c.is_ascii_digit())
        && !segment.contains(|c: char| c.is_control())
}

/// A path of one to four numbers, which nearly all are, in one pass: notifications name one in
/// every record. `None` for everything else, wrong or not.
fn numbers(text: &str) -> Option<Path> {
    let mut path = Path::ROOT;
    let mut number: u16 = 0;
    let mut digits = 0;
    let add = |path: &mut Path, number| {
        *path.ids.get_mut(usize::from(path.len))? = number;
        path.len += 1;
        Some(())
    };
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' if digits < 5 => {
                number = number.checked_mul(10)?.checked_add((byte - b'0').into())?;
                digits += 1;
            }
            b'/' if digits > 0 => {
                add(&mut path, number)?;
                (number, digits) = (0, 0);
            }
            _ => return None,
        }
    }
    if digits == 0 {
        return None;
    }
    add(&mut path, number)?;
    Some(path)
}

impl fmt::Display for Path {
    /// With a leading and without a trailing slash; the root is `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prefix) = &self.prefix {
            write!(f, "/{prefix}")?;
        } else if self.len == 0 {
            return f.write_str("/");
        }
        self.ids().iter().try_for_each(|id| write!(f, "/{id}"))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_applications_write() {
        for (text, shown) in [
            ("/", "/"),
            ("", "/"),
            ("3/0", "/3/0"),
            ("/3/0/", "/3/0"),
            ("/65535/007", "/65535/7"),
            ("/3/0/6/0", "/3/0/6/0"),
            ("/dev0/3303/0/5700", "/dev0/3303/0/5700"),
        ] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_is_no_path() {
        assert_eq!("/1/2/3/4/5".parse::<Path>(), Err(PathError::TooDeep));
        assert_eq!("/3//0".parse::<Path>(), Err(PathError::EmptySegment));
        assert_eq!(
            "/65536".parse::<Path>(),
            Err(PathError::BadSegment("65536".into()))
        );
        assert_eq!(
            "/3/000001".parse::<Path>(),
            Err(PathError::BadSegment("000001".into()))
        );
        assert_eq!(
            "/3/x".parse::<Path>(),
            Err(PathError::BadSegment("x".into()))
        );
        assert_eq!(
            "/3/+1".parse::<Path>(),
            Err(PathError::BadSegment("+1".into()))
        );
    }

    #[test]
    fn containment() {
        let object: Path = "/3".parse().unwrap();
        let resource: Path = "/3/0/9".parse().unwrap();
        assert!(object.contains(&resource) && !resource.contains(&object));
        assert_eq!(resource.parent().to_string(), "/3/0");
        assert_eq!(resource.truncated(1), object);
    }
}
