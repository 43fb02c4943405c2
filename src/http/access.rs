//! Who may do what.

use std::env;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio::sync::watch;
use tracing::warn;

pub(super) use super::caller::{Caller, Role};
use super::error::{Answer, ApiError};
use super::passwords::{Passwords, Verdict};
use super::sessions::Sessions;
use super::shown::{Shown, shown};
use super::users::Users;
use crate::config::file::{read_secret, read_shared};
use crate::config::{Config, Http, WorldReadable};
use crate::system::open_to_everyone;

/// The environment variable with the token.
const VARIABLE: &str = "LWM2M_GATEWAY_HTTP_TOKEN";

/// Shortest token in characters.
const SHORTEST: usize = 8;

/// Why nobody could be let in.
#[derive(Debug, Error)]
pub(crate) enum AccessError {
    /// A file of the configuration cannot be used.
    #[error("{key}: {}: {reason}", file.display())]
    File {
        /// Of the configuration.
        key: &'static str,
        /// Its file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The variable holds no token.
    #[error("{VARIABLE}: {0}")]
    Variable(String),
    /// Everybody could come.
    #[error(
        "http.bind: {0} is not a loopback address, and anyone could send commands to every device: set \
         http.token_file, http.users_file or {VARIABLE}"
    )]
    Open(SocketAddr),
    /// The system has no random bytes.
    #[error("cannot get random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// What of a configuration says who is let in.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) http: Arc<Http>,
    /// Files with secrets that everybody on the machine may read are not used.
    pub(super) refuses_readable: bool,
}

impl Sources {
    /// Of this configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            http: Arc::new(config.http.clone()),
            refuses_readable: config.world_readable_keys == WorldReadable::Refuse,
        }
    }

    /// The mode of a file.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn mode_of(&self, file: &Path) -> io::Result<u32> {
        Ok(fs::metadata(file)?.mode())
    }
}

/// Tokens and users as the configuration has them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Hashes, so that comparing them tells nothing by its time.
    tokens: Vec<([u8; 32], Caller)>,
    users: Option<Arc<Users>>,
    /// Of what was read.
    digest: [u8; 32],
}

impl Known {
    /// Reads tokens and users.
    ///
    /// # Errors
    /// A file cannot be used, or everybody could come from everywhere.
    pub(super) fn load(sources: &Sources) -> Result<Self, AccessError> {
        let http = &sources.http;
        let mut known = Self::default();
        let mut digest = Sha256::new();
        if let Some(token) = env::var_os(VARIABLE).filter(|it| !it.is_empty()) {
            let wrong = |reason: &str| AccessError::Variable(reason.to_owned());
            let token = token.into_string();
            let token = token.map_err(|_| wrong("is not valid UTF-8"))?;
            check(&token).map_err(AccessError::Variable)?;
            known.tokens.push((hash(&token), admin("token")));
        }
        if let Some(file) = &http.token_file {
            let key = "http.token_file";
            let token = of_file(sources, key, file, read_secret)?;
            check(&token).map_err(|reason| wrong(key, file, reason))?;
            known.tokens.push((hash(&token), admin("token")));
        }
        if let Some(file) = &http.users_file {
            let key = "http.users_file";
            let text = of_file(sources, key, file, read_shared)?;
            let users = Users::read(&text).map_err(|reason| wrong(key, file, reason))?;
            known.users = Some(Arc::new(users));
            digest.update(text.as_bytes());
        }
        for (token, _) in &known.tokens {
            digest.update(token);
        }
        known.digest = digest.finalize().into();
        known.check_bind(http)?;
        Ok(known)
    }

    /// Whether everybody may do everything.
    fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.users.is_none()
    }

    fn check_bind(&self, http: &Http) -> Result<(), AccessError> {
        match http.bind {
            Some(bind) if self.is_open() && !bind.ip().is_loopback() => {
                Err(AccessError::Open(bind))
            }
            _ => Ok(()),
        }
    }

    fn by_token(&self, token: &str) -> Option<Caller> {
        let shown = hash(token);
        let mut found = None;
        for (known, caller) in &self.tokens {
            if bool::from(known.ct_eq(&shown)) {
                found = Some(caller.clone());
            }
        }
        found
    }
}

/// Who is let in.
pub(super) struct Access {
    known: RwLock<Arc<Known>>,
    passwords: Passwords,
    pub(super) sessions: Sessions,
    /// Counts how often others were let in from then on.
    changes: watch::Sender<u64>,
}

impl Access {
    /// Lets in those who are known.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn new(known: Known) -> Result<Self, AccessError> {
        Ok(Self {
            known: RwLock::new(Arc::new(known)),
            passwords: Passwords::new()?,
            sessions: Sessions::default(),
            changes: watch::Sender::default(),
        })
    }

    /// Lets in others from now on; whether they are others. Then all logins end, since what they
    /// stood on may be gone.
    pub(super) fn replace(&self, known: Known) -> bool {
        let mut now = self.known.write();
        if now.digest == known.digest {
            return false;
        }
        *now = Arc::new(known);
        drop(now);
        self.sessions.end();
        self.passwords.forget();
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
        true
    }

    /// Tells when others are let in.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Who sends this request. Without any token or user everybody may do everything.
    pub(super) async fn caller(&self, headers: &HeaderMap, from: IpAddr) -> Answer<Caller> {
        let known = self.known.read().clone();
        if known.is_open() {
            return Ok(admin("anybody"));
        }
        let found = match shown(headers) {
            Shown::Token(token) => known
                .by_token(token)
                .or_else(|| self.sessions.caller(token, Instant::now())),
            Shown::Password(name, password) => match &known.users {
                Some(users) => self.by_password(users, &name, &password, from).await?,
                None => None,
            },
            Shown::Unknown | Shown::Nothing => None,
        };
        found.ok_or_else(ApiError::unauthorized)
    }

    async fn by_password(
        &self,
        users: &Arc<Users>,
        name: &str,
        password: &str,
        from: IpAddr,
    ) -> Answer<Option<Caller>> {
        match self.passwords.check(users, name, password, from).await {
            Verdict::Right(caller) => Ok(Some(caller)),
            Verdict::Wrong => {
                // Without the name, which may be a password in the wrong place. An address that
                // goes on has to pause, so that these lines are few.
                warn!(target: "audit", %from, "wrong password");
                Ok(None)
            }
            Verdict::Pause(seconds) => Err(ApiError::pause(seconds)),
            Verdict::Busy => Err(ApiError::unavailable()),
        }
    }
}

/// What a file has that not everybody may read.
fn of_file<T>(
    sources: &Sources,
    key: &'static str,
    file: &Path,
    read: impl FnOnce(&Path) -> io::Result<(T, u32)>,
) -> Result<T, AccessError> {
    let (text, mode) = read(file).map_err(|error| wrong(key, file, error.to_string()))?;
    if let Some(why) = open_to_everyone(mode).filter(|_| sources.refuses_readable) {
        let shown = file.display();
        let reason =
            format!("{why}: run chmod 640 {shown}, or set world_readable_keys = \"allow\"");
        return Err(wrong(key, file, reason));
    }
    Ok(text)
}

fn wrong(key: &'static str, file: &Path, reason: String) -> AccessError {
    AccessError::File {
        key,
        file: file.to_owned(),
        reason,
    }
}

fn admin(name: &str) -> Caller {
    Caller {
        name: name.into(),
        role: Role::Admin,
    }
}

fn check(token: &str) -> Result<(), String> {
    if token.chars().count() < SHORTEST {
        return Err(format!("a token must have at least {SHORTEST} characters"));
    }
    if !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err("a token must consist of ASCII letters, digits and punctuation".to_owned());
    }
    Ok(())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
