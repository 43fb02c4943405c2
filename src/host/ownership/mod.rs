//! Which of several gateways on one broker has a device, as a state machine: device events,
//! messages and time go in, actions come out.
//!
//! A gateway where a device registers claims it by a retained [`Claim`] below the topic of
//! ownership. Claims of one endpoint have an order (see [`Claim`]) that all gateways see alike, so
//! of those who believe that they have the device all but one give it up: whoever hears a higher
//! claim ends its registration and sends observations and queue to the new one, whoever hears a
//! lower one says its own again. What is sent arrives in parts that need no putting together, and the
//! new gateway waits for none of it.

mod claim;
mod parts;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::claim::Claim;
use self::parts::Part;
use self::topics::{About, Topics};
use crate::engine::PortableSession;
use crate::time::Instant;

/// How long after its claim a gateway expects what the one before sends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Endpoints of other gateways that are remembered at most. Beyond them, clocks alone say which
/// claim is newer.
const MAX_KNOWN: usize = 1 << 18;

/// See the module.
pub(crate) struct Ownership {
    own: Box<str>,
    topics: Topics,
    /// Bytes of a message with a part of a session, as far as its commands can be parted.
    part_bytes: usize,
    entries: BTreeMap<Arc<str>, Entry>,
    /// Endpoints with something to do later.
    due: BTreeSet<(Instant, Arc<str>)>,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
struct Entry {
    /// The highest claim heard of, ours included.
    best: Option<Claim>,
    held: Option<Held>,
    due: Option<Instant>,
}

/// A device of this gateway.
#[derive(Debug)]
struct Held {
    claim: Claim,
    /// The epoch of the claim since which it has been held.
    since: u64,
    /// Parts that came, until the last one.
    taking: Option<u32>,
    /// Whether some other gateway had it before.
    followed: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Publish with QoS 1.
    Publish {
        endpoint: Arc<str>,
        topic: String,
        payload: Vec<u8>,
    },
    /// End the registration, and tell [`Ownership::exported`] what it leaves.
    Export {
        endpoint: Arc<str>,
        to: Box<str>,
        epoch: u64,
    },
    /// Go on with what another gateway had.
    Import {
        endpoint: Arc<str>,
        session: PortableSession,
    },
    /// Nothing came from the gateway that had the device before.
    GoOnWithout { endpoint: Arc<str> },
    /// A message that is none, or that nobody asked for.
    Refuse { topic: String, reason: &'static str },
}

impl Ownership {
    /// For the gateway `own`, which takes MQTT packets of `max_packet` bytes; topics are below
    /// `prefix`.
    pub(crate) fn new(own: &str, prefix: &str, max_packet: usize) -> Self {
        Self {
            own: own.into(),
            topics: Topics::new(prefix, own),
            part_bytes: parts::PART_BYTES.min(max_packet / 2),
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// How topics begin whose messages the broker is to keep.
    pub(crate) fn retained(&self) -> &str {
        self.topics.owners()
    }

    /// Filters of what is to be heard.
    pub(crate) fn filters(&self) -> [String; 2] {
        self.topics.filters()
    }

    /// A device has registered here `at` so many milliseconds since 1970, for `lifetime` seconds.
    /// That is long ago for one that a restart has found in the store; it may have gone to another
    /// gateway meanwhile.
    pub(crate) fn registered(
        &mut self,
        now: Instant,
        endpoint: &str,
        at: u64,
        lifetime: u64,
    ) -> Vec<Action> {
        let endpoint: Arc<str> = endpoint.into();
        let entry = self.entries.entry(Arc::clone(&endpoint)).or_default();
        let claim = Claim::above(entry.best.as_ref(), &self.own, at, lifetime);
        let followed = entry.best.as_ref().is_some_and(|it| it.gateway != self.own);
        entry.best = Some(claim.clone());
        match &mut entry.held {
            Some(held) => held.claim = claim,
            None => {
                entry.held = Some(Held {
                    since: claim.epoch,
                    claim,
                    taking: Some(0),
                    followed,
                });
                self.plan(&endpoint, Some(now + PATIENCE));
            }
        }
        self.say(&endpoint).into_iter().collect()
    }

    /// A registration here has ended.
    pub(crate) fn gone(&mut self, endpoint: &str) -> Vec<Action> {
        let held = self.entries.get_mut(endpoint).and_then(|it| it.held.take());
        // Without: it was given to another gateway.
        match held {
            Some(_) => self.clear(endpoint).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// A message came by one of the filters.
    pub(crate) fn heard(&mut self, now: Instant, topic: &str, payload: &[u8]) -> Vec<Action> {
        let refuse = |reason| {
            let topic = topic.to_owned();
            vec![Action::Refuse { topic, reason }]
        };
        match self.topics.read(topic) {
            None => refuse("unknown topic"),
            Some(About::Owner(endpoint)) if payload.is_empty() => self.cleared(&endpoint),
            Some(About::Owner(endpoint)) => match Claim::read(payload) {
                Some(claim) => self.claimed(now, &endpoint, claim).unwrap_or_else(refuse),
                None => refuse("not a valid claim"),
            },
            Some(About::Session(endpoint)) => match Part::read(payload) {
                Some(part) => self.take(&endpoint, part).unwrap_or_else(refuse),
                None => refuse("not a valid session"),
            },
        }
    }

    /// What a device of this gateway leaves, for [`Action::Export`].
    pub(crate) fn exported(
        &self,
        endpoint: &Arc<str>,
        to: &str,
        epoch: u64,
        session: PortableSession,
    ) -> Vec<Action> {
        let Some(topic) = self.topics.session(to, endpoint) else {
            return Vec::new();
        };
        let parts = parts::parts(&self.own, epoch, session, self.part_bytes);
        let publish = |payload| Action::Publish {
            endpoint: Arc::clone(endpoint),
            topic: topic.clone(),
            payload,
        };
        parts.into_iter().map(publish).collect()
    }

    /// A connection stands. Without a session that was kept the broker may have lost what it had.
    pub(crate) fn connected(&self, kept: bool) -> Vec<Action> {
        if kept {
            return Vec::new();
        }
        let held = self.entries.iter().filter(|(_, it)| it.held.is_some());
        held.filter_map(|(endpoint, _)| self.say(endpoint))
            .collect()
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((_, endpoint)) = self.due.pop_first()
        {
            let Some(entry) = self.entries.get_mut(&endpoint) else {
                continue;
            };
            entry.due = None;
            match &entry.held {
                // What comes later is taken all the same.
                Some(held) => {
                    if held.taking == Some(0) && held.followed {
                        actions.push(Action::GoOnWithout { endpoint });
                    }
                }
                // A claim of ours from before a restart, and the device did not come back.
                None => actions.extend(self.clear(&endpoint)),
            }
        }
        actions
    }

    /// Devices that this gateway has.
    #[cfg(test)]
    fn holds(&self, endpoint: &str) -> bool {
        let entry = self.entries.get(endpoint);
        entry.is_some_and(|entry| entry.held.is_some())
    }

    fn claimed(
        &mut self,
        now: Instant,
        endpoint: &str,
        claim: Claim,
    ) -> Result<Vec<Action>, &'static str> {
        let known = self.entries.len();
        let entry = match self.entries.get_mut(endpoint) {
            Some(entry) => entry,
            None if known >= MAX_KNOWN => return Err("too many devices"),
            None => self.entries.entry(endpoint.into()).or_default(),
        };
        let endpoint: Arc<str> = endpoint.into();
        let is_ours = claim.gateway == self.own;
        let is_higher = entry.best.as_ref().is_none_or(|best| claim.is_above(best));
        match (&mut entry.held, is_ours) {
            // Our own words, or those of before a restart, which must not stand above these.
            (Some(held), true) if is_higher => {
                let (time, lifetime) = (held.claim.time, held.claim.lifetime);
                held.claim = Claim::above(Some(&claim), &self.own, time, lifetime);
                entry.best = Some(held.claim.clone());
                Ok(self.say(&endpoint).into_iter().collect())
            }
            (Some(_), true) => Ok(Vec::new()),
            (Some(_), false) if is_higher => {
                let (to, epoch) = (claim.gateway.clone(), claim.epoch);
                entry.held = None;
                entry.best = Some(claim);
                self.plan(&endpoint, None);
                Ok(vec![Action::Export {
                    endpoint,
                    to,
                    epoch,
                }])
            }
            // Whoever said so hears this, and the broker keeps the right one.
            (Some(_), false) => Ok(self.say(&endpoint).into_iter().collect()),
            (None, _) if !is_higher => Ok(Vec::new()),
            (None, _) => {
                let lifetime = Duration::from_secs(claim.lifetime);
                entry.best = Some(claim);
                let due = is_ours.then(|| now + lifetime.max(PATIENCE));
                self.plan(&endpoint, due);
                Ok(Vec::new())
            }
        }
    }

    /// The retained message is gone: perhaps that of an owner before this one.
    fn cleared(&mut self, endpoint: &str) -> Vec<Action> {
        match self.entries.get(endpoint) {
            Some(entry) if entry.held.is_some() => self.say(endpoint).into_iter().collect(),
            Some(_) => {
                self.forget(endpoint);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn take(&mut self, endpoint: &str, part: Part) -> Result<Vec<Action>, &'static str> {
        let entry = self.entries.get_mut(endpoint);
        let Some(held) = entry.and_then(|entry| entry.held.as_mut()) else {
            return Err("the device is not registered here");
        };
        if !(held.since..=held.claim.epoch).contains(&part.epoch) {
            return Err("the session belongs to another registration");
        }
        match held.taking {
            // Delivered once more.
            Some(next) if part.part < next => return Ok(Vec::new()),
            Some(next) if part.part == next => held.taking = Some(next.saturating_add(1)),
            Some(_) => return Err("a part of a session is missing"),
            None => return Err("the transfer of this session is complete"),
        }
        let endpoint: Arc<str> = endpoint.into();
        if part.last {
            held.taking = None;
            self.plan(&endpoint, None);
        }
        let session = part.session;
        Ok(vec![Action::Import { endpoint, session }])
    }

    /// The claim of a device of ours.
    fn say(&self, endpoint: &str) -> Option<Action> {
        let (endpoint, entry) = self.entries.get_key_value(endpoint)?;
        Some(Action::Publish {
            topic: self.topics.owner(endpoint)?,
            payload: entry.held.as_ref()?.claim.write(),
            endpoint: Arc::clone(endpoint),
        })
    }

    /// Takes the retained message back, if it is ours.
    fn clear(&mut self, endpoint: &str) -> Option<Action> {
        let best = self.entries.get(endpoint)?.best.as_ref();
        if best.is_some_and(|it| it.gateway != self.own) {
            return None;
        }
        self.forget(endpoint);
        Some(Action::Publish {
            topic: self.topics.owner(endpoint)?,
            payload: Vec::new(),
            endpoint: endpoint.into(),
        })
    }

    fn forget(&mut self, endpoint: &str) {
        self.plan(endpoint, None);
        self.entries.remove(endpoint);
    }

    fn plan(&mut self, endpoint: &str, at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(endpoint) else {
            return;
        };
        let endpoint: Arc<str> = endpoint.into();
        if let Some(before) = entry.due.take() {
            self.due.remove(&(before, Arc::clone(&endpoint)));
        }
        entry.due = at;
        if let Some(at) = at {
            self.due.insert((at, endpoint));
        }
    }
}

#[cfg(test)]
mod tests;
