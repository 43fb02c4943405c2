//! Users of the API, in a file of lines `name:role:hash`. The hash is one of argon2 in the form that
//! all programs write (PHC: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`); the role is `read`, `command` or
//! `admin`. Empty lines and those that begin with `#` are left out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(any(test, feature = "standalone"))]
use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params};
use thiserror::Error;

use super::caller::{Caller, Role};

/// Users in a file at most.
const MOST: usize = 1000;

/// Bytes of a line at most.
const MAX_LINE: usize = 1024;

/// Bytes of a name at most.
const MAX_NAME: usize = 64;

/// Bytes of a password at most; at least [`SHORTEST`] where one is chosen.
pub(super) const MAX_PASSWORD: usize = 256;

/// Characters of a password that is chosen.
const SHORTEST: usize = 8;

/// What one check may cost: 64 MB (in kB), and rounds over that. Someone else may have made the file,
/// with numbers that bring the machine down.
const MAX_MEMORY: u32 = 64 << 10;
const MAX_ROUNDS: u32 = 10;
const MAX_LANES: u32 = 16;

/// Why there is no line for a user.
#[cfg_attr(
    not(feature = "standalone"),
    allow(dead_code, reason = "only the command line makes lines")
)]
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum UserError {
    /// The name does not fit into a line.
    #[error("a name must have 1 to {MAX_NAME} characters, without spaces and colons")]
    Name,
    /// There is no such role.
    #[error("a role must be read, command or admin")]
    Role,
    /// Too short or too long.
    #[error("a password must have at least {SHORTEST} characters and at most {MAX_PASSWORD} bytes")]
    Password,
    /// The system gives no random bytes, or no memory.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

#[derive(Debug)]
struct User {
    caller: Caller,
    hash: PasswordHash,
}

/// Those of a file.
#[derive(Debug)]
pub(super) struct Users {
    by_name: HashMap<Box<str>, User>,
    number: u64,
}

impl Users {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong with it, without what is in it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| format!("line {number}: {what}");
            let user = user(line).map_err(|what| wrong(&what))?;
            if users.len() >= MOST {
                return Err(wrong("there are more than 1000 users"));
            }
            let name = Box::from(&*user.caller.name);
            if users.insert(name, user).is_some() {
                return Err(wrong("the name is given twice"));
            }
        }
        if users.is_empty() {
            return Err("holds no users".to_owned());
        }
        static READ: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            by_name: users,
            number: READ.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// No other users that this process reads have this number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whose password that is. Takes tens of milliseconds and megabytes: not for a thread that has
    /// other things to do. A name that nobody has costs the same.
    pub(super) fn verify(&self, name: &str, password: &[u8]) -> Option<Caller> {
        let known = self.by_name.get(name);
        // Whoever is first does for the work of a name that nobody has.
        let user = known.or_else(|| self.by_name.values().next())?;
        let fits = Argon2::default().verify_password(password, &user.hash);
        let caller = fits.ok().map(|()| user.caller.clone());
        caller.filter(|_| known.is_some())
    }
}

fn user(line: &str) -> Result<User, String> {
    if line.len() > MAX_LINE {
        return Err(format!("is longer than {MAX_LINE} bytes"));
    }
    let mut parts = line.splitn(3, ':');
    let (Some(name), Some(role), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("expected name:role:hash, as lwm2m-gateway http-user prints it".to_owned());
    };
    check_name(name).map_err(|error| error.to_string())?;
    let role = Role::named(role).ok_or_else(|| UserError::Role.to_string())?;
    let wrong = |_| "the hash is not an argon2 hash: use lwm2m-gateway http-user".to_owned();
    let hash = PasswordHash::new(hash).map_err(wrong)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str());
    if algorithm.is_err() || hash.salt.is_none() || hash.hash.is_none() {
        return Err("the hash is not an argon2 hash: use lwm2m-gateway http-user".to_owned());
    }
    let cost = Params::try_from(&hash).map_err(|error| format!("the hash: {error}"))?;
    let lanes = cost.p_cost();
    if cost.m_cost() > MAX_MEMORY || cost.t_cost() > MAX_ROUNDS || lanes > MAX_LANES {
        return Err(format!(
            "the hash costs more than m={MAX_MEMORY},t={MAX_ROUNDS},p={MAX_LANES}"
        ));
    }
    let caller = Caller {
        name: name.into(),
        role,
    };
    Ok(User { caller, hash })
}

fn check_name(name: &str) -> Result<(), UserError> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
    let first = !name.starts_with('#');
    match (1..=MAX_NAME).contains(&name.len()) && first && name.chars().all(fits) {
        true => Ok(()),
        false => Err(UserError::Name),
    }
}

/// A line of the file for a user with this password.
///
/// # Errors
/// What is wrong with it.
#[cfg(any(test, feature = "standalone"))]
pub(crate) fn user_line(name: &str, role: &str, password: &str) -> Result<String, UserError> {
    check_name(name)?;
    let role = Role::named(role).ok_or(UserError::Role)?;
    if password.chars().count() < SHORTEST || password.len() > MAX_PASSWORD {
        return Err(UserError::Password);
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    let hash: PasswordHash = hash.map_err(|error| UserError::Hash(error.to_string()))?;
    Ok(format!("{name}:{}:{hash}", role.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cheap hash.
    fn line(name: &str, role: &str, password: &str) -> String {
        let params = Params::new(8, 1, 1, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash: PasswordHash = argon2.hash_password(password.as_bytes()).unwrap();
        format!("{name}:{role}:{hash}")
    }

    #[test]
    fn users_are_known_by_their_passwords() {
        let text = format!(
            "# ours\n\n{}\r\n{}\n",
            line("ann", "read", "first password"),
            line("bob", "admin", "second password")
        );
        let users = Users::read(&text).unwrap();
        let who = |name: &str, password: &str| {
            let caller = users.verify(name, password.as_bytes())?;
            Some((caller.name.to_string(), caller.role))
        };
        assert_eq!(
            who("ann", "first password"),
            Some(("ann".to_owned(), Role::Read))
        );
        assert_eq!(
            who("bob", "second password"),
            Some(("bob".to_owned(), Role::Admin))
        );
        for (name, password) in [
            ("ann", "second password"),
            ("ann", ""),
            ("cat", "first password"),
            ("cat", "second password"),
            ("", "first password"),
        ] {
            assert_eq!(who(name, password), None, "{name}");
        }
    }

    #[test]
    fn a_line_is_made_that_is_read() {
        let made = user_line("ann", "command", "long enough").unwrap();
        assert!(made.starts_with("ann:command:$argon2id$v=19$"), "{made}");
        let users = Users::read(&made).unwrap();
        let caller = users.verify("ann", b"long enough").unwrap();
        assert_eq!(caller.role, Role::Command);
        for (name, role, password, error) in [
            ("a:b", "read", "long enough", UserError::Name),
            ("", "read", "long enough", UserError::Name),
            ("#a", "read", "long enough", UserError::Name),
            ("a\nb", "read", "long enough", UserError::Name),
            ("ann", "root", "long enough", UserError::Role),
            ("ann", "read", "short", UserError::Password),
            ("ann", "read", &"x".repeat(257), UserError::Password),
        ] {
            assert_eq!(user_line(name, role, password), Err(error));
        }
    }

    #[test]
    fn what_is_no_user_is_refused_by_its_line() {
        let good = line("ann", "read", "password");
        let hash = good.rsplit_once(':').unwrap().1;
        for (text, says) in [
            (String::new(), "holds no users"),
            ("ann:read".to_owned(), "line 1: expected name:role:hash"),
            (format!("{good}\nann:admin:{hash}"), "line 2: the name"),
            (format!("ann:root:{hash}"), "a role must be"),
            ("ann:read:secret".to_owned(), "not an argon2 hash"),
            (
                "ann:read:$6$abcdefgh$abcdefgh".to_owned(),
                "not an argon2 hash",
            ),
            (
                format!("ann:read:{}", hash.replace("m=8", "m=4000000")),
                "costs more",
            ),
            (
                format!("ann:read:{}", hash.replace("t=1", "t=400")),
                "costs more",
            ),
        ] {
            let error = Users::read(&text).unwrap_err();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("secret"));
        }
    }
}
