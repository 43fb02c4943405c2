//! Answers of the gateway itself, in place of a device's.

use super::effort::Exhausted;
use super::queue::QueueError;
use crate::bridge::uplink::{self, Ids};
use crate::bridge::{Command, Dialect, Echo, Reason};
use crate::coap::Code;
use crate::config::Translator;
use crate::engine::settings::Settings;
use crate::engine::stored::StoredRefusal;
use crate::memory::Full;

/// An answer of the gateway itself: code, stable reason and a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Refusal {
    code: Code,
    reason: &'static str,
    detail: Option<String>,
}

impl Refusal {
    pub(in crate::engine) const NOT_REGISTERED: Self = Self {
        code: Code::NOT_FOUND,
        reason: "not_registered",
        detail: None,
    };
    pub(in crate::engine) const QUEUE_FULL: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "queue_full",
        detail: None,
    };
    pub(in crate::engine) const EXPIRED: Self = Self {
        code: Code::GATEWAY_TIMEOUT,
        reason: "expired",
        detail: None,
    };
    pub(in crate::engine) const RESTARTED: Self = Self {
        code: Code::GATEWAY_TIMEOUT,
        reason: "restarted",
        detail: None,
    };
    pub(in crate::engine) const CANCELLED: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "cancelled",
        detail: None,
    };
    pub(in crate::engine) const NOT_DURABLE: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "not_durable",
        detail: None,
    };
    pub(in crate::engine) const STOPPING: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "gateway_stopping",
        detail: None,
    };
    pub(in crate::engine) const UNREACHABLE: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "node_unreachable",
        detail: None,
    };
    pub(in crate::engine) const NOT_SUBSCRIBED: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "not_subscribed",
        detail: None,
    };
    pub(in crate::engine) const OVERLOADED: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "overloaded",
        detail: None,
    };
    pub(in crate::engine) const TOO_MANY_OBSERVATIONS: Self = Self {
        code: Code::SERVICE_UNAVAILABLE,
        reason: "too_many_observations",
        detail: None,
    };

    /// What the store notes of it, if it must stand whatever happens.
    pub(super) fn to_stored(&self) -> Option<StoredRefusal> {
        [
            StoredRefusal::NotRegistered,
            StoredRefusal::Expired,
            StoredRefusal::Cancelled,
        ]
        .into_iter()
        .find(|stored| Self::of_stored(*stored) == *self)
    }

    /// From the store.
    pub(super) const fn of_stored(stored: StoredRefusal) -> Self {
        match stored {
            StoredRefusal::NotRegistered => Self::NOT_REGISTERED,
            StoredRefusal::Expired => Self::EXPIRED,
            StoredRefusal::Cancelled => Self::CANCELLED,
        }
    }

    /// The payload for a command that is none for a device.
    pub(in crate::engine) fn payload(&self, echo: &Echo, ids: &Ids<'_>) -> Vec<u8> {
        let detail = self.detail.as_deref();
        uplink::local_error(echo, ids, None, self.code.0, self.reason, detail)
    }

    /// The command may not wait for the device.
    pub(in crate::engine) fn not_queued(error: QueueError) -> Self {
        match error {
            QueueError::Full => Self::QUEUE_FULL,
            QueueError::TooLarge { .. } => Self {
                code: Code::SERVICE_UNAVAILABLE,
                reason: Reason::TooLarge.as_str(),
                detail: Some(error.to_string()),
            },
        }
    }

    /// The command cannot be put into a request.
    pub(in crate::engine) fn unsuitable(reason: &'static str, detail: String) -> Self {
        Self {
            code: Code::BAD_REQUEST,
            reason,
            detail: Some(detail),
        }
    }

    /// The account of memory has no room for it.
    pub(in crate::engine) fn memory(full: Full) -> Self {
        Self {
            code: Code::SERVICE_UNAVAILABLE,
            reason: "memory_full",
            detail: Some(full.to_string()),
        }
    }

    /// The device's answer cannot be put together.
    pub(in crate::engine) fn bad_gateway(reason: &'static str) -> Self {
        Self {
            code: Code::BAD_GATEWAY,
            reason,
            detail: None,
        }
    }
}

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        let (code, reason) = match exhausted {
            Exhausted::Requests => (Code::BAD_GATEWAY, "too_many_requests"),
            Exhausted::Time => (Code::GATEWAY_TIMEOUT, "transfer_timeout"),
        };
        Self {
            code,
            reason,
            detail: None,
        }
    }
}

/// Where answers to a command of this origin go.
pub(in crate::engine) fn response_translator<'a>(
    settings: &'a Settings,
    echo: &Echo,
) -> &'a Translator {
    let translators = &settings.config.translators;
    match echo.pair() {
        Dialect::Current => &translators.response,
        Dialect::Legacy => &translators.legacy.response,
    }
}

/// The payload of a refusal.
pub(in crate::engine) fn local_error(
    command: &Command,
    ids: &Ids<'_>,
    refusal: &Refusal,
) -> Vec<u8> {
    let (code, detail) = (refusal.code.0, refusal.detail.as_deref());
    let path = Some(&command.target.text);
    uplink::local_error(&command.echo, ids, path, code, refusal.reason, detail)
}

/// The answer to a command of this echo for an endpoint that is not registered.
pub(in crate::engine) fn unregistered_answer(echo: &Echo) -> Vec<u8> {
    let Refusal { code, reason, .. } = Refusal::NOT_REGISTERED;
    uplink::local_error(echo, &Ids::default(), None, code.0, reason, None)
}

/// The answer to a command for an endpoint that is not registered.
pub(in crate::engine) fn unregistered_payload(command: &Command) -> Vec<u8> {
    local_error(command, &Ids::default(), &Refusal::NOT_REGISTERED)
}
