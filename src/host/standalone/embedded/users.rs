//! Users and their passwords, in the files that `mosquitto_passwd` writes: `name:$7$…`, PBKDF2 with
//! SHA-512, or the older `name:$6$…`, SHA-512 of password and salt. A line is at most 4 kB.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::sha::Sha512;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Rounds of PBKDF2 at most: about a second for a login.
const MAX_ROUNDS: usize = 2_000_000;

/// Rounds of the work that is done for a name that nobody has; the default of `mosquitto_passwd`.
const DEFAULT_ROUNDS: usize = 101;

/// Bytes of a line.
const MAX_LINE: usize = 4096;

/// The form of a stored password.
enum Hash {
    /// `$6$salt$hash`
    Sha512 { salt: Vec<u8>, hash: Vec<u8> },
    /// `$7$rounds$salt$hash`
    Pbkdf2 {
        rounds: usize,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    /// From the configuration, as it is.
    Plain(Zeroizing<Vec<u8>>),
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split('$');
        let (Some(""), Some(kind)) = (parts.next(), parts.next()) else {
            return Err("the password is not hashed: run mosquitto_passwd -U on the file");
        };
        let parts: Vec<&str> = parts.collect();
        let bytes = |part: &str| STANDARD.decode(part).map_err(|_| "the hash is not base64");
        match (kind, &*parts) {
            ("6", [salt, hash]) => Ok(Self::Sha512 {
                salt: bytes(salt)?,
                hash: bytes(hash)?,
            }),
            ("7", [rounds, salt, hash]) => {
                let rounds = rounds
                    .parse()
                    .map_err(|_| "the number of rounds is not a number")?;
                if !(1..=MAX_ROUNDS).contains(&rounds) {
                    return Err("the number of rounds is out of range 1 to 2000000");
                }
                Ok(Self::Pbkdf2 {
                    rounds,
                    salt: bytes(salt)?,
                    hash: bytes(hash)?,
                })
            }
            ("6" | "7", _) => Err("the hash is not complete"),
            _ => Err(
                "unknown kind of hash, expected $6$ or $7$ (mosquitto_passwd -H sha512 or sha512-pbkdf2)",
            ),
        }
    }

    fn is_of(&self, password: &[u8]) -> bool {
        let (given, hash) = match self {
            Self::Sha512 { salt, hash } => {
                let mut digest = Sha512::new();
                digest.update(password);
                digest.update(salt);
                (digest.finish().to_vec(), &**hash)
            }
            Self::Pbkdf2 { rounds, salt, hash } => {
                let mut given = vec![0; hash.len().clamp(1, 64)];
                let done =
                    pbkdf2_hmac(password, salt, *rounds, MessageDigest::sha512(), &mut given);
                if done.is_err() {
                    return false;
                }
                (given, &**hash)
            }
            Self::Plain(expected) => (password.to_vec(), expected.as_slice()),
        };
        given.ct_eq(hash).into()
    }
}

/// Who may log in. Without users everybody may.
#[derive(Default)]
pub(super) struct Users(HashMap<Box<str>, Hash>);

impl Users {
    /// Adds the lines of a file.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong with it.
    pub(super) fn read(&mut self, text: &str) -> Result<(), (usize, String)> {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| (number, what.to_owned());
            if line.len() > MAX_LINE {
                return Err(wrong("the line is longer than 4096 bytes"));
            }
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| wrong("the : after the name is missing"))?;
            if name.is_empty() {
                return Err(wrong("the name is missing"));
            }
            let hash = Hash::parse(hash).map_err(wrong)?;
            if self.0.insert(name.into(), hash).is_some() {
                return Err(wrong("the name is given twice"));
            }
        }
        Ok(())
    }

    /// Adds one whose password is known.
    pub(super) fn add(&mut self, name: &str, password: &str) {
        let password = Zeroizing::new(password.as_bytes().to_vec());
        self.0.insert(name.into(), Hash::Plain(password));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the password of that user. Takes about as long for a name that nobody has.
    pub(super) fn are(&self, name: &str, password: &[u8]) -> bool {
        match self.0.get(name) {
            // To PBKDF2 a password is the same with zeros behind it (RFC 2104 §2 fills the key).
            Some(hash) => hash.is_of(password) && !password.contains(&0),
            None => {
                let nobody = Hash::Pbkdf2 {
                    rounds: DEFAULT_ROUNDS,
                    salt: vec![0; 12],
                    hash: vec![0; 64],
                };
                // Only for its time.
                let _ = nobody.is_of(password);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `mosquitto_passwd` 2.0 (`-H sha512-pbkdf2`, `-H sha512`) for the password `geheim`.
    const FILE: &str = "\
new:$7$101$AkT5s7L4ntb640O5$IH03gXNonwoGA+qlfbLloyIhtBhADKHC6zbk9AZLWFm1HNYUbwl/9SRfgt0CYS2bp1vdF5ZigAF0BzuUKr9JnA==
old:$6$6wHUZk/5m47iIwkJ$w1gJdNgNXQsI/IHYZuiF6pPANXSh6HRzB5rNixc1ygvZGHj5ae1nBtPIV9acFXkZM2cVpnS7b4gfWJf5Xznj0Q==
";

    #[test]
    fn files_of_mosquitto_passwd() {
        let mut users = Users::default();
        users.read(FILE).unwrap();
        for name in ["new", "old"] {
            assert!(users.are(name, b"geheim"), "{name}");
            for wrong in [&b"Geheim"[..], b"", b"geheim\0"] {
                assert!(!users.are(name, wrong), "{name}");
            }
        }
        assert!(!users.are("nobody", b"geheim"));
        users.add("plain", "word");
        assert!(users.are("plain", b"word") && !users.are("plain", b"words"));
    }

    #[test]
    fn mistakes_have_a_line() {
        for (text, part) in [
            ("a", "the : after the name is missing"),
            (":$6$AA==$AA==", "the name is missing"),
            ("a:clear", "not hashed"),
            ("a:$6$AA==", "not complete"),
            ("a:$7$0$AA==$AA==", "rounds"),
            ("a:$7$99999999$AA==$AA==", "rounds"),
            ("a:$7$x$AA==$AA==", "rounds"),
            ("a:$6$!$AA==", "base64"),
            ("a:$argon2id$v=19$m=1,t=1,p=1$AA$AA", "unknown kind of hash"),
            ("b:$6$AA==$AA==\nb:$6$AA==$AA==", "given twice"),
        ] {
            let (line, what) = Users::default().read(&format!("# x\n{text}")).unwrap_err();
            assert!(line >= 2 && what.contains(part), "{text}: {line}: {what}");
        }
    }
}
