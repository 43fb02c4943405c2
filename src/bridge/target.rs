//! Where a command goes on its device.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::refusal::{Fault, Reason};
use super::req_path::{Asked, ReqPath, Written};
use crate::lwm2m::{Path, PathError, PathIds};
use crate::memory::{Heap, block};

/// Most Uri-Query options of a path: what is far beyond them makes no datagram.
const MAX_QUERIES: usize = 32;

/// Longest Uri-Path or Uri-Query option in bytes (RFC 7252 §5.10).
pub(super) const MAX_OPTION: usize = 255;

/// Where a command goes on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the answers repeat.
    pub text: ReqPath,
    /// Uri-Query items of the path.
    pub queries: Vec<String>,
    /// The path as numbers; `None` for one that LwM2M does not know, which is sent as it is. The
    /// root for a composite operation.
    pub path: Option<Path>,
    /// The paths of a composite operation in their order, empty for any other.
    pub paths: Vec<Path>,
    /// Of `paths` in whatever order.
    fingerprint: u64,
}

/// The target of an observation as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredTarget {
    /// One path, as it was written, and its queries.
    One(String, Vec<String>),
    /// Paths as they were written, and as they were read.
    Several(Vec<String>, Vec<String>),
}

/// Longest text of a path that needs no memory of its own: `/33650/0/5700`.
const SHORT: usize = 13;

/// A target as it is kept for long, in 24 bytes where it is as nearly all are: one path of numbers without
/// queries.
#[derive(Debug, Clone)]
pub enum SmallTarget {
    /// One path of numbers.
    Numbers(Numbers),
    /// Anything else.
    Other(Box<Target>),
}

/// A short path, as it was written and as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    path: PathIds,
    length: u8,
    text: [u8; SHORT],
}

impl Numbers {
    fn of(target: &Target) -> Option<Self> {
        let (ReqPath::One(written), Some(path)) = (&target.text, &target.path) else {
            return None;
        };
        if path.prefix().is_some() || !target.queries.is_empty() {
            return None;
        }
        // So is every path of numbers.
        if !written.bytes().all(|byte| matches!(byte, b'/'..=b'9')) {
            return None;
        }
        let mut text = [0; SHORT];
        text.get_mut(..written.len())?
            .copy_from_slice(written.as_bytes());
        Some(Self {
            path: path.into(),
            length: u8::try_from(written.len()).ok()?,
            text,
        })
    }

    /// Slashes and digits.
    fn written(&self) -> Written<'_> {
        Written::Numbers(self.text.get(..self.length.into()).unwrap_or_default())
    }
}

impl From<Target> for SmallTarget {
    fn from(target: Target) -> Self {
        match Numbers::of(&target) {
            Some(numbers) => Self::Numbers(numbers),
            None => Self::Other(Box::new(target)),
        }
    }
}

impl Heap for SmallTarget {
    fn heap(&self) -> usize {
        match self {
            Self::Numbers(_) => 0,
            Self::Other(target) => block(size_of::<Target>()) + target.heap(),
        }
    }
}

impl SmallTarget {
    /// The target it was made of.
    pub fn to_target(&self) -> Target {
        match self {
            Self::Numbers(numbers) => Target {
                text: ReqPath::One(numbers.written().text().to_owned()),
                queries: Vec::new(),
                path: Some(numbers.path.into()),
                paths: Vec::new(),
                fingerprint: 0,
            },
            Self::Other(target) => (**target).clone(),
        }
    }

    /// See [`Target::path`].
    pub fn path(&self) -> Option<Cow<'_, Path>> {
        match self {
            Self::Numbers(numbers) => Some(Cow::Owned(numbers.path.into())),
            Self::Other(target) => target.path.as_ref().map(Cow::Borrowed),
        }
    }

    /// The path of an operation that has only one.
    pub fn single_path(&self) -> Option<Cow<'_, Path>> {
        match self {
            Self::Numbers(_) => self.path(),
            Self::Other(target) => target.single_path().map(Cow::Borrowed),
        }
    }

    /// What the answers repeat.
    pub fn asked(&self) -> Asked<'_> {
        match self {
            Self::Numbers(numbers) => Asked::One(numbers.written()),
            Self::Other(target) => (&target.text).into(),
        }
    }

    /// See [`Target::is_same`].
    pub fn is_same(&self, other: &Target) -> bool {
        match (self, &other.text) {
            (Self::Numbers(numbers), ReqPath::One(_)) => {
                split_segments(numbers.written().text()).eq(other.segments())
                    && other.queries.is_empty()
            }
            (Self::Numbers(_), ReqPath::Several(_)) => false,
            (Self::Other(target), _) => target.is_same(other),
        }
    }

    /// See [`Target::segments`].
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text().into_iter().flat_map(split_segments)
    }

    /// See [`ReqPath::one`].
    pub fn text(&self) -> Option<&str> {
        self.asked().one().map(Written::text)
    }

    /// All paths, as they were written.
    #[cfg(any(feature = "http", feature = "internals"))]
    pub fn written(&self) -> Vec<String> {
        match self.asked() {
            Asked::One(written) => vec![written.text().to_owned()],
            Asked::Several(paths) => paths.to_vec(),
        }
    }
}

impl Heap for Target {
    fn heap(&self) -> usize {
        self.text.heap() + self.queries.heap() + self.path.heap() + self.paths.heap()
    }
}

impl Target {
    /// The target of a path, as an application would write it.
    pub fn new(path: &Path) -> Self {
        Self {
            text: ReqPath::One(path.to_string()),
            queries: Vec::new(),
            path: Some(path.clone()),
            paths: Vec::new(),
            fingerprint: 0,
        }
    }

    /// The target of a composite operation: the root, where the payload names the paths.
    pub(super) fn composite(written: Vec<String>, paths: Vec<Path>) -> Self {
        Self {
            text: ReqPath::Several(written),
            queries: Vec::new(),
            path: Some(Path::ROOT),
            fingerprint: fingerprint(&paths),
            paths,
        }
    }

    /// For the store.
    pub fn to_stored(&self) -> StoredTarget {
        match &self.text {
            ReqPath::One(text) => StoredTarget::One(text.clone(), self.queries.clone()),
            ReqPath::Several(written) => {
                let paths = self.paths.iter().map(ToString::to_string);
                StoredTarget::Several(written.clone(), paths.collect())
            }
        }
    }

    /// From the store; `None` for what makes no target.
    pub fn of_stored(stored: StoredTarget) -> Option<Self> {
        match stored {
            StoredTarget::One(text, queries) => {
                let target = Self::parse(&text).ok()?;
                Some(Self { queries, ..target })
            }
            StoredTarget::Several(written, paths) => {
                let paths: Result<Vec<Path>, _> = paths.iter().map(|it| it.parse()).collect();
                Some(Self::composite(written, paths.ok()?))
            }
        }
    }

    /// The path of an operation that has only one.
    pub fn single_path(&self) -> Option<&Path> {
        self.path.as_ref().filter(|_| self.paths.is_empty())
    }

    /// Whether both are the same place, however it is written. The order of the paths of a
    /// composite operation does not matter.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.text, &other.text) {
            (ReqPath::One(_), ReqPath::One(_)) => {
                self.segments().eq(other.segments()) && self.queries == other.queries
            }
            // Nearly all that are not the same have another fingerprint, or another length.
            (ReqPath::Several(_), ReqPath::Several(_)) => {
                self.fingerprint == other.fingerprint
                    && (self.paths == other.paths || {
                        let set = |paths: &[Path]| paths.iter().cloned().collect::<BTreeSet<_>>();
                        set(&self.paths) == set(&other.paths)
                    })
            }
            _ => false,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (path_text, query) = text.split_once('?').unwrap_or((text, ""));
        let path = match path_text.parse() {
            Ok(path) => Some(path),
            // EMQX sends such paths, and devices have some, `/.well-known/core` for one.
            Err(PathError::BadSegment(_)) => None,
            Err(error) => return Err(Fault::new(Reason::BadPath, error.to_string())),
        };
        // One more than there may be tells.
        let segments: Vec<&str> = split_segments(path_text).take(6).collect();
        let items = query.split('&').filter(|item| !item.is_empty());
        if items.clone().nth(MAX_QUERIES).is_some() {
            return Err(Fault::new(Reason::BadPath, "too many queries"));
        }
        let queries: Vec<String> = items.map(str::to_owned).collect();
        if path.is_none() && segments.len() > 4 {
            return Err(Fault::new(Reason::BadPath, PathError::TooDeep.to_string()));
        }
        if segments
            .iter()
            .any(|segment| matches!(*segment, "" | "." | ".."))
        {
            return Err(Fault::new(Reason::BadPath, "empty or dotted path segment"));
        }
        let queries_text = queries.iter().map(String::as_str);
        let mut options = segments.iter().copied().chain(queries_text);
        if options.any(|option| option.len() > MAX_OPTION) {
            return Err(Fault::new(
                Reason::BadPath,
                "path segment or query too long",
            ));
        }
        Ok(Self {
            text: ReqPath::One(path_text.to_owned()),
            queries,
            path,
            paths: Vec::new(),
            fingerprint: 0,
        })
    }

    /// Uri-Path segments, without the alternate path of the device; none for a composite
    /// operation.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.one().into_iter().flat_map(split_segments)
    }

    /// The path as numbers.
    pub(super) fn numeric(&self) -> Result<&Path, Fault> {
        let error = || Fault::new(Reason::BadPath, "path segments must be numbers");
        self.path.as_ref().ok_or_else(error)
    }
}

/// A number that is the same for the same paths in any order, and hardly ever for others.
fn fingerprint(paths: &[Path]) -> u64 {
    let hash = |path: &Path| {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        hasher.finish()
    };
    paths.iter().map(hash).fold(0, u64::wrapping_add)
}

pub(super) fn split_segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    // The root has no segments; splitting "" would give one.
    path.split('/').skip(usize::from(path.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_target_is_the_one_it_was_made_of() {
        assert_eq!(size_of::<SmallTarget>(), 24);
        let several = Target::composite(
            vec!["/3/0/9".to_owned(), "3/0/10".to_owned()],
            vec!["/3/0/9".parse().unwrap(), "/3/0/10".parse().unwrap()],
        );
        let texts = [
            "/",
            "",
            "/3",
            "3/0",
            "/3/0/",
            "/3303/0/5700",
            "/33650/0/5700",
            "/33650/0/57000",
            "/03/0/9",
            "/65535/65535/65535/65535",
            "/dev/3/0",
            "/3/0?pmin=1",
            "/.well-known/core",
            "/x",
        ];
        let one = texts.into_iter().map(|text| Target::parse(text).unwrap());
        let all: Vec<Target> = one.chain([several]).collect();
        for target in &all {
            let small = SmallTarget::from(target.clone());
            assert_eq!(small.to_target(), *target);
            assert_eq!(small.path().as_deref(), target.path.as_ref());
            assert_eq!(small.single_path().as_deref(), target.single_path());
            assert_eq!(small.written(), target.text.paths());
            assert_eq!(small.text(), target.text.one());
            assert!(small.segments().eq(target.segments()));
            for other in &all {
                assert_eq!(small.is_same(other), target.is_same(other));
            }
        }
        let small = |text| SmallTarget::from(Target::parse(text).unwrap()).heap() == 0;
        assert!(small("/3303/0/5700") && small("3/0/9/") && !small("/dev/3/0"));
    }
}
