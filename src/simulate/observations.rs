//! Notifications of a simulated device (RFC 7641).

use std::time::{Duration, Instant};

use super::context::{Clock, Context};
use super::forms;
use super::observation::Observation;
use super::resources::Resources;
use super::wire::Message;
use crate::lwm2m::Path;

/// Most observations of one device.
const MAX_OBSERVATIONS: usize = 32;

impl Resources {
    pub(super) fn observe(
        &mut self,
        ctx: &Context<'_>,
        paths: Vec<Path>,
        accept: Option<u16>,
        message: &Message,
    ) -> bool {
        self.observations
            .retain(|o| o.token != message.token && o.paths != paths);
        if self.observations.len() >= MAX_OBSERVATIONS {
            return false;
        }
        let now = ctx.clock.mono;
        let period = self.period(ctx.profile.notify_every, &paths);
        let mut observation = Observation::new(now, paths, accept, message);
        observation.next = period.map(|period| now + period);
        self.observations.push(observation);
        true
    }

    /// Time between two notifications: the configured one within pmin and pmax.
    fn period(&self, configured: Duration, paths: &[Path]) -> Option<Duration> {
        // Attributes of a composite are those of its first path.
        let attribute = |key| self.attribute(paths.first()?, key);
        let (pmin, pmax) = (attribute("pmin"), attribute("pmax"));
        let wanted = (!configured.is_zero()).then_some(configured);
        let period = match (wanted, pmax) {
            (Some(wanted), Some(pmax)) => wanted.min(pmax),
            (wanted, pmax) => wanted.or(pmax)?,
        };
        Some(
            period
                .max(pmin.unwrap_or_default())
                .max(Duration::from_millis(1)),
        )
    }

    /// Notifies of a change of `path`, not before pmin is over.
    pub(super) fn note_change(&mut self, clock: Clock, path: &Path) {
        for index in 0..self.observations.len() {
            let observation = self.observations.get(index).filter(|it| it.has(path));
            let Some(first) = observation.and_then(|it| it.paths.first()) else {
                continue;
            };
            let pmin = self.attribute(first, "pmin").unwrap_or_default();
            if let Some(observation) = self.observations.get_mut(index) {
                let earliest = observation.last_sent + pmin;
                observation.next = Some(earliest.max(clock.mono));
            }
        }
    }

    /// When the next notification, or the repetition of one, is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.observations
            .iter()
            .filter_map(Observation::deadline)
            .min()
    }

    /// Sends what is due.
    pub(super) fn notify(&mut self, ctx: &mut Context<'_>, mid: &mut u16) {
        let now = ctx.clock.mono;
        self.observations.retain_mut(|it| it.repeat(ctx));
        for index in 0..self.observations.len() {
            let due = self.observations.get(index).filter(|it| it.is_due(now));
            let Some((paths, accept)) = due.map(|o| (o.paths.clone(), o.accept)) else {
                continue;
            };
            let period = self.period(ctx.profile.notify_every, &paths);
            for path in &paths {
                self.objects.refresh(path, ctx.clock.unix);
            }
            let body = forms::read(&ctx.profile.version, &self.objects, &paths, accept);
            if let Some(observation) = self.observations.get_mut(index) {
                observation.next = period.map(|period| now + period);
                if let Ok((form, body)) = body {
                    *mid = mid.wrapping_add(1);
                    observation.send(ctx, *mid, form, &body);
                }
            }
        }
    }

    pub(super) fn on_ack(&mut self, mid: u16) {
        for observation in &mut self.observations {
            observation.on_ack(mid);
        }
    }

    /// RFC 7641 §3.6: a reset notification ends the observation.
    pub(super) fn on_reset(&mut self, mid: u16) {
        self.observations.retain(|it| !it.is_refused_by(mid));
    }
}
