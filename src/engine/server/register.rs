//! Register (LwM2M Core 1.2 §6.2.1).

use std::sync::Arc;

use tracing::debug;

use super::request::{Request, Server, Stage};
use super::response::Response;
use crate::bridge::report::Event;
use crate::coap::message::option;
use crate::coap::{Code, Message};
use crate::engine::device::{Device, NewDevice, registration_bytes};
use crate::engine::identity::Identity;
use crate::engine::info::{DeviceEvent, RegistrationRequest};
use crate::engine::mountpoint::{mount_claim, mountpoint};
use crate::engine::peer::{DeviceKey, Peer, ShardId};
use crate::engine::registration::{Location, MAX_ENDPOINT, Query, RegisterError, Registration};
use crate::engine::settings::{ListenerSettings, Settings};
use crate::engine::sharding::{ClaimError, Wanted};

/// A Register that has been read, and may be carried out.
struct Register {
    endpoint: Arc<str>,
    /// The device that has the endpoint here.
    known: Option<DeviceKey>,
    /// And is at the same peer.
    same_peer: bool,
    identity: Option<Arc<Identity>>,
    registration: Registration,
    mount: String,
    /// It is the host's, not the configuration's.
    fixed_mount: bool,
}

impl Server<'_> {
    /// Takes a Register in.
    ///
    /// # Errors
    ///
    /// Why it is refused; nothing has changed then.
    pub(super) fn register(
        &mut self,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(), RegisterError> {
        let settings = self.core.env.settings.clone();
        let Some(listener) = settings.listener(from.listener) else {
            return Err(RegisterError::Full);
        };
        let register = self.read_register(from, request.message, body, &settings, listener)?;
        if self.core.env.authorize && request.stage == Stage::New {
            let asked = self.question(from, &register);
            return self.ask_host(from, request, body, asked);
        }
        self.core.check_share(from, register.known)?;
        let bytes = match self.claim(from, &register, &settings, listener) {
            Ok(bytes) => bytes,
            // It was asked for already and is still elsewhere: others move it as well.
            Err(Unclaimed::Elsewhere(_)) if request.stage == Stage::Returned => {
                return Err(RegisterError::Full);
            }
            Err(Unclaimed::Elsewhere(shard)) => {
                let wanted = Wanted::Endpoint(register.endpoint);
                self.ask_shard(shard, wanted, from, request, body);
                return Ok(());
            }
            Err(Unclaimed::Refused(error)) => return Err(error),
        };
        self.accept(from, request.message, register, bytes);
        Ok(())
    }

    fn read_register(
        &mut self,
        from: Peer,
        message: &Message,
        body: &[u8],
        settings: &Settings,
        listener: &ListenerSettings,
    ) -> Result<Register, RegisterError> {
        let config = &settings.config;
        let query = Query::parse(message.option_values(option::URI_QUERY), &config.limits)?;
        let name = query.get("ep").filter(|name| !name.is_empty());
        if name.is_some_and(|name| name.len() > MAX_ENDPOINT) {
            return Err(RegisterError::EndpointTooLong);
        }
        let endpoint: Arc<str> = name.ok_or(RegisterError::MissingEndpoint)?.into();
        self.core
            .check_identity(from, &endpoint, &query, listener)?;
        let waiting = self.requests.pending.get(from, message.mid());
        let from_host = waiting.and_then(|waiting| waiting.mountpoint.clone());
        let fixed_mount = from_host.is_some();
        let identity = self.core.identity_of(from);
        let mount = match from_host {
            Some(mount) => mount,
            None => {
                let identity = identity.as_deref();
                mountpoint(listener, config, from, &endpoint, &query, identity)?
            }
        };
        let known = self.core.registry.by_endpoint(&endpoint);
        let device = known.and_then(|key| self.core.device(key));
        let same_peer = device.is_some_and(|device| device.peer == from);
        let location = match device {
            Some(device) if same_peer && config.compat.reregister_204 => {
                device.registration.location.clone()
            }
            _ if config.compat.endpoint_location => Location::Endpoint(endpoint.clone()),
            _ => self.core.new_location(),
        };
        Ok(Register {
            registration: Registration::new(query, body, location, config)?,
            endpoint,
            known,
            same_peer,
            identity,
            mount,
            fixed_mount,
        })
    }

    /// What the host is asked.
    fn question(&self, from: Peer, register: &Register) -> RegistrationRequest {
        let registration = &register.registration;
        RegistrationRequest {
            endpoint: register.endpoint.to_string(),
            peer: from.address,
            listener: self.core.env.listener_name(from),
            identity: register.identity.as_deref().map(Identity::text),
            mountpoint: register.mount.clone(),
            lifetime: registration.lifetime().as_secs(),
            version: registration.version.to_string(),
            query: registration.queries().collect(),
        }
    }

    /// Takes endpoint, mountpoint and memory for it. Returns the bytes that it takes.
    fn claim(
        &mut self,
        from: Peer,
        register: &Register,
        settings: &Settings,
        listener: &ListenerSettings,
    ) -> Result<usize, Unclaimed> {
        let Register {
            endpoint,
            identity,
            registration,
            mount,
            ..
        } = register;
        if let Some(shard) = self.core.on_its_way(endpoint) {
            return Err(Unclaimed::Elsewhere(shard));
        }
        let named = listener.names_endpoint && !register.fixed_mount;
        let claim = mount_claim(settings, listener, mount, named);
        let limits = settings.config.limits.max_registrations;
        let limits = (limits, listener.max_connections);
        let directory = self.core.env.directory.clone();
        let shard = self.core.env.shard;
        let claimed = match directory.claim(endpoint, shard, from.listener, limits, &claim) {
            Ok(claimed) => claimed,
            Err(ClaimError::Elsewhere(shard)) => return Err(Unclaimed::Elsewhere(shard)),
            Err(ClaimError::Full) => return Err(RegisterError::Full.into()),
            Err(ClaimError::Mount) => {
                return Err(RegisterError::MountTaken(mount.clone()).into());
            }
        };
        let identity = identity.as_deref();
        let bytes = registration_bytes(endpoint, mount, registration, identity);
        let device = register.known.and_then(|key| self.core.device(key));
        let before = device.map_or(0, |device| device.charged.registration());
        if let Err(full) = self.core.check_growth(from, identity, before, bytes) {
            let device = register.known.and_then(|key| self.core.device(key));
            let own = device.map(|device| &*device.mount);
            directory.give_back(endpoint, from.listener, mount, claimed, own);
            return Err(RegisterError::from(full).into());
        }
        Ok(bytes)
    }

    /// Carries a Register out, and answers it.
    fn accept(&mut self, from: Peer, message: &Message, register: Register, bytes: usize) {
        let Register {
            endpoint,
            known,
            same_peer,
            identity,
            registration,
            mount,
            fixed_mount,
        } = register;
        let location = registration.location.clone();
        let mid = message.mid();
        let key = match known {
            Some(key) => {
                self.core
                    .reregister(key, from, registration, mount, fixed_mount);
                self.core.forget_register(key, Some(mid));
                key
            }
            None => {
                let new = NewDevice {
                    endpoint: endpoint.clone(),
                    peer: from,
                    mount,
                    fixed_mount,
                    registration,
                    register_mid: mid,
                    bytes,
                };
                let mut device = Device::new(self.core.now, new);
                // Before anybody is told of it: it is awake.
                device.touch(self.core.now, &self.core.env);
                self.core.insert(device)
            }
        };
        self.core.set_identity(key, identity);
        self.core.end_unconfirmed(key);
        let directory = &self.core.env.directory;
        directory.insert_location(&location, self.core.env.shard);
        let has_shown = self.has_shown(from, message);
        self.core.with(key, |device, cx| {
            device.touch(cx.now, cx.env);
            if has_shown {
                device.prove(cx);
            }
            device.subscribe(cx);
        });
        self.core.env.counters.registered.inc();
        debug!(%endpoint, peer = %from.address, again = known.is_some(), "registered");
        self.confirm(from, message, same_peer, &location);
        self.core.with(key, |device, cx| {
            device.bank_allowance(cx);
            device.report(cx, Event::Register);
        });
        self.core.announce(key, DeviceEvent::Registered);
        self.core.with(key, |device, cx| {
            device.send_again(cx);
            device.auto_observe(cx);
            device.pump(cx);
        });
    }

    fn confirm(&mut self, from: Peer, message: &Message, same_peer: bool, location: &Location) {
        let config = self.core.env.config();
        let lifetime = config.coap.exchange_lifetime;
        let response = if same_peer && config.compat.reregister_204 {
            Response::new(Code::CHANGED)
        } else {
            Response::new(Code::CREATED)
                .option(option::LOCATION_PATH, *b"rd")
                .option(option::LOCATION_PATH, location.segment())
        };
        self.respond(from, message, response);
        let now = self.core.now.mono;
        (self.core.dedup).promote(now, lifetime, from, message.mid());
    }
}

/// Why an endpoint cannot be had at once.
enum Unclaimed {
    /// Another shard has its device.
    Elsewhere(ShardId),
    Refused(RegisterError),
}

impl From<RegisterError> for Unclaimed {
    fn from(error: RegisterError) -> Self {
        Self::Refused(error)
    }
}
