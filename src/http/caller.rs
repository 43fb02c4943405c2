//! Who sent a request, and what such may do.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::error::{Answer, ApiError};

/// What a caller may do; each role includes the previous ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// See everything except secrets.
    Read,
    /// Send commands to devices.
    Command,
    /// Change keys, end registrations.
    Admin,
}

impl Role {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Read, Self::Command, Self::Admin];

    /// As people write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Command => "command",
            Self::Admin => "admin",
        }
    }

    /// From such a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Where a request came from: the other end of its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender(pub(super) IpAddr);

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// For the log.
    pub(super) name: Arc<str>,
    pub(super) role: Role,
}

impl Caller {
    /// Refuses those who may not.
    pub(super) fn needs(&self, role: Role) -> Answer<()> {
        if self.role >= role {
            return Ok(());
        }
        let detail = format!("this request needs the role {}", role.name());
        Err(ApiError::forbidden("forbidden", detail))
    }
}
