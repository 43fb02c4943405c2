//! Topics of ownership: `PREFIX/owner/ENDPOINT` and `PREFIX/session/GATEWAY/ENDPOINT`. Names stand in
//! one level each, with `%XX` for what would not.

use std::borrow::Cow;

use crate::bridge::topic::{MAX_NAME, escape_endpoint, unescape_endpoint};
use crate::config::HostileEndpoint::Escape;

pub(super) struct Topics {
    owner: String,
    sessions: String,
    /// Those for this gateway.
    own: String,
}

/// What a topic is about.
pub(super) enum About<'t> {
    /// Who has this endpoint.
    Owner(Cow<'t, str>),
    /// A session of this endpoint, for this gateway.
    Session(Cow<'t, str>),
}

impl Topics {
    pub(super) fn new(prefix: &str, own: &str) -> Self {
        let sessions = format!("{prefix}/session/");
        let name = escape_endpoint(own, Escape).unwrap_or_default();
        Self {
            owner: format!("{prefix}/owner/"),
            own: format!("{sessions}{name}/"),
            sessions,
        }
    }

    pub(super) fn owners(&self) -> &str {
        &self.owner
    }

    pub(super) fn filters(&self) -> [String; 2] {
        [format!("{}+", self.owner), format!("{}+", self.own)]
    }

    /// `None` for what cannot stand in a topic.
    pub(super) fn owner(&self, endpoint: &str) -> Option<String> {
        let name = escape_endpoint(endpoint, Escape).ok()?;
        Some(format!("{}{name}", self.owner))
    }

    /// `None` for what cannot stand in a topic.
    pub(super) fn session(&self, gateway: &str, endpoint: &str) -> Option<String> {
        let gateway = escape_endpoint(gateway, Escape).ok()?;
        let endpoint = escape_endpoint(endpoint, Escape).ok()?;
        Some(format!("{}{gateway}/{endpoint}", self.sessions))
    }

    pub(super) fn read<'t>(&self, topic: &'t str) -> Option<About<'t>> {
        let name = |prefix: &str| {
            let level = topic.strip_prefix(prefix)?;
            let fits = !level.is_empty() && !level.contains('/');
            let name = fits.then(|| unescape_endpoint(level, Escape));
            name.filter(|name| name.len() <= MAX_NAME)
        };
        let owner = name(&self.owner).map(About::Owner);
        owner.or_else(|| name(&self.own).map(About::Session))
    }
}
