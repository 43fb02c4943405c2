//! Pre-shared keys of the simulated devices.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use super::Error;
use super::dtls::Credentials;

/// Longest identity that every implementation has room for (RFC 4279 §5.3).
const MAX_IDENTITY: usize = 128;
/// Longest key OpenSSL takes.
const MAX_KEY: usize = 512;

/// A key given in hexadecimal digits; it is not shown.
#[derive(Clone)]
pub struct HexKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for HexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HexKey(..)")
    }
}

impl HexKey {
    /// Reads hexadecimal digits, two for a byte, 1 to 512 bytes.
    ///
    /// # Errors
    ///
    /// Says what is wrong, without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits: Option<Zeroizing<Vec<u32>>> = text
            .chars()
            .map(|digit| digit.to_digit(16))
            .collect::<Option<Vec<_>>>()
            .map(Zeroizing::new);
        match digits {
            Some(digits) if digits.len() % 2 != 0 => Err("an odd number of digits".to_owned()),
            Some(digits) if (1..=MAX_KEY).contains(&(digits.len() / 2)) => {
                let bytes = digits.chunks(2).map(|pair| {
                    let byte = pair.iter().fold(0, |sum, digit| sum * 16 + digit);
                    u8::try_from(byte).unwrap_or_default()
                });
                Ok(Self(Zeroizing::new(bytes.collect())))
            }
            Some(_) => Err(format!("a key has 1 to {MAX_KEY} bytes")),
            None => Err("hexadecimal digits are needed".to_owned()),
        }
    }
}

/// Where the keys come from.
pub(super) enum Keys {
    Same(HexKey),
    Each(HashMap<String, HexKey>),
}

impl Keys {
    /// Reads `identity:hexkey` lines; empty lines and those with `#` in front are skipped.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let wrong = |reason| Error::KeyFile {
            file: file.display().to_string(),
            reason,
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&Zeroizing::new(text)).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = HashMap::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (identity, key) = line
                .rsplit_once(':')
                .ok_or_else(|| format!("line {number}: not identity:hexkey"))?;
            let key = HexKey::parse(key.trim()).map_err(|why| format!("line {number}: {why}"))?;
            keys.insert(identity.to_owned(), key);
        }
        Ok(Self::Each(keys))
    }

    pub(super) fn credentials(&self, identity: String) -> Result<Credentials, Error> {
        if identity.len() > MAX_IDENTITY || identity.contains('\0') {
            return Err(Error::Identity(identity));
        }
        let HexKey(key) = match self {
            Self::Same(key) => key.clone(),
            Self::Each(keys) => match keys.get(&identity) {
                Some(key) => key.clone(),
                None => return Err(Error::UnknownIdentity(identity)),
            },
        };
        Ok(Credentials { identity, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hexadecimal() {
        let key = HexKey::parse("00fFa5").unwrap();
        assert_eq!(*key.0, [0, 255, 165]);
        assert_eq!(format!("{key:?}"), "HexKey(..)");
        for wrong in ["", "0", "0g", "0x12", "é0", &"00".repeat(513)] {
            HexKey::parse(wrong).unwrap_err();
        }
        HexKey::parse(&"00".repeat(512)).unwrap();
    }

    #[test]
    fn a_file_names_identities_and_keys() {
        let keys = Keys::parse("# devices\n\n a:1:c0ffee \r\nb:00\n").unwrap();
        let found = keys.credentials("a:1".to_owned()).unwrap();
        assert_eq!(
            (found.identity.as_str(), &**found.key),
            ("a:1", &[0xc0, 0xff, 0xee][..])
        );
        assert!(matches!(
            keys.credentials("c".to_owned()),
            Err(Error::UnknownIdentity(_))
        ));
        assert_eq!(
            Keys::parse("a:00\nb").err().unwrap(),
            "line 2: not identity:hexkey"
        );
        assert!(Keys::parse("a:zz").err().unwrap().starts_with("line 1: "));
        assert!(matches!(
            Keys::Same(HexKey::parse("00").unwrap()).credentials("x".repeat(129)),
            Err(Error::Identity(_))
        ));
    }
}
