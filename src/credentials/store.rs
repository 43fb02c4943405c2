//! All that is known of a listener's devices.

use std::sync::Arc;

use super::Key;
use super::credential::{Credential, check_identity};
use super::file::{FileError, FileReport, PskFile};
use super::index::{Table, crowded};
use super::rules::EndpointRule;
use super::sources::{CredentialSource, Sources};

/// Several sources, asked in order, and the separators of a listener.
#[derive(Debug)]
pub struct CredentialStore {
    sources: Vec<Arc<dyn CredentialSource>>,
    file: Option<Arc<PskFile>>,
    separators: Box<[u8]>,
    /// Whether the lists of its credentials say whose an endpoint is.
    lists_count: bool,
}

impl CredentialStore {
    /// What a listener's `psk` and `psk_file` say; the first wins. With the warnings about them.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn open<'a>(from: impl Into<Sources<'a>>) -> Result<(Self, Vec<String>), FileError> {
        let from = from.into();
        let (mut store, mut warnings) = Self::of_configuration(from);
        if let Some(path) = from.file {
            let (file, report) = PskFile::open(path, from.file_keys, from.world_readable)?;
            warnings.extend(report.warnings());
            warnings.extend(unlisted(&report, from.rule));
            let file = Arc::new(file);
            store.file = Some(Arc::clone(&file));
            store.add(file);
        }
        store.add_certified(from);
        Ok((store, warnings))
    }

    /// What a listener's `psk` says, without its file.
    #[cfg(feature = "internals")]
    pub fn configured<'a>(from: impl Into<Sources<'a>>) -> Self {
        let from = from.into();
        let mut store = Self::of_configuration(from).0;
        store.add_certified(from);
        store
    }

    fn of_configuration(from: Sources<'_>) -> (Self, Vec<String>) {
        let mut store = Self {
            sources: Vec::new(),
            file: None,
            separators: from.separators.as_bytes().into(),
            lists_count: match from.rule {
                EndpointRule::Owned | EndpointRule::Listed => true,
                EndpointRule::Any | EndpointRule::Equal => false,
            },
        };
        let mut warnings = Vec::new();
        if !from.configured.is_empty() {
            let fixed = from.configured.iter().map(|credential| {
                let identity = credential.identity.clone();
                (identity, Arc::new(credential.clone()))
            });
            let table = Table::new(fixed.collect());
            warnings.extend(table.listed().crowded().map(crowded));
            store.add(Arc::new(table));
        }
        (store, warnings)
    }

    /// What identities of certificates list, as credentials without a key: nobody comes in by them.
    /// Where an identity has a key too, what is listed with the key counts.
    fn add_certified(&mut self, from: Sources<'_>) {
        if from.certified.is_empty() {
            return;
        }
        let certified = from.certified.iter().map(|(identity, endpoints)| {
            let credential = Credential {
                identity: identity.as_bytes().into(),
                key: Key::new(Vec::new()),
                endpoints: endpoints.clone(),
            };
            (credential.identity.clone(), Arc::new(credential))
        });
        self.add(Arc::new(Table::new(certified.collect())));
    }

    /// Adds a source behind those there are.
    pub fn add(&mut self, source: Arc<dyn CredentialSource>) {
        self.sources.push(source);
    }

    /// The credential for an identity that a device presents: the one with this very identity, or
    /// else the one with the longest identity that is followed by a separator in it. What has to
    /// be unique among the connections is the identity as it is presented.
    pub fn find(&self, presented: &[u8]) -> Option<Arc<Credential>> {
        self.find_in(presented, &mut 0)
    }

    /// The same; adds to `steps` the hashes that it took.
    pub(super) fn find_in(&self, presented: &[u8], steps: &mut usize) -> Option<Arc<Credential>> {
        candidates(presented, &self.separators).find_map(|identity| {
            *steps = steps.saturating_add(self.sources.len());
            self.find_exactly(identity)
        })
    }

    /// What is known of the identity of a certificate, which has no suffix.
    pub fn find_exactly(&self, identity: &[u8]) -> Option<Arc<Credential>> {
        self.sources.iter().find_map(|source| source.find(identity))
    }

    /// Whether some credential lists `endpoint`, and lists count here.
    pub(super) fn lists(&self, endpoint: &str, steps: &mut usize) -> bool {
        let mut sources = self.sources.iter();
        self.lists_count && sources.any(|source| source.lists(endpoint, steps))
    }

    /// The credential with exactly this identity, if lists count here.
    pub(super) fn counted_list(&self, identity: &[u8]) -> Option<Arc<Credential>> {
        self.find_exactly(identity).filter(|_| self.lists_count)
    }

    /// Looks whether the PSK file has changed, and reads it again then; see [`PskFile::poll`].
    ///
    /// # Errors
    ///
    /// When it cannot be read; what was read before stays in force.
    pub fn poll(&self) -> Result<Option<FileReport>, FileError> {
        self.file.as_ref().map_or(Ok(None), |file| file.poll())
    }

    /// Whether devices that are here already have another credential after what is reported, or
    /// none. With separators also by one that was added: it may be nearer to what they present.
    pub fn affects_devices(&self, report: &FileReport) -> bool {
        report.altered || !self.separators.is_empty() && !report.added.is_empty()
    }

    /// Reads the PSK file again, if there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be read; what was read before stays in force.
    #[cfg(feature = "internals")]
    pub fn reload(&self) -> Result<Option<FileReport>, FileError> {
        self.file
            .as_ref()
            .map_or(Ok(None), |file| file.reload().map(Some))
    }
}

/// Most separators that are tried in one identity, from its end.
pub(crate) const MAX_CUTS: usize = 32;

/// The identities that a presented one can stand for, in the order in which they are to be looked
/// up: itself, then what stands before each separator in it, the longest first. None if it can be
/// no identity at all.
pub(crate) fn candidates<'a>(
    presented: &'a [u8],
    separators: &[u8],
) -> impl Iterator<Item = &'a [u8]> {
    let whole = check_identity(presented).is_ok().then_some(presented);
    let cuts = presented
        .iter()
        .enumerate()
        .rev()
        .filter(|(at, byte)| *at > 0 && separators.contains(byte))
        .take(MAX_CUTS)
        .filter_map(move |(at, _)| whole?.get(..at));
    whole.into_iter().chain(cuts)
}

/// Endpoints in a file under a rule that does not ask for them, or the other way round.
fn unlisted(report: &FileReport, rule: EndpointRule) -> Option<String> {
    let file = report.path.display();
    let with = report.with_endpoints;
    let without = report.loaded.saturating_sub(with);
    match rule {
        EndpointRule::Listed if without > 0 => Some(format!(
            "psk_file {file}: identities that list no endpoints, and so may not register any: {without}"
        )),
        EndpointRule::Any | EndpointRule::Equal if with > 0 => Some(format!(
            "psk_file {file}: its endpoints are used only with endpoint_rule = \"owned\" or \"listed\""
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::DtlsListener;

    fn credential(identity: &str, key: u8) -> Credential {
        Credential {
            identity: identity.as_bytes().into(),
            key: Key::new(vec![key; 16]),
            endpoints: Vec::new(),
        }
    }

    fn store(separators: &str, identities: &[&str]) -> CredentialStore {
        let listener = DtlsListener {
            psk: identities.iter().map(|it| credential(it, 1)).collect(),
            identity_separator: separators.to_owned(),
            ..DtlsListener::default()
        };
        CredentialStore::open(&listener).unwrap().0
    }

    fn found(store: &CredentialStore, presented: &[u8]) -> String {
        let credential = store.find(presented);
        let identity = credential.as_ref().map_or(&b"-"[..], |it| &it.identity);
        String::from_utf8_lossy(identity).into_owned()
    }

    #[test]
    fn suffixes() {
        let known = ["sn1", "sn1#a", "sn1#a/b", "x"];
        let with = store("#/", &known);
        for (presented, identity) in [
            ("sn1", "sn1"),
            ("sn1#2", "sn1"),
            ("sn1/2", "sn1"),
            ("sn1#", "sn1"),
            ("sn1##", "sn1"),
            ("sn1#a", "sn1#a"),
            ("sn1#a#2", "sn1#a"),
            ("sn1#a/b", "sn1#a/b"),
            ("sn1#a/b/c#d", "sn1#a/b"),
            ("sn1#ab", "sn1"),
            ("sn2#1", "-"),
            ("sn12", "-"),
            ("sn1-2", "-"),
            ("#sn1", "-"),
            ("#", "-"),
            ("", "-"),
            ("x#\0", "-"),
        ] {
            assert_eq!(found(&with, presented.as_bytes()), identity, "{presented}");
        }
        let without = store("", &known);
        assert_eq!(found(&without, b"sn1#a"), "sn1#a");
        assert_eq!(found(&without, b"sn1#2"), "-");
    }

    #[test]
    fn the_work_for_one_identity_is_bounded() {
        let with = store("#", &["sn1", "a"]);
        let long = [&b"sn1#"[..], &[b'x'; 253]].concat();
        assert_eq!(found(&with, &long[..256]), "sn1");
        assert_eq!(found(&with, &long), "-");
        let mut many = b"a".to_vec();
        many.extend([b'#'; MAX_CUTS]);
        assert_eq!(found(&with, &many), "a");
        many.push(b'#');
        assert_eq!(found(&with, &many), "-");
        assert_eq!(candidates(&[b'#'; 256], b"#").count(), MAX_CUTS + 1);
    }

    #[test]
    fn the_first_source_wins() {
        let mut store = store("#", &["sn1"]);
        let second = ["sn1", "sn2", "sn1#x"].map(|name| {
            let credential = credential(name, 2);
            (credential.identity.clone(), Arc::new(credential))
        });
        store.add(Arc::new(Table::new(second.into())));
        let key = |presented: &[u8]| store.find(presented).unwrap().key.as_bytes()[0];
        assert_eq!((key(b"sn1"), key(b"sn2"), key(b"sn1#1")), (1, 2, 1));
        // The whole identity in the second source is nearer than a part of it in the first.
        assert_eq!(key(b"sn1#x"), 2);
    }

    proptest! {
        /// Cut by hand, byte by byte.
        #[test]
        fn candidates_are_all_public_parts(presented in "[a#/]{1,12}") {
            let mut expected = vec![presented.as_bytes()];
            for at in (1..presented.len()).rev() {
                if matches!(presented.as_bytes()[at], b'#' | b'/') {
                    expected.push(&presented.as_bytes()[..at]);
                }
            }
            let found: Vec<_> = candidates(presented.as_bytes(), b"#/").collect();
            prop_assert_eq!(found, expected);
        }
    }
}
