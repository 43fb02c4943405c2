//! What a device asks of its server: to be registered, and what follows from a refusal.

use std::fmt::Write as _;
use std::time::Duration;

use super::content;
use super::context::Context;
use super::device::{ACK_TIMEOUT, Device, Pending, Plan, Purpose};
use super::wire::{Kind, Message, code, format, option};

/// Time between a failed registration and the next try; it doubles with each failure.
const RETRY: Duration = Duration::from_secs(5);
/// Until it is this.
const MAX_RETRY: Duration = Duration::from_secs(300);

impl Device {
    /// The request under way has no good answer: register again later, each time later than the last
    /// time, and not before the server wants it.
    pub(super) fn fail(&mut self, ctx: &mut Context<'_>, reason: &str, earliest: Option<Duration>) {
        let what = match self.pending.take().map(|pending| pending.purpose) {
            Some(Purpose::Update) => "update",
            Some(Purpose::Deregister) => "de-registration",
            Some(Purpose::Send) => "send",
            Some(Purpose::Register) | None => "registration",
        };
        self.location = None;
        self.resources.forget_observations();
        ctx.counters.errors += 1;
        self.settle(ctx);
        let endpoint = Self::endpoint(self.index, ctx.profile);
        let mut line = format!("{endpoint}: {what} failed: {reason}");
        if !self.leaving {
            let wait = RETRY
                .saturating_mul(1 << self.failures.min(10))
                .min(MAX_RETRY);
            let wait = wait.max(earliest.unwrap_or_default());
            self.failures += 1;
            self.plan = Plan::RegisterAt(ctx.clock.mono + wait);
            // Writing to a string cannot fail.
            let _ = write!(line, "; registers again in {} s", wait.as_secs());
        }
        ctx.said.push(line);
    }

    pub(super) fn request(
        &mut self,
        ctx: &mut Context<'_>,
        purpose: Purpose,
        body: Option<(u16, Vec<u8>)>,
    ) {
        self.mid = self.mid.wrapping_add(1);
        let token = self.random().to_be_bytes()[..4].to_vec();
        let method = match purpose {
            Purpose::Deregister => code::DELETE,
            _ => code::POST,
        };
        let mut message = Message::new(Kind::Confirmable, method, self.mid, token.clone());
        match (purpose, &self.location) {
            (Purpose::Send, _) => message.add(option::URI_PATH, *b"dp"),
            (Purpose::Register, _) | (_, None) => self.add_register_query(ctx, &mut message),
            (_, Some(location)) => {
                for segment in location {
                    message.add(option::URI_PATH, segment.clone());
                }
            }
        }
        if purpose == Purpose::Update
            && let Some(lifetime) = self.resources.take_lifetime_changed()
        {
            message.add(option::URI_QUERY, format!("lt={lifetime}"));
        }
        if let Some((form, body)) = body {
            message.add_uint(option::CONTENT_FORMAT, u32::from(form));
            message.payload = body;
        }
        self.refused = false;
        let bytes = message.write();
        ctx.out.push(bytes.clone());
        self.pending = Some(Pending {
            purpose,
            mid: self.mid,
            token,
            bytes,
            first_sent: ctx.clock.mono,
            deadline: ctx.clock.mono + ACK_TIMEOUT,
            retransmissions: 0,
        });
        self.stay_awake(ctx);
    }

    pub(super) fn object_list(&self, ctx: &Context<'_>) -> (u16, Vec<u8>) {
        let list = content::object_list(self.resources.objects(), &ctx.profile.version);
        (format::LINK, list.into_bytes())
    }

    fn add_register_query(&self, ctx: &Context<'_>, message: &mut Message) {
        let profile = ctx.profile;
        message.add(option::URI_PATH, *b"rd");
        let endpoint = Self::endpoint(self.index, profile);
        message.add(option::URI_QUERY, format!("ep={endpoint}"));
        let lifetime = self.resources.lifetime();
        message.add(option::URI_QUERY, format!("lt={lifetime}"));
        message.add(option::URI_QUERY, format!("lwm2m={}", profile.version));
        // 1.0 says how it is reached with `b`; since 1.1 the queue mode is a query of its own.
        match (profile.version.as_str(), profile.queue_mode) {
            ("1.0", true) => message.add(option::URI_QUERY, *b"b=UQ"),
            (_, queue_mode) => {
                message.add(option::URI_QUERY, *b"b=U");
                if queue_mode {
                    message.add(option::URI_QUERY, *b"Q");
                }
            }
        }
    }
}
