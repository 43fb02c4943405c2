//! The registration interface on `/rd` (LwM2M Core 1.2 §6.2): Register, Update, De-register.

use std::collections::{HashSet, VecDeque};
use std::str;
use std::sync::Arc;

use tracing::debug;

use super::account::{Charged, registration_bytes};
use super::device::{Device, DeviceKey};
use super::directory::ClaimError;
use super::format::Refused;
use super::query::Query;
use super::queue::CommandQueue;
use super::reach::Trust;
use super::registration::{Location, MAX_ENDPOINT, RegisterError, Registration};
use super::registry::{mount_claim, mountpoint};
use super::request::Method;
use super::requests::{Request, Stage};
use super::sessions::{Claim, Identity};
use super::waiting::waiting_bytes;
use super::{
    DeviceEvent, Engine, GoneReason, HANDOFF_TIMEOUT, Handoff, Output, Peer, Response, Wanted,
};
use crate::bridge::Command;
use crate::bridge::report::Event;
use crate::coap::message::option;
use crate::coap::{Code, Message, Token};
use crate::config::{AddressChange, AutoObserve, Config};
use crate::lwm2m::Path;
use crate::memory::{Full, Heap, Kind};
use crate::telemetry::limited;
use crate::time::Now;

/// The least Max-Age of a refusal, in seconds.
const RETRY_AFTER: u32 = 60;

impl Engine {
    pub(super) fn refuse_register(
        &mut self,
        now: Now,
        from: Peer,
        message: &Message,
        error: &RegisterError,
    ) {
        self.counters.register_refused.inc();
        if error.is_size() {
            self.counters.register_too_large.inc();
        }
        match error {
            // Somebody tries what is not theirs: worth an operator's attention.
            RegisterError::EndpointNotPermitted
            | RegisterError::OtherIdentity
            | RegisterError::Covered
            | RegisterError::MountTaken(_) => {
                self.counters.identity_refused.inc();
                let identity = self.identity_of(from);
                let identity = identity.map_or_else(String::new, |identity| identity.text());
                let endpoint = message
                    .option_values(option::URI_QUERY)
                    .find_map(|item| str::from_utf8(item).ok()?.strip_prefix("ep="));
                limited!(WARN, self.counters, now.mono, IdentityRefused,
                    peer = %from.address, identity, endpoint, %error, "registration refused");
            }
            _ => debug!(peer = %from.address, %error, "registration refused"),
        }
        let code = error.code(&self.settings.config.compat);
        let response = Response::error(code, &error.to_string());
        let response = match error {
            // RFC 7959 §2.9.3
            RegisterError::ObjectListTooLong(limit) => {
                response.uint(option::SIZE1, u32::try_from(*limit).unwrap_or(u32::MAX))
            }
            _ if code == Code::SERVICE_UNAVAILABLE => {
                response.uint(option::MAX_AGE, self.retry_after())
            }
            _ => response,
        };
        self.respond(from, message, response);
    }

    /// Takes a Register in.
    pub(super) fn register(
        &mut self,
        now: Now,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(), RegisterError> {
        let message = request.message;
        let settings = self.settings.clone();
        let config = &settings.config;
        let query = Query::parse(message.option_values(option::URI_QUERY), &config.limits)?;
        let name = query.get("ep").filter(|name| !name.is_empty());
        if name.is_some_and(|name| name.len() > MAX_ENDPOINT) {
            return Err(RegisterError::EndpointTooLong);
        }
        let endpoint: Arc<str> = name.ok_or(RegisterError::MissingEndpoint)?.into();
        let Some(listener) = settings.listener(from.listener) else {
            return Err(RegisterError::Full);
        };
        self.check_identity(from, &endpoint, &query, listener)?;
        let waiting = self.pending.get(from, message.mid());
        let from_host = waiting.and_then(|waiting| waiting.mountpoint.clone());
        let fixed_mount = from_host.is_some();
        let identity = self.identity_of(from);
        let mount = match from_host {
            Some(mount) => mount,
            None => {
                let identity = identity.as_deref();
                mountpoint(listener, config, from, &endpoint, &query, identity)?
            }
        };

        let known = self.endpoints.get(&endpoint).copied();
        let same_peer = known
            .and_then(|key| self.device(key))
            .is_some_and(|device| device.peer == from);
        let location = match known.and_then(|key| self.device(key)) {
            Some(device) if same_peer && config.compat.reregister_204 => {
                device.registration.location.clone()
            }
            _ if config.compat.endpoint_location => Location::Endpoint(endpoint.clone()),
            _ => self.new_location(),
        };
        let registration = Registration::new(query, body, location.clone(), config)?;
        if self.authorize && request.stage == Stage::New {
            let asked = self.registration_request(&endpoint, from, &mount, &registration);
            return self.ask_host(now, from, request, body, asked);
        }

        self.check_share(from, known)?;
        let limits = (config.limits.max_registrations, listener.max_connections);
        let claim = match self.on_its_way(&endpoint) {
            Some(shard) => Err(ClaimError::Elsewhere(shard)),
            None => {
                let named = listener.names_endpoint && !fixed_mount;
                let mount = mount_claim(&settings, listener, &mount, named);
                self.directory
                    .claim(&endpoint, self.shard, from.listener, limits, &mount)
            }
        };
        let claimed = match claim {
            Ok(claimed) => claimed,
            Err(ClaimError::Full) => return Err(RegisterError::Full),
            Err(ClaimError::Mount) => return Err(RegisterError::MountTaken(mount)),
            // It was asked for already and is still elsewhere: others move it as well.
            Err(ClaimError::Elsewhere(_)) if request.stage == Stage::Returned => {
                return Err(RegisterError::Full);
            }
            Err(ClaimError::Elsewhere(shard)) => {
                self.ask_shard(now, shard, Wanted::Endpoint(endpoint), from, request, body);
                return Ok(());
            }
        };
        let room = self.make_room(
            known,
            from,
            identity.as_deref(),
            &endpoint,
            &mount,
            &registration,
        );
        let bytes = match room {
            Ok(bytes) => bytes,
            Err(full) => {
                let own = known.and_then(|key| self.device(key));
                let own = own.map(|device| &*device.mount);
                let directory = &self.directory;
                directory.give_back(&endpoint, from.listener, &mount, claimed, own);
                return Err(full.into());
            }
        };
        let key = match known {
            Some(key) => {
                self.reregister(now, key, from, registration, (mount, fixed_mount));
                self.forget_register(key, Some(message.mid()));
                key
            }
            None => self.insert(Box::new(Device {
                endpoint: endpoint.clone(),
                peer: from,
                identity: None,
                unconfirmed: false,
                registered_at: now.unix_ms,
                mount: mount.into(),
                fixed_mount,
                registration,
                last_seen: now.mono,
                awake_until: now.mono,
                timer_at: None,
                exchanges: Vec::new(),
                queue: CommandQueue::default(),
                observations: Vec::new(),
                refused: Refused::default(),
                transfers: VecDeque::new(),
                refresh: Vec::new(),
                register_mid: message.mid(),
                last_separate: None,
                charged: Charged {
                    registration: bytes,
                    ..Charged::default()
                },
                trust: Trust::of(from, false),
                strays: 0,
            })),
        };
        self.set_identity(key, identity);
        self.end_unconfirmed(now, key);
        self.locations.insert(location.clone(), key);
        self.directory.insert_location(&location, self.shard);
        self.touch(now, key);
        if self.has_shown(now, from, message) {
            self.prove(key);
        }
        self.subscribe(key);
        self.counters.registered.inc();
        debug!(endpoint = %endpoint, peer = %from.address, again = known.is_some(), "registered");

        let response = if same_peer && config.compat.reregister_204 {
            Response::new(Code::CHANGED)
        } else {
            Response::new(Code::CREATED)
                .option(option::LOCATION_PATH, *b"rd")
                .option(option::LOCATION_PATH, location.segment())
        };
        self.respond(from, message, response);
        let lifetime = config.coap.exchange_lifetime;
        (self.dedup).promote(now.mono, lifetime, from, message.mid());
        self.bank_allowance(key);
        self.report(key, Event::Register);
        self.announce(now, key, DeviceEvent::Registered);
        self.auto_observe(now, key);
        self.pump(now, key);
        Ok(())
    }

    /// The reply to a Register that no longer stands must not be given again: a device that
    /// restarts may begin with the same message id, token and content.
    pub(super) fn forget_register(&mut self, key: DeviceKey, newer: Option<u16>) {
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let (peer, mid) = (device.peer, device.register_mid);
        device.register_mid = newer.unwrap_or(mid);
        if newer != Some(mid) {
            self.dedup.forget(peer, mid);
        }
    }

    fn new_location(&mut self) -> Location {
        use rand_chacha::rand_core::Rng;
        loop {
            let location = Location::Random(self.rng.next_u64());
            if !self.locations.contains_key(&location) {
                return location;
            }
        }
    }

    /// A device that is known registers again, perhaps after a restart: what it observed is asked
    /// for again, what waits for it stays.
    fn reregister(
        &mut self,
        now: Now,
        key: DeviceKey,
        from: Peer,
        registration: Registration,
        (mount, fixed_mount): (String, bool),
    ) {
        let settings = self.settings.clone();
        self.unsubscribe(key);
        let Some(device) = self.device(key) else {
            return;
        };
        let (old_location, old_peer) = (device.registration.location.clone(), device.peer);
        let old_mount = (*device.mount != *mount).then(|| device.mount.clone());
        let endpoint = device.endpoint.clone();
        if old_location != registration.location {
            self.locations.remove(&old_location);
            self.directory.remove_location(&old_location);
        }
        if let Some(mount) = old_mount {
            self.directory.remove_mount(&mount, &endpoint);
        }
        if old_peer != from {
            self.move_peer(key, from);
            self.counters.address_changed.inc();
        } else {
            self.bind_peer(key, from);
        }
        let Some(device) = self.device_mut(key) else {
            return;
        };
        device.registration = registration;
        device.registered_at = now.unix_ms;
        device.refused = Refused::default();
        device.mount = mount.into();
        device.fixed_mount = fixed_mount;
        device.refresh = device
            .observations
            .iter()
            .map(|observation| observation.token)
            .collect();
        self.settle_registration(key);
        let Some(device) = self.device_mut(key) else {
            return;
        };
        // A command that is not idempotent may be why the device restarted (a reboot, say): it is
        // not sent again, only waited for.
        for exchange in &mut device.exchanges {
            if matches!(exchange.job.request.method, Method::Post | Method::Delete) {
                exchange
                    .transmission
                    .acknowledged(now.mono, &settings.config.coap);
            }
        }
    }

    pub(super) fn update(
        &mut self,
        now: Now,
        from: Peer,
        request: &Request<'_>,
        at: &str,
        body: &[u8],
    ) {
        let message = request.message;
        let Some((location, key)) = self.find_location(at) else {
            // Its registration may live in another shard: the address has changed.
            if let Some(location) = Location::from_random_segment(at)
                && request.stage != Stage::Returned
                && let Some(shard) = self.directory.shard_of_location(&location)
                && shard != self.shard
            {
                let wanted = Wanted::Location(location);
                return self.ask_shard(now, shard, wanted, from, request, body);
            }
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        };
        let Some(device) = self.device(key) else {
            return;
        };
        let (moved, endpoint) = (device.peer != from, device.endpoint.clone());
        if !self.may_claim(device, self.identity_of(from).as_deref(), Claim::Keep) {
            return self.refuse_identity(now, from, message);
        }
        if moved && !self.may_move(&location) {
            debug!(endpoint = %endpoint, peer = %from.address, "update from a strange address");
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        }
        let settings = self.settings.clone();
        if let Some(listener) = settings.listener(from.listener)
            && let Err(error) =
                self.check_rule(from, &endpoint, &device.registration.query, listener)
        {
            // A credential covers it by now, or does no more. Its Register is told why.
            self.counters.identity_refused.inc();
            limited!(INFO, self.counters, now.mono, IdentityRefused,
                peer = %from.address, %endpoint, %error, "registration ended");
            self.remove(key, GoneReason::Kicked);
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        }
        let updated = Query::parse(
            message.option_values(option::URI_QUERY),
            &settings.config.limits,
        )
        .and_then(|query| self.apply_update(key, from, query, body, &settings.config));
        let publish = match updated {
            Ok(publish) => publish,
            Err(error) => return self.refuse_register(now, from, message, &error),
        };
        if moved {
            debug!(endpoint = %endpoint, peer = %from.address, "address changed");
            self.move_peer(key, from);
            self.counters.address_changed.inc();
            self.refresh_missed(key);
        } else {
            self.bind_peer(key, from);
        }
        self.counters.updated.inc();
        if let Some(device) = self.device_mut(key) {
            device.unconfirmed = false;
        }
        self.touch(now, key);
        if self.has_shown(now, from, message) {
            self.prove(key);
        }
        self.prove_by_location(key, &location);
        self.respond(from, message, Response::new(Code::CHANGED));
        self.bank_allowance(key);
        if publish {
            self.report(key, Event::Update);
        }
        self.announce(now, key, DeviceEvent::Updated);
        self.pump(now, key);
    }

    /// What a Register takes, if the account of memory has room for it.
    fn make_room(
        &mut self,
        known: Option<DeviceKey>,
        from: Peer,
        identity: Option<&Identity>,
        endpoint: &Arc<str>,
        mount: &str,
        registration: &Registration,
    ) -> Result<usize, Full> {
        let bytes = registration_bytes(endpoint, mount, registration, identity);
        let known = known.and_then(|key| self.device(key));
        let before = known.map_or(0, |device| device.charged.registration);
        match bytes.saturating_sub(before) {
            0 => {}
            growth => self.check_registration(from, identity, growth)?,
        }
        Ok(bytes)
    }

    /// Applies an Update, all of it or nothing; true when it is to be published.
    fn apply_update(
        &mut self,
        key: DeviceKey,
        from: Peer,
        query: Query,
        body: &[u8],
        config: &Config,
    ) -> Result<bool, RegisterError> {
        // At most, so that only an Update at the ceiling is worked out twice.
        let growth = query.heap() + body.len().saturating_mul(4);
        if growth > 0
            && (self.accounts.memory.is_crowded(Kind::Registrations)
                || !self.accounts.registrations.fits(growth))
        {
            let device = self.device(key).ok_or(RegisterError::MissingEndpoint)?;
            let identity = device.identity.clone();
            let mut updated = device.registration.clone();
            let (endpoint, mount) = (device.endpoint.clone(), device.mount.clone());
            updated.update(query.clone(), body, config)?;
            let identity = identity.as_deref();
            self.make_room(Some(key), from, identity, &endpoint, &mount, &updated)?;
        }
        let device = self.device_mut(key).ok_or(RegisterError::MissingEndpoint)?;
        let publish = device.registration.update(query, body, config)?;
        if growth > 0 {
            self.settle_registration(key);
        }
        Ok(publish)
    }

    /// Max-Age of a refusal in seconds (RFC 7252 §5.9.3.4): when to try again. Not the same for
    /// all, who would come back together.
    pub(super) fn retry_after(&mut self) -> u32 {
        use rand_chacha::rand_core::Rng;
        RETRY_AFTER + self.rng.next_u32() % RETRY_AFTER
    }

    /// Asks again for observations whose notifications came from the new address too early: the
    /// device may have given them up meanwhile.
    fn refresh_missed(&mut self, key: DeviceKey) {
        let directory = self.directory.clone();
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let tokens = device
            .observations
            .iter()
            .map(|observation| observation.token);
        let missed: Vec<_> = tokens
            .filter(|token| directory.take_missed(*token))
            .collect();
        if !missed.is_empty() {
            device.refresh_again(missed.into_iter());
        }
    }

    pub(super) fn deregister(&mut self, now: Now, from: Peer, message: &Message, at: &str) {
        let found = self.find_location(at).map(|(_, key)| key);
        let Some((key, device)) = found.and_then(|key| Some((key, self.device(key)?))) else {
            // Registrations are where the connection of their identity is, so one in another shard
            // is somebody else's.
            let elsewhere = Location::from_random_segment(at)
                .and_then(|location| self.directory.shard_of_location(&location))
                .is_some_and(|shard| shard != self.shard);
            if elsewhere && self.identity_of(from).is_some() {
                return self.refuse_identity(now, from, message);
            }
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        };
        if !self.may_claim(device, self.identity_of(from).as_deref(), Claim::Keep) {
            return self.refuse_identity(now, from, message);
        }
        if device.peer != from {
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        }
        self.counters.deregistered.inc();
        self.respond(from, message, Response::new(Code::DELETED));
        self.remove(key, GoneReason::Deregistered);
    }

    /// Whether the holder of `location` may come from a new address: only if nobody can guess it.
    pub(super) fn may_move(&self, location: &Location) -> bool {
        matches!(location, Location::Random(_))
            && self.settings.config.address_change == AddressChange::Accept
    }

    fn find_location(&self, segment: &str) -> Option<(Location, DeviceKey)> {
        let random = Location::from_random_segment(segment);
        [random, Some(Location::Endpoint(segment.into()))]
            .into_iter()
            .flatten()
            .find_map(|location| {
                self.locations
                    .get(&location)
                    .map(|key| (location.clone(), *key))
            })
    }

    pub(super) fn ask_shard(
        &mut self,
        now: Now,
        shard: u16,
        wanted: Wanted,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
    ) {
        let message = request.message;
        if let Err(full) = self.check_waiting(from, waiting_bytes(request.datagram, body)) {
            return self.refuse_register(now, from, message, &full.into());
        }
        let deadline = now.mono + HANDOFF_TIMEOUT;
        self.wait(from, request, body, deadline);
        let handoff = Handoff::Take {
            from: self.shard,
            wanted,
            identity: self.identity_of(from),
            peer: from,
            datagram: request.datagram.to_vec(),
            body: body.to_vec(),
        };
        self.outputs.push_back(Output::Handoff { shard, handoff });
    }

    /// Queues an Observe for what the configuration names (`auto_observe`).
    fn auto_observe(&mut self, now: Now, key: DeviceKey) {
        /// Objects that hold no measurements, as in EMQX.
        const IGNORED: [u16; 9] = [0, 1, 2, 4, 5, 6, 7, 9, 15];
        let Some(device) = self.device(key) else {
            return;
        };
        let Some(links) = &device.registration.links else {
            return;
        };
        let defined = |object: u16| self.models.lookup(object, None).is_some();
        let paths: Vec<Path> = match &self.settings.config.auto_observe {
            AutoObserve::Off => return,
            AutoObserve::Paths(paths) => {
                let listed: HashSet<&str> = links.objects.iter().collect();
                let listed = |path: &&Path| listed.contains(path.to_string().as_str());
                paths.iter().filter(listed).cloned().collect()
            }
            AutoObserve::All => {
                let mut chosen = HashSet::new();
                let paths = links.objects.iter().filter_map(|text| text.parse().ok());
                let measures = |path: &Path| {
                    path.object()
                        .is_some_and(|object| !IGNORED.contains(&object) && defined(object))
                };
                paths
                    .filter(measures)
                    .filter(|path| chosen.insert(path.clone()))
                    .collect()
            }
        };
        // A device has no more observations than this; what is beyond them is not even queued.
        let limit = self.settings.config.limits.max_observations;
        let left_out = paths.len().saturating_sub(limit) as u64;
        if left_out > 0 {
            self.counters.commands_refused.add(left_out);
            debug!(endpoint = %device.endpoint, left_out, "too many objects to observe all");
        }
        if let Some(device) = self.device_mut(key) {
            // Asked for anyway: not to be refreshed as well.
            let paths: HashSet<&Path> = paths.iter().take(limit).collect();
            let again = device.observations.iter().filter(|observation| {
                let path = observation.target.path.as_ref();
                path.is_some_and(|path| paths.contains(path))
            });
            let again: HashSet<Token> = again.map(|observation| observation.token).collect();
            device.refresh.retain(|token| !again.contains(token));
        }
        for path in paths.into_iter().take(limit) {
            self.enqueue(now, key, Box::new(Command::auto_observe(&path)), 0, None);
        }
    }
}
