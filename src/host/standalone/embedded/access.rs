//! Who may log in at the embedded broker, and what they may read and write there.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use super::super::common::BrokerError;
use super::acl::{Acl, Client, Wish};
use super::users::Users;
use crate::config::file::read_shared;
use crate::config::{Config, WorldReadable};
use crate::system::open_to_everyone;

/// What the files say.
#[derive(Default)]
pub(super) struct Access {
    users: Users,
    acl: Option<Acl>,
}

impl Access {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// A file that cannot be read, or a mistake in it.
    pub(super) fn read(config: &Config) -> Result<Self, BrokerError> {
        let mqtt = &config.mqtt;
        let mut users = Users::default();
        if let Some(file) = &mqtt.users_file {
            let text = text("mqtt.users_file", file, config)?;
            users.read(&text).map_err(|(line, what)| {
                let reason = format!("{}:{line}: {what}", file.display());
                setting("mqtt.users_file", reason)
            })?;
            if users.is_empty() {
                let reason = format!("{}: names nobody", file.display());
                return Err(setting("mqtt.users_file", reason));
            }
        }
        if let Some(name) = &mqtt.username {
            users.add(name, mqtt.password.as_deref().unwrap_or_default());
        }
        let acl = match &mqtt.acl_file {
            None => None,
            Some(file) => {
                let text = text("mqtt.acl_file", file, config)?;
                let acl = Acl::read(&text).map_err(|(line, what)| {
                    let reason = format!("{}:{line}: {what}", file.display());
                    setting("mqtt.acl_file", reason)
                })?;
                if acl.names_users() && users.is_empty() {
                    let reason = "names users, but there are no users: set mqtt.users_file";
                    return Err(setting("mqtt.acl_file", reason.to_owned()));
                }
                Some(acl)
            }
        };
        Ok(Self { users, acl })
    }

    /// Whether everybody is let in.
    pub(super) fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether what clients do is looked at.
    pub(super) fn has_rules(&self) -> bool {
        self.acl.is_some()
    }

    /// Whether this is the password of that user.
    pub(super) fn lets_in(&self, name: Option<&str>, password: Option<&[u8]>) -> bool {
        let (name, password) = (name.unwrap_or_default(), password.unwrap_or_default());
        self.users.are(name, password)
    }

    /// Who a client is: a name that nobody has checked counts for nothing.
    fn client<'a>(&self, user: Option<&'a str>, client_id: &'a str) -> Client<'a> {
        Client {
            user: user.filter(|_| !self.is_open()),
            client_id,
        }
    }

    /// Whether a client may read or write `topic`.
    pub(super) fn allows(
        &self,
        (user, client_id): (Option<&str>, &str),
        wish: Wish,
        topic: &str,
    ) -> bool {
        let client = self.client(user, client_id);
        (self.acl.as_ref()).is_none_or(|acl| acl.allows(client, wish, topic))
    }

    /// Whether a subscription may bring anything.
    pub(super) fn allows_filter(
        &self,
        (user, client_id): (Option<&str>, &str),
        filter: &str,
    ) -> bool {
        let client = self.client(user, client_id);
        (self.acl.as_ref()).is_none_or(|acl| acl.allows_filter(client, filter))
    }
}

/// The files as they were read last, for whoever asks.
#[derive(Clone, Default)]
pub(super) struct Doors(Arc<RwLock<Arc<Access>>>);

impl Doors {
    pub(super) fn new(access: Access) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(access))))
    }

    /// What holds now.
    pub(super) fn now(&self) -> Arc<Access> {
        Arc::clone(&self.0.read())
    }

    /// What holds from now on.
    pub(super) fn set(&self, access: Access) {
        *self.0.write() = Arc::new(access);
    }
}

fn text(key: &'static str, file: &Path, config: &Config) -> Result<String, BrokerError> {
    let shown = file.display();
    let (text, mode) =
        read_shared(file).map_err(|error| setting(key, format!("{shown}: {error}")))?;
    if let Some(why) = open_to_everyone(mode)
        && config.world_readable_keys == WorldReadable::Refuse
    {
        let reason = format!(
            "{shown}: {why}: run chmod 640 {shown}, or set world_readable_keys = \"allow\""
        );
        return Err(setting(key, reason));
    }
    Ok(text)
}

fn setting(key: &'static str, reason: String) -> BrokerError {
    BrokerError::Setting { key, reason }
}
/// Reads a file of users, for the fuzz targets.
///
/// # Errors
/// The line, from 1, and what is wrong with it.
#[cfg(feature = "internals")]
pub fn read_users(text: &str) -> Result<(), (usize, String)> {
    Users::default().read(text)
}

/// Whether the rules of a file let a client read a topic, and subscribe to it; for the fuzz targets.
///
/// # Errors
/// The line, from 1, and what is wrong with it.
#[cfg(feature = "internals")]
pub fn may_read(
    rules: &str,
    user: Option<&str>,
    client_id: &str,
    topic: &str,
) -> Result<(bool, bool), (usize, String)> {
    let acl = Acl::read(rules)?;
    let client = Client { user, client_id };
    let reads = acl.allows(client, Wish::Read, topic);
    Ok((reads, acl.allows_filter(client, topic)))
}
