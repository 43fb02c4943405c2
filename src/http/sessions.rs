//! Logins of the console: a token for a while instead of the password, which the page need not keep.
//! It goes in a header like any other. A cookie would be sent along with requests that the page of a
//! stranger makes, and to all other servers of this host, whatever their port.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::caller::Caller;

/// How long a login lasts.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3600);

/// Logins at a time; the oldest gives way.
const MOST: usize = 1000;

/// What a token begins with.
pub(super) const PREFIX: &str = "session-";

/// Bytes of a token before it is written in hexadecimal digits.
const BYTES: usize = 32;

/// See the module. By the hashes of their tokens, so that looking one up tells nothing of others.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], (Caller, Instant)>>);

impl Sessions {
    /// A token for somebody.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn open(&self, caller: Caller, now: Instant) -> Result<String, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
        let token = format!("{PREFIX}{hex}");
        let mut sessions = self.0.lock();
        sessions.retain(|_, (_, until)| now < *until);
        if sessions.len() >= MOST {
            let oldest = sessions.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                sessions.remove(&oldest);
            }
        }
        sessions.insert(hash(&token), (caller, now + LIFE));
        Ok(token)
    }

    /// Whose token that is.
    pub(super) fn caller(&self, token: &str, now: Instant) -> Option<Caller> {
        if !token.starts_with(PREFIX) {
            return None;
        }
        let sessions = self.0.lock();
        let (caller, until) = sessions.get(&hash(token))?;
        (now < *until).then(|| caller.clone())
    }

    /// Ends one.
    pub(super) fn close(&self, token: &str) {
        self.0.lock().remove(&hash(token));
    }

    /// Ends all: there are other tokens and users now.
    pub(super) fn end(&self) {
        self.0.lock().clear();
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::caller::Role;

    fn caller() -> Caller {
        Caller {
            name: "ann".into(),
            role: Role::Command,
        }
    }

    #[test]
    fn a_login_ends() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let token = sessions.open(caller(), now).unwrap();
        let role = |token: &str, now| sessions.caller(token, now).map(|it| it.role);
        assert_eq!(role(&token, now), Some(Role::Command));
        assert_eq!(role(&token[..token.len() - 1], now), None);
        assert_eq!(role("", now), None);
        assert_eq!(role(&token, now + LIFE), None);
        sessions.close(&token);
        assert_eq!(role(&token, now), None);
        let token = sessions.open(caller(), now).unwrap();
        sessions.end();
        assert_eq!(role(&token, now), None);
    }

    #[test]
    fn logins_are_bounded() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let first = sessions.open(caller(), start).unwrap();
        for number in 1..=MOST as u64 {
            let now = start + Duration::from_millis(number);
            sessions.open(caller(), now).unwrap();
        }
        assert_eq!(sessions.0.lock().len(), MOST);
        assert!(sessions.caller(&first, start).is_none());
    }
}
