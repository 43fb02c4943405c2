//! Observations that have fallen silent. A device that was given a longest period (`pmax`) through the
//! gateway and lets it pass twice without a notification has lost its observation, or the way to us
//! (zephyr#58278): it is asked for again. One that does not answer three times is over.

use super::state::Device;
use super::watch::Watch;
use crate::bridge::Command;
use crate::bridge::uplink::Answer;
use crate::coap::{Code, Token};
use crate::engine::context::Context;
use crate::lwm2m::{Operation, Path};

/// How often an observation is asked for again before it is given up.
const MAX_FAILURES: u8 = 3;

/// Paths of one device whose period is known.
const MAX_PERIODS: usize = 32;

impl Device {
    /// A device has taken attributes: the longest periods among them are known from now on.
    pub(super) fn note_periods(&mut self, cx: &mut Context<'_>, command: &Command) {
        let Operation::WriteAttributes { attributes } = &command.operation else {
            return;
        };
        let pmax = attributes.iter().find(|(name, _)| name == "pmax");
        let (Some((_, pmax)), Some(path)) = (pmax, &command.target.path) else {
            return;
        };
        self.periods.retain(|(known, _)| known != path);
        let seconds = pmax.as_deref().and_then(|text| text.parse::<u32>().ok());
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0) {
            if self.periods.len() >= MAX_PERIODS {
                self.periods.remove(0);
            }
            self.periods.push((path.clone(), seconds));
        }
        for at in 0..self.observations.len() {
            let period = self
                .observations
                .get(at)
                .map(|it| self.period_of(it.target.single_path().as_deref()));
            let (Some(known), Some(period)) = (self.observations.get_mut(at), period) else {
                continue;
            };
            if known.watch.pmax() != period {
                let before = known.bytes();
                known.watch = Watch::new(period, cx.now.mono);
                let after = known.bytes();
                self.charge_work(cx, after);
                self.release_work(cx, before);
                self.keep_period(cx, at);
            }
        }
    }

    fn keep_period(&self, cx: &mut Context<'_>, at: usize) {
        if let Some(observation) = self.observations.get(at) {
            self.keep_observation(cx, observation);
        }
    }

    /// The longest period that was set for a path, or for what it is in; zero when none was.
    pub(super) fn period_of(&self, path: Option<&Path>) -> u32 {
        let Some(path) = path else {
            return 0;
        };
        let above = self
            .periods
            .iter()
            .filter(|(known, _)| known.contains(path));
        let nearest = above.max_by_key(|(known, _)| known.depth());
        nearest.map_or(0, |(_, seconds)| *seconds)
    }

    /// Looks at observations that should have been heard of.
    pub(super) fn check_silence(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let late = self
            .observations
            .iter()
            .filter(|it| it.watch.deadline().is_some_and(|at| at <= now));
        let late: Vec<Token> = late.map(|it| it.token).collect();
        for token in late {
            // One that waits for a sleeping device, or is under way, has not failed.
            let asked = self.refresh.iter().any(|it| *it == token)
                || self.exchange_by_token(token).is_some();
            let Some(observation) = self.observation_mut(token) else {
                continue;
            };
            observation.watch.put_off(now);
            if asked {
                continue;
            }
            if observation.watch.failures() >= MAX_FAILURES {
                cx.counters().observations_lost.inc();
                let answer = Answer {
                    code: Code::GATEWAY_TIMEOUT.0,
                    observe: None,
                    content_format: None,
                    payload: &[],
                };
                self.notify(cx, token, &answer);
                self.end_observation(cx, token);
                continue;
            }
            observation.watch.failed();
            cx.counters().observations_silent.inc();
            self.refresh.push(token);
        }
    }

    /// Whether an observation is asked for again because it is silent: that it has no answer is no
    /// reason to end it yet.
    pub(super) fn is_silent(&self, token: Token) -> bool {
        self.observation(token)
            .is_some_and(|it| it.watch.failures() > 0)
    }
}
