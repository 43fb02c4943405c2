//! Whether a device can be reached, as a retained message (`translators.state`).

use super::state::{Device, Shown};
use crate::bridge::state::{State, state};
use crate::engine::context::Context;
use crate::mqtt::PublishKind;
use crate::time::Instant;

impl Device {
    /// Tells the broker when it has changed whether the device can be reached.
    pub(in crate::engine) fn show_presence(&mut self, cx: &mut Context<'_>) {
        if !cx.env.states || !cx.config().translators.state.enable {
            self.shown = Shown::Nothing;
            return;
        }
        if self.shown == Shown::Gone {
            return;
        }
        let asleep = self.registration.queue_mode && self.awake_until <= cx.now.mono;
        let state = if asleep { State::Asleep } else { State::Online };
        let lifetime = self.registration.lifetime().as_secs();
        let shown = Shown::There(state, u32::try_from(lifetime).unwrap_or(u32::MAX));
        if self.shown != shown {
            self.shown = shown;
            self.publish_presence(cx, state);
        }
    }

    /// Tells the broker that the device is gone, or no longer at this mountpoint.
    pub(in crate::engine) fn show_gone(&mut self, cx: &mut Context<'_>) {
        if cx.env.states
            && cx.config().translators.state.enable
            && std::mem::replace(&mut self.shown, Shown::Gone) != Shown::Gone
        {
            self.publish_presence(cx, State::Offline);
        }
    }

    fn publish_presence(&self, cx: &mut Context<'_>, now: State) {
        let lifetime = self.registration.lifetime().as_secs();
        let payload = state(&self.endpoint, now, self.since(cx, now), lifetime);
        let translator = &cx.config().translators.state.messages;
        self.publish_as(cx, PublishKind::State, translator, payload);
    }

    /// Since when the device has been in a state, in milliseconds since 1970. What is told late, after a
    /// restart for instance, did not begin only now.
    fn since(&self, cx: &Context<'_>, state: State) -> u64 {
        let now = cx.now;
        match state {
            State::Asleep => {
                let asleep = (now.mono - self.awake_until).as_millis();
                let asleep = u64::try_from(asleep).unwrap_or(u64::MAX);
                now.unix_ms.saturating_sub(asleep)
            }
            State::Online if !self.registration.queue_mode => self.registered_at,
            State::Online | State::Offline => now.unix_ms,
        }
    }

    /// When the broker is to be told that the device sleeps.
    pub(super) fn falls_asleep_at(&self) -> Option<Instant> {
        let awake = matches!(self.shown, Shown::There(State::Online, _));
        (awake && self.registration.queue_mode).then_some(self.awake_until)
    }
}
