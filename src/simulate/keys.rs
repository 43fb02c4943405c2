//! Pre-shared keys of the simulated devices.

use std::collections::HashMap;
use std::path::Path;

use super::dtls::Credentials;
use super::error::Error;
use crate::credentials::{Key, KeyEncoding, Lines, check_identity, read_file};

/// Where the keys come from.
pub(super) enum Keys {
    Same(Key),
    Each(HashMap<Box<[u8]>, Key>),
}

impl Keys {
    /// Reads a PSK file as the gateway does, but a bad line is a mistake.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let (text, _) = read_file(file).map_err(|error| Error::Keys(error.to_string()))?;
        Self::parse(&text)
            .map_err(|(line, why)| Error::Keys(format!("{}: line {line}: {why}", file.display())))
    }

    fn parse(text: &[u8]) -> Result<Self, (usize, String)> {
        let lines = Lines::read(text, KeyEncoding::Hex);
        if let Some(problem) = lines.problems.first() {
            return Err((problem.line, problem.kind.to_string()));
        }
        let credentials = lines.credentials.into_iter();
        Ok(Self::Each(
            credentials
                .map(|(_, credential)| (credential.identity, credential.key))
                .collect(),
        ))
    }

    /// What the device with this identity has.
    pub(super) fn credentials(&self, identity: String) -> Result<Credentials, Error> {
        check_identity(identity.as_bytes()).map_err(|reason| Error::Identity {
            identity: identity.clone(),
            reason,
        })?;
        let key = match self {
            Self::Same(key) => Some(key),
            Self::Each(keys) => keys.get(identity.as_bytes()),
        };
        match key.cloned() {
            Some(key) => Ok(Credentials { identity, key }),
            None => Err(Error::UnknownIdentity(identity)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_identities_and_keys() {
        let keys = Keys::parse(b"# devices\n\n a:c0ffee \r\nb:00\n").unwrap();
        let found = keys.credentials("a".to_owned()).unwrap();
        assert_eq!(found.identity, "a");
        assert_eq!(found.key.as_bytes(), [0xc0, 0xff, 0xee]);
        assert!(matches!(
            keys.credentials("c".to_owned()),
            Err(Error::UnknownIdentity(_))
        ));
        let (line, why) = Keys::parse(b"a:00\nb").err().unwrap();
        assert_eq!(line, 2);
        assert!(why.contains("no :"), "{why}");
    }

    #[test]
    fn one_key_serves_every_identity() {
        let keys = Keys::Same(Key::parse("00ff").unwrap());
        let found = keys.credentials("any".to_owned()).unwrap();
        assert_eq!(found.key.as_bytes(), [0, 255]);
        for wrong in [String::new(), "a\0b".to_owned(), "x".repeat(257)] {
            assert!(matches!(
                keys.credentials(wrong),
                Err(Error::Identity { .. })
            ));
        }
    }
}
