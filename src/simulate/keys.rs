//! Pre-shared keys of the simulated devices.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::dtls::Credentials;
use super::error::Error;
use super::say::say;
use crate::credentials::{Key, KeyEncoding, Lines, check_identity, read_file};

/// Bad lines of a file that are named.
const MAX_PROBLEMS: usize = 10;

/// Where the keys come from.
pub(super) enum Keys {
    Same(Key),
    Each(HashMap<Box<[u8]>, Key>),
}

impl Keys {
    /// Reads a PSK file as the gateway does: a bad line is named, the good ones count.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let (text, _) = read_file(file).map_err(|error| Error::Keys(error.to_string()))?;
        let (keys, problems) = Self::parse(&text);
        for (line, why) in problems.iter().take(MAX_PROBLEMS) {
            let file = file.display();
            let warning = format!("warning: --psk-file: {file}: line {line}: {why}");
            say(&mut io::stderr(), &warning);
        }
        if let Some(more) = problems
            .len()
            .checked_sub(MAX_PROBLEMS)
            .filter(|more| *more > 0)
        {
            say(
                &mut io::stderr(),
                &format!("warning: and {more} more lines"),
            );
        }
        Ok(keys)
    }

    fn parse(text: &[u8]) -> (Self, Vec<(usize, String)>) {
        let lines = Lines::read(text, KeyEncoding::Hex);
        let problems = lines.problems.iter();
        let problems = problems.map(|problem| (problem.line, problem.kind.to_string()));
        let credentials = lines.credentials.into_iter();
        let keys = credentials.map(|(_, credential)| (credential.identity, credential.key));
        (Self::Each(keys.collect()), problems.collect())
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
            Some(key) => Ok(Credentials {
                identity,
                key,
                certificate: None,
            }),
            None => Err(Error::UnknownIdentity(identity)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_identities_and_keys() {
        let (keys, problems) = Keys::parse(b"# devices\n\n a:c0ffee \r\nb:00\n");
        assert!(problems.is_empty());
        let found = keys.credentials("a".to_owned()).unwrap();
        assert_eq!(found.identity, "a");
        assert_eq!(found.key.as_bytes(), [0xc0, 0xff, 0xee]);
        assert!(matches!(
            keys.credentials("c".to_owned()),
            Err(Error::UnknownIdentity(_))
        ));
        let (keys, problems) = Keys::parse(b"a:00\nb\nc:01");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].0, 2);
        assert!(problems[0].1.contains("a : between"), "{problems:?}");
        assert!(
            keys.credentials("c".to_owned()).is_ok(),
            "the good lines count"
        );
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
