//! Update and De-register (LwM2M Core 1.2 §6.2.2 and §6.2.3).

use tracing::debug;

use super::request::{Request, Server, Stage};
use super::response::Response;
use crate::bridge::report::Event;
use crate::coap::Code;
use crate::coap::message::option;
use crate::config::Config;
use crate::engine::claims::Claim;
use crate::engine::device::{Device, registration_bytes};
use crate::engine::info::{DeviceEvent, GoneReason};
use crate::engine::peer::{DeviceKey, Peer};
use crate::engine::registration::{Location, Query, RegisterError};
use crate::engine::sharding::Wanted;
use crate::memory::{Heap, Kind};
use crate::telemetry::limited;

impl Server<'_> {
    pub(super) fn update(&mut self, from: Peer, request: &Request<'_>, at: &str, body: &[u8]) {
        let message = request.message;
        let Some((location, key)) = self.find_location(at) else {
            if self.ask_for_location(from, request, at, body) {
                return;
            }
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        };
        let Some(device) = self.core.device(key) else {
            return;
        };
        let (moved, endpoint) = (device.peer != from, device.endpoint.clone());
        if !self
            .core
            .may_claim(device, self.core.identity_of(from).as_deref(), Claim::Keep)
        {
            return self.refuse_identity(from, message);
        }
        if moved && !self.core.may_move(&location) {
            debug!(endpoint = %endpoint, peer = %from.address, "Update from an unexpected address");
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        }
        let settings = self.core.env.settings.clone();
        if let Some(listener) = settings.listener(from.listener)
            && let Err(error) =
                self.core
                    .check_rule(from, &endpoint, &device.registration.query, listener)
        {
            // A credential covers it by now, or does no more. Its Register is told why.
            self.core.env.counters.identity_refused.inc();
            limited!(INFO, self.core.env.counters, self.core.now.mono, IdentityRefused,
                peer = %from.address, %endpoint, %error, "registration ended");
            self.core.remove(key, GoneReason::Kicked);
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        }
        let updated = Query::parse(
            message.option_values(option::URI_QUERY),
            &settings.config.limits,
        )
        .and_then(|query| self.apply_update(key, from, query, body, &settings.config));
        let publish = match updated {
            Ok(publish) => publish,
            Err(error) => return self.refuse_register(from, message, &error),
        };
        if moved {
            debug!(endpoint = %endpoint, peer = %from.address, "address changed");
            self.core.move_peer(key, from);
            self.core.env.counters.address_changed.inc();
            self.core.with(key, Device::refresh_missed);
        } else {
            self.core.bind_peer(key);
        }
        self.core.env.counters.updated.inc();
        let has_shown = self.has_shown(from, message);
        self.core.with(key, |device, cx| {
            device.unconfirmed = false;
            device.touch(cx.now, cx.env);
            if has_shown {
                device.prove(cx);
            }
            device.prove_by_location(cx, &location);
        });
        self.respond(from, message, Response::new(Code::CHANGED));
        self.core.with(key, |device, cx| {
            device.bank_allowance(cx);
            if publish {
                device.report(cx, Event::Update);
            }
        });
        self.core.announce(key, DeviceEvent::Updated);
        self.core.with(key, |device, cx| {
            device.send_again(cx);
            device.pump(cx);
        });
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
            && (self.core.accounts.memory.is_crowded(Kind::Registrations)
                || !self.core.accounts.registrations.fits(growth))
        {
            let device = self
                .core
                .device(key)
                .ok_or(RegisterError::MissingEndpoint)?;
            let identity = device.identity.clone();
            let identity = identity.as_deref();
            let mut updated = device.registration.clone();
            updated.update(query.clone(), body, config)?;
            let before = device.charged.registration();
            let bytes = registration_bytes(&device.endpoint, &device.mount, &updated, identity);
            self.core.check_growth(from, identity, before, bytes)?;
        }
        let updated = self.core.with(key, |device, cx| {
            let compares = growth > 0 && cx.effects.keeps();
            let before = compares.then(|| device.registration.clone());
            let publish = device.registration.update(query, body, config)?;
            if growth > 0 {
                device.settle_registration(cx);
            }
            device.unsaved |= before.is_some_and(|before| before != device.registration);
            Ok(publish)
        });
        updated.ok_or(RegisterError::MissingEndpoint)?
    }

    /// De-register. As with an Update, whoever knows a location that nobody can guess may come from
    /// a new address.
    pub(super) fn deregister(&mut self, from: Peer, request: &Request<'_>, at: &str) {
        let message = request.message;
        let Some((location, key)) = self.find_location(at) else {
            if self.ask_for_location(from, request, at, &[]) {
                return;
            }
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        };
        let Some(device) = self.core.device(key) else {
            return;
        };
        let identity = self.core.identity_of(from);
        let claims = self
            .core
            .may_claim(device, identity.as_deref(), Claim::Keep);
        if !claims {
            return self.refuse_identity(from, message);
        }
        if device.peer != from && !self.core.may_move(&location) {
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        }
        self.core.env.counters.deregistered.inc();
        self.respond(from, message, Response::new(Code::DELETED));
        self.core.remove(key, GoneReason::Deregistered);
    }

    /// A location that is not here may be in another shard, since the address has changed. Whether
    /// that was asked; the request waits then.
    fn ask_for_location(
        &mut self,
        from: Peer,
        request: &Request<'_>,
        at: &str,
        body: &[u8],
    ) -> bool {
        let location = Location::from_random_segment(at);
        let directory = &self.core.env.directory;
        let found = location.and_then(|it| Some((directory.shard_of_location(&it)?, it)));
        match found {
            Some((shard, location))
                if shard != self.core.env.shard && request.stage != Stage::Returned =>
            {
                let wanted = Wanted::Location(location);
                self.ask_shard(shard, wanted, from, request, body);
                true
            }
            _ => false,
        }
    }

    fn find_location(&self, segment: &str) -> Option<(Location, DeviceKey)> {
        let random = Location::from_random_segment(segment);
        [random, Some(Location::Endpoint(segment.into()))]
            .into_iter()
            .flatten()
            .find_map(|location| {
                let key = self.core.registry.by_location(&location)?;
                Some((location, key))
            })
    }
}
