//! What a gateway says of a device that it has.

use serde::{Deserialize, Serialize};

/// Longest claim in bytes.
const MAX_BYTES: usize = 1024;

/// Numbers in JSON are exact up to here. What claims more is no gateway.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A claim, in JSON as it is retained.
///
/// The higher epoch wins, then the later time, then the name of the gateway. An epoch is above that
/// of any claim that its gateway had heard of, so that the newest registration wins whatever the
/// clocks say; and it is not below the clock's milliseconds, so that it also wins where a claim was
/// not heard or was taken back, as far as the clocks agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Its client identifier.
    pub(super) gateway: Box<str>,
    pub(super) epoch: u64,
    /// When the device registered, in milliseconds since 1970.
    pub(super) time: u64,
    /// Of the registration, in seconds.
    pub(super) lifetime: u64,
}

impl Claim {
    /// A claim of `gateway` that is above another one.
    pub(super) fn above(other: Option<&Self>, gateway: &str, time: u64, lifetime: u64) -> Self {
        let next = other.map_or(0, |other| other.epoch.saturating_add(1));
        Self {
            gateway: gateway.into(),
            epoch: next.max(time).min(MAX_NUMBER),
            time: time.min(MAX_NUMBER),
            lifetime,
        }
    }

    /// `None` for what is no claim.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() > MAX_BYTES {
            return None;
        }
        let claim: Self = serde_json::from_slice(payload).ok()?;
        let is_good =
            !claim.gateway.is_empty() && claim.epoch <= MAX_NUMBER && claim.time <= MAX_NUMBER;
        is_good.then_some(claim)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        // Text and numbers always become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether it wins over another one.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        let rank = |claim: &Self| (claim.epoch, claim.time, claim.gateway.clone());
        rank(self) > rank(other)
    }
}
