//! What the HTTP API shows of a device.

use std::time::Duration;

use super::job::Purpose;
use super::seen::Seen;
use super::state::Device;
use crate::bridge::Command;
use crate::engine::context::Environment;
use crate::engine::info::DeviceInfo;
use crate::engine::listed::{
    CommandState, DeviceDetail, DeviceFilter, DeviceState, ObservationState,
};
use crate::time::{Instant, Now};

impl Device {
    /// Whether it is taken to receive: without queue mode always, else for a while after it has
    /// sent something (LwM2M Core 1.2 §6.5).
    pub(in crate::engine) fn is_awake(&self, now: Instant) -> bool {
        !self.registration.queue_mode || self.awake_until > now
    }

    /// How long a device in queue mode is still taken to receive; `None` for others.
    pub(in crate::engine) fn awake_for(&self, now: Instant) -> Option<Duration> {
        self.registration.queue_mode.then(|| self.awake_until - now)
    }

    /// Whether it is among those that are wanted, its name apart.
    pub(in crate::engine) fn is_wanted(
        &self,
        now: Now,
        filter: &DeviceFilter,
        env: &Environment,
    ) -> bool {
        let awake = (filter.awake).is_none_or(|wanted| wanted == self.is_awake(now.mono));
        let of_listener = |wanted: &String| {
            let listener = env.listener(self.peer.listener);
            listener.is_some_and(|it| *it.name == **wanted)
        };
        awake
            && filter.listener.as_ref().is_none_or(of_listener)
            && filter.object.is_none_or(|object| self.has_object(object))
    }

    fn has_object(&self, object: u16) -> bool {
        let links = self.registration.links.as_ref();
        let mut objects = links.into_iter().flat_map(|links| links.objects.iter());
        objects.any(|path| {
            let first = path.trim_start_matches('/').split('/').next();
            first.and_then(|first| first.parse().ok()) == Some(object)
        })
    }

    /// For the HTTP API; `info` is what hosts get to know.
    pub(in crate::engine) fn state(&self, now: Now, info: DeviceInfo) -> DeviceState {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        DeviceState {
            awake: self.is_awake(now.mono),
            last_seen: now.unix_ms.saturating_sub(info.idle_ms),
            expires_at: (now.unix_ms).saturating_add(millis(self.expires_at() - now.mono)),
            info,
        }
    }

    /// The same with what is under way.
    pub(in crate::engine) fn detail(&self, now: Now, info: DeviceInfo) -> DeviceDetail {
        let sent = self.exchanges.iter().filter_map(|exchange| {
            let Purpose::Command { command, .. } = &exchange.job.purpose else {
                return None;
            };
            Some(command_state(command, None))
        });
        let waiting = self.queue.iter().map(|queued| {
            let left = (queued.expires - now.mono).as_millis();
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            let until = now.unix_ms.saturating_add(left);
            command_state(&queued.command, Some((queued.received, until)))
        });
        let observations = self.observations.iter().map(|it| ObservationState {
            request_id: it.echo.request_id(),
            kind: it.echo.kind().map_or("observe", crate::bridge::Kind::name),
            paths: it.target.written(),
            sequence: it.sequence(),
            since: it.since.millis(),
            last_at: it.last_at.millis(),
            notifications: it.notifications,
        });
        let seen = self.seen.as_deref();
        let answers = seen.into_iter().flat_map(Seen::answers);
        DeviceDetail {
            state: self.state(now, info),
            queue: sent.chain(waiting).take(DeviceDetail::MOST).collect(),
            observations: observations.take(DeviceDetail::MOST).collect(),
            last_answers: answers.collect(),
            counters: seen.map(Seen::counters).unwrap_or_default(),
            peer: self.peer,
        }
    }
}

fn command_state(command: &Command, waits: Option<(u64, u64)>) -> CommandState {
    CommandState {
        request_id: command.echo.request_id(),
        kind: command.kind.name(),
        paths: command.target.text.paths().to_vec(),
        waits,
    }
}
